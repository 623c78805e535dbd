"""Training recipes: the authors' values for each kind of data, changes by name, and every way to get one wrong."""

import pickle
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from locloc.pipeline.catalogs import CATALOGS
from locloc.pipeline.config import settings_toml
from locloc.pipeline.errors import RecipeError
from locloc.trainer.recipe import (
    ClassifierSettings,
    DecoderSettings,
    FitSettings,
    GeneratorSettings,
    LinearSettings,
    TrainRecipe,
    load_train_recipe,
    recipe_names,
)

unhurried = settings(deadline=None)  # shared machines stall
NAMES = ["guided", "locloc", "official", "ppd"]
TASKS = ("generator", "classifier", "decoder", "linear")


@pytest.fixture
def load(tmp_path):
    def load_text(text, kind="folder", *changes):
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8", newline="")
        return load_train_recipe(str(tmp_path / "mine.toml"), kind, changes)

    return load_text


# --- built in --------------------------------------------------------------------------------------------------------


def test_names():
    assert recipe_names() == NAMES


@pytest.mark.parametrize("kind", CATALOGS)
@pytest.mark.parametrize("name", NAMES)
def test_built_in_recipes_load_for_every_kind_and_come_back_from_toml(name, kind, load):
    recipe = load_train_recipe(name, kind)
    assert load(settings_toml(recipe), kind) == recipe
    assert hash(recipe) == hash(pickle.loads(pickle.dumps(recipe))) == hash(load_train_recipe(name, kind))


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
def test_guided_is_locloc_but_for_what_its_classifier_looks_at(kind):
    guided, ours = load_train_recipe("guided", kind).model_dump(), load_train_recipe("locloc", kind).model_dump()
    changed = {"keep_tokens": 0.75, "shared_blocks": 0.33, "enhance": False}
    assert guided == ours | {"classifier": ours["classifier"] | changed}


def test_a_base_is_begun_with_and_what_is_written_lies_over_it(load):
    text = 'base = "ppd"\n[decoder]\nsize_px = 320\n[on.cub.decoder]\nsize_px = 192\n'
    for kind, size_px in (("cub", 192), ("ilsvrc", 320), ("synthetic", 320)):
        base = load_train_recipe("ppd", kind).model_dump()
        base["decoder"]["size_px"] = size_px
        assert load(text, kind).model_dump() == base
        assert load(text, kind, "decoder.size_px=64").decoder.size_px == 64


@pytest.mark.parametrize("base", ["'lokloc'", "'mine.toml'", "3", "['locloc']"])
def test_a_base_that_is_no_built_in_recipe(base, load):
    with pytest.raises(RecipeError, match=r"mine.toml: base: no built-in training recipe .*(; did you mean|; known: )"):
        load(f"base = {base}\n")


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


# --- changes ---------------------------------------------------------------------------------------------------------


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
def test_changes_are_laid_on_top(change, value):
    recipe = load_train_recipe("locloc", "cub", (change,))
    found = recipe
    for part in change.partition("=")[0].strip().split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)
    assert recipe != load_train_recipe("locloc", "cub")


def test_changes_go_before_what_a_kind_has_and_the_last_one_counts():
    changes = ("generator.fit.batch_size=8", "generator.fit.batch_size=64", "generator.fit.epochs=2")
    fit = load_train_recipe("locloc", "ilsvrc", changes).generator.fit
    assert (fit.batch_size, fit.epochs, fit.lr_base) == (64, 2, 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("generator.fit.epoch=5", "generator.fit.epoch: no such setting$"),
        ("genrator.fit.epochs=5", "genrator: no such setting$"),
        ("generator.fit.epochs=0", "generator.fit.epochs: Input should be greater than 0$"),
        ("generator.fit.epochs=1.5", "generator.fit.epochs: Input should be a valid integer"),
        ("generator.fit.epochs=many", "generator.fit.epochs: Input should be a valid integer"),
        ("generator.fit.epochs.more=1", "generator.fit.epochs: Input should be a valid integer"),
        ("generator.kind=huge", "generator.kind: Input should be 'paper' or 'tapered'$"),
        ("generator=3", "generator: Input should be"),
        ("generator.=3", "generator.: no such setting$"),
        ("val_share=1", "val_share: Input should be less than 1$"),
        ("val_share=nan", "val_share: "),
        ("classifier.crop_scale=[1.0]", "classifier.crop_scale.1: Field required$"),
        ("linear.fit.ema_decay=1.0", "linear.fit.ema_decay: Input should be less than 1$"),
        ("seed=-1", "seed: Input should be greater than or equal to 0$"),
        ("on.cub.seed=1", "on: no such setting$"),
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


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_holds_settings_for_any_data_and_for_one_kind(load):
    text = "seed = 4\n[generator]\nkind = 'paper'\n[generator.fit]\nepochs = 3\nlr_base = 0.1\n"
    text += "[on.cub]\nseed = 5\n[on.cub.generator.fit]\nepochs = 9\n[on.ilsvrc.linear]\nflip = false\n"
    found = {kind: load(text, kind) for kind in ("folder", "cub", "ilsvrc")}
    assert [(one.seed, one.generator.fit.epochs, one.linear.flip) for one in found.values()] == [
        (4, 3, True), (5, 9, True), (4, 3, False),
    ]  # fmt: skip
    assert {(one.generator.kind, one.generator.fit.lr_base) for one in found.values()} == {("paper", 0.1)}
    assert load(text, "cub", "seed=6", "generator.fit.epochs=1").generator.fit.epochs == 1


def test_an_empty_file_is_the_defaults(load):
    assert load("") == TrainRecipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nval_share = = 3\n", r"is not TOML: .*line 2, column 13"),
        ("seed = 1\nseed = 2\n", r"is not TOML: .*line 2"),
        ("[generator\n", r"is not TOML: .*line 1"),
        ("sed = 1\n", "mine.toml: sed: no such setting$"),
        ("[generator.fit]\nlr = 1\n", "mine.toml: generator.fit.lr: no such setting$"),
        ("[on.folder.classifier]\ncrop = 1\n", "mine.toml: classifier.crop: no such setting$"),
        ("seed = -1\nval_share = 0\nlinear = 0\n", r"mine.toml: seed: .* \(and 2 more\)$"),
    ],
)
def test_wrong_files(text, message, load):
    with pytest.raises(RecipeError, match=message) as raised:
        load(text)
    assert str(raised.value).startswith("Recipe /") and "mine.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["on = 3\n", "[on]\nfolder = 3\n"])
def test_a_kind_that_is_no_section_is_refused(text, load):
    with pytest.raises(RecipeError, match="on"):
        load(text)


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


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="bytes.toml cannot be read: 'utf-8' codec"):
        load_train_recipe(str(tmp_path / "bytes.toml"))


# --- TOML ------------------------------------------------------------------------------------------------------------


positive = st.floats(1e-12, 1e6)
fits = st.builds(
    FitSettings,
    epochs=st.integers(1, 1000),
    batch_size=st.integers(2, 2**20),
    optimizer=st.text(st.characters(codec="utf-8")),
    lr_base=positive,
    weight_decay=st.floats(0, 1, allow_subnormal=True),
    schedule=st.sampled_from(["constant", "cosine", "multistep"]),
    warmup_epochs=st.floats(0, 100) | st.integers(0, 100),
    milestones=st.lists(st.integers(0, 500), max_size=4).map(tuple),
    ema_decay=st.floats(0, 1, exclude_max=True),
    compile=st.booleans(),
)
recipes = st.builds(
    TrainRecipe,
    seed=st.integers(0, 2**60),
    val_share=st.floats(0, 1, exclude_min=True, exclude_max=True),
    generator=st.builds(GeneratorSettings, kind=st.sampled_from(["paper", "tapered"]), fit=fits),
    classifier=st.builds(
        ClassifierSettings,
        enhance=st.booleans(),
        randaugment=st.text(st.characters(codec="utf-8")),
        crop_scale=st.tuples(positive, positive),
        fit=fits,
    ),
    decoder=st.builds(DecoderSettings, size_px=st.integers(1, 10_000), fit=fits),
    linear=st.builds(LinearSettings, flip=st.booleans(), fit=fits),
)


@unhurried
@given(recipe=recipes)
def test_every_recipe_comes_back_from_toml(recipe, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(settings_toml(recipe), encoding="utf-8")
    again = load_train_recipe(str(file))
    assert again == recipe and hash(again) == hash(recipe)
    assert settings_toml(again) == settings_toml(recipe)


@pytest.mark.parametrize(
    "section",
    [TrainRecipe, GeneratorSettings, ClassifierSettings, DecoderSettings, LinearSettings, FitSettings],
)
def test_every_setting_is_described_in_one_line(section):
    for name, field in section.model_fields.items():
        if name == "fit" or name in TASKS:
            continue
        assert field.description and field.description.endswith(".") and "\n" not in field.description, name


def test_toml_shows_every_setting_below_its_description():
    lines = settings_toml(TrainRecipe()).splitlines()
    shown = tomllib.loads("\n".join(lines))
    assert set(shown) == {"seed", "val_share", *TASKS}
    for stage in TASKS:
        assert set(shown[stage]["fit"]) == set(FitSettings.model_fields)
    at = lines.index("[generator.fit]")
    assert lines[at + 1] == f"# {FitSettings.model_fields['epochs'].description}"


def test_recipes_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TrainRecipe().seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        TrainRecipe().generator.fit.epochs = 4
