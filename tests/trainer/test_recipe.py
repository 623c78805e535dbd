"""Built-in training recipes have the authors' values for each kind of data; changes by name, and wrong ones."""

import pytest
from pydantic import ValidationError

from locloc.pipeline.catalogs.registry import CATALOGS
from locloc.pipeline.errors import RecipeError
from locloc.trainer.recipe import (
    ClassifierSettings,
    DataSettings,
    DecoderSettings,
    FitSettings,
    GeneratorSettings,
    LinearSettings,
    TrainRecipe,
    load_train_recipe,
    recipe_names,
)

NAMES = ["guided", "locloc", "official", "ppd"]
TASKS = ("generator", "classifier", "decoder", "linear")


def test_names():
    assert recipe_names() == NAMES


def test_locloc_is_the_default():
    assert load_train_recipe() == load_train_recipe("locloc", "folder")


@pytest.mark.parametrize("name", ["locloc", "official"])
@pytest.mark.parametrize(
    ("kind", "stage", "epochs", "batch_size", "lr"),
    [
        ("cub", "generator", 20, 2 * 128, 5e-4 * 256 / 512),
        ("ilsvrc", "generator", 20, 4 * 128, 1e-3 * 512 / 512),
        ("cub", "classifier", 100, 2 * 128, 7.5e-5 * 256 / 512),
        ("ilsvrc", "classifier", 50, 4 * 128, 1.5e-4 * 512 / 512),
    ],
)
def test_training_is_the_authors(name, kind, stage, epochs, batch_size, lr):
    fit = getattr(load_train_recipe(name, kind), stage).fit
    assert (fit.epochs, fit.batch_size, fit.lr) == (epochs, batch_size, pytest.approx(lr))
    assert (fit.optimizer, fit.weight_decay, fit.clip_norm, fit.ema_decay) == ("adamw", 0.05, 0, 0)
    if stage == "generator":
        assert (fit.schedule, fit.warmup_epochs) == ("constant", 0)
    else:
        assert (fit.schedule, fit.warmup_epochs, fit.warmup_lr, fit.min_lr) == ("cosine", 5, 1e-6, 1e-5)


@pytest.mark.parametrize("kind", ["cub", "ilsvrc"])
def test_augmentation_is_the_authors(kind):
    recipe = load_train_recipe("official", kind)
    generator, classifier = recipe.generator, recipe.classifier
    assert (generator.resize_px, generator.flip, classifier.resize_px, classifier.flip) == (256, True, 256, True)
    assert (classifier.enhance, classifier.randaugment) == (True, "rand-m9-mstd0.5-inc1")


def test_official_is_the_published_generator_and_locloc_the_mended_one():
    official, ours = load_train_recipe("official", "cub").generator, load_train_recipe("locloc", "cub").generator
    assert (official.kind, official.wiring, official.bn_momentum) == ("paper", "published", 0.01)
    assert (ours.kind, ours.wiring, ours.bn_momentum) == ("tapered", "mended", 0.1)


@pytest.mark.parametrize("kind", CATALOGS)
def test_guided_differs_from_locloc_in_its_classifier_inputs_only(kind):
    guided, ours = load_train_recipe("guided", kind).model_dump(), load_train_recipe("locloc", kind).model_dump()
    changed = {"keep_tokens": 0.75, "shared_blocks": 0.33, "enhance": False}
    assert guided == ours | {"classifier": ours["classifier"] | changed}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("seed=true", "seed"),
        ("classifier.keep_tokens=false", "classifier.keep_tokens"),
        ("classifier.crop_scale=[true, true]", "classifier.crop_scale"),
        ("classifier.fit.milestones=[1, true]", "classifier.fit.milestones"),
        ("generator.kind=true", "generator.kind"),
    ],
)
def test_true_is_no_number(change, name):
    with pytest.raises(RecipeError, match=rf"^Recipe locloc: {name}: a number or text, not (true|false)$"):
        load_train_recipe("locloc", "cub", (change,))
    assert load_train_recipe("locloc", "cub", ("generator.flip=false",)).generator.flip is False


def test_ppd_is_the_released_decoder():
    decoder = load_train_recipe("ppd", "cub").decoder
    assert decoder.size_px == 256
    fit = decoder.fit
    assert (fit.optimizer, fit.lr, fit.batch_size, fit.epochs) == ("adam", 1e-3, 256, 300)
    assert (fit.schedule, fit.milestones, fit.weight_decay) == ("multistep", (111,), 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_that_is_not_named_gets_the_settings_for_any(name):
    assert load_train_recipe(name, "list") == load_train_recipe(name, "folder") != load_train_recipe(name, "ilsvrc")


@pytest.mark.parametrize("stage", TASKS)
def test_rates_are_scaled_by_the_batch(stage):
    before = getattr(load_train_recipe("ppd" if stage in ("decoder", "linear") else "locloc"), stage).fit
    twice = before.model_copy(update={"batch_size": 2 * before.batch_size})
    assert twice.lr == pytest.approx(2 * before.lr)
    assert before.model_copy(update={"lr_base_batch": before.batch_size}).lr == pytest.approx(before.lr_base)


@pytest.mark.parametrize("stage", TASKS)
def test_one_change_leaves_all_other_settings(stage):
    for name in NAMES:
        before = load_train_recipe(name).model_dump()
        before[stage]["fit"]["epochs"] = 7
        assert load_train_recipe(name, "folder", (f"{stage}.fit.epochs=7",)).model_dump() == before


def test_scenes_change_only_what_is_named_for_them():
    fit = load_train_recipe("locloc", "synthetic").decoder.fit
    assert (fit.optimizer, fit.schedule, fit.milestones) == ("adam", "multistep", (6,))
    assert load_train_recipe("locloc", "synthetic").linear.fit.schedule == "cosine"


def test_defaults_are_those_of_locloc():
    assert load_train_recipe("locloc") == TrainRecipe()


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("seed=3", 3),
        ("val_share = 0.25", 0.25),
        ("generator.fit.epochs=5", 5),
        (" classifier.fit.lr_base = 1e-3 ", 1e-3),
        ("classifier.enhance=false", False),
        ("classifier.crop_scale=[0.5, 1.0]", (0.5, 1.0)),
        ("decoder.fit.milestones=[3, 4]", (3, 4)),
        ("generator.kind=paper", "paper"),
        ("generator.kind='paper'", "paper"),
        ('generator.kind = "paper"', "paper"),
        ("classifier.randaugment=rand-m5-n3", "rand-m5-n3"),
        ("classifier.randaugment=", ""),
        ("classifier.fit.optimizer=lamb", "lamb"),
    ],
)
def test_changes_replace_settings(change, value):
    recipe = load_train_recipe("locloc", "cub", (change,))
    setting = recipe
    for part in change.partition("=")[0].strip().split("."):
        setting = getattr(setting, part)
    assert setting == value and type(setting) is type(value)
    assert recipe != load_train_recipe("locloc", "cub")


def test_changes_replace_settings_of_a_kind_and_the_last_one_counts():
    changes = ("generator.fit.batch_size=8", "generator.fit.batch_size=64", "generator.fit.epochs=2")
    fit = load_train_recipe("locloc", "ilsvrc", changes).generator.fit
    assert (fit.batch_size, fit.epochs, fit.lr_base) == (64, 2, 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("generator.fit.epoch=5", "generator.fit.epoch: no such setting; did you mean .epochs.[?]$"),
        ("genrator.fit.epochs=5", "genrator: no such setting; did you mean .generator.[?]$"),
        ("generator.fit.epochs=0", "generator.fit.epochs: Input should be greater than 0$"),
        ("generator.fit.epochs=1.5", "generator.fit.epochs: Input should be a valid integer"),
        ("generator.fit.epochs=many", "generator.fit.epochs: Input should be a valid integer"),
        ("generator.fit.epochs.more=1", "generator.fit.epochs: Input should be a valid integer"),
        ("generator.kind=huge", "generator.kind: Input should be 'paper' or 'tapered'$"),
        ("generator=3", "generator: Input should be"),
        ("generator.=3", "generator.: no such setting; known: bn_momentum, "),
        ("val_share=1", "val_share: Input should be less than 1$"),
        ("val_share=nan", "val_share: "),
        ("classifier.crop_scale=[1.0]", "classifier.crop_scale.1: Field required$"),
        ("linear.fit.ema_decay=1.0", "linear.fit.ema_decay: Input should be less than 1$"),
        ("seed=-1", "seed: Input should be greater than or equal to 0$"),
        ("on.cub.seed=1", "on: no such setting; known: classifier, "),
    ],
)
def test_wrong_changes_are_named_in_one_line(change, message):
    with pytest.raises(RecipeError, match=f"^Recipe locloc: {message}") as raised:
        load_train_recipe("locloc", "cub", (change,))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", ["", "seed", "=3", " = 3", "generator.fit.epochs 5", "seed: 3"])
def test_a_change_that_is_none_shows_how_to_write_one(change):
    with pytest.raises(RecipeError) as raised:
        load_train_recipe("locloc", "cub", (change,))
    assert str(raised.value) == f"--set {change!r}: write it as generator.fit.epochs=5"


def test_an_infinite_rate_is_refused():
    with pytest.raises(RecipeError, match="generator.fit.lr_base"):
        load_train_recipe("locloc", "cub", ("generator.fit.lr_base=inf",))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oficial", "^No training recipe 'oficial'; did you mean 'official'?; a file's name ends in .toml$"),
        ("pdp", "^No training recipe 'pdp'; did you mean 'ppd'?; a file's name ends in .toml$"),
        ("xyz", "^No training recipe 'xyz'; known: guided, locloc, official, ppd; a file's name ends in .toml$"),
        ("none.toml", "^Recipe none.toml cannot be read: No such file or directory$"),
        ("./none", "^Recipe ./none cannot be read: No such file or directory$"),
        ("./", "^Recipe ./ cannot be read: Is a directory$"),
    ],
)
def test_unknown_recipes(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
        load_train_recipe(name)


@pytest.mark.parametrize(
    "section",
    [TrainRecipe, DataSettings, GeneratorSettings, ClassifierSettings, DecoderSettings, LinearSettings, FitSettings],
)
def test_every_setting_is_described_in_one_line(section):
    for name, field in section.model_fields.items():
        if name == "fit" or name in TASKS:
            continue
        assert field.description and field.description.endswith(".") and "\n" not in field.description, name


def test_recipes_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TrainRecipe().seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        TrainRecipe().generator.fit.epochs = 4
