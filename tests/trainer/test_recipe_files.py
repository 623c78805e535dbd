"""Recipe files: settings for any data and for one kind, a base, the way back to TOML, and every mistake in one line."""

import pickle
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locloc.pipeline.catalogs.registry import CATALOGS
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
TASKS = ("generator", "classifier", "decoder", "linear")


@pytest.fixture
def load(tmp_path):
    def load_text(text, kind="folder", *changes):
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8", newline="")
        return load_train_recipe(str(tmp_path / "mine.toml"), kind, changes)

    return load_text


def test_a_file_holds_settings_for_any_data_and_for_one_kind(load):
    text = "seed = 4\n[generator]\nkind = 'paper'\n[generator.fit]\nepochs = 3\nlr_base = 0.1\n"
    text += "[on.cub]\nseed = 5\n[on.cub.generator.fit]\nepochs = 9\n[on.ilsvrc.linear]\nflip = false\n"
    loaded = {kind: load(text, kind) for kind in ("folder", "cub", "ilsvrc")}
    assert [(recipe.seed, recipe.generator.fit.epochs, recipe.linear.flip) for recipe in loaded.values()] == [
        (4, 3, True), (5, 9, True), (4, 3, False),
    ]  # fmt: skip
    assert {(recipe.generator.kind, recipe.generator.fit.lr_base) for recipe in loaded.values()} == {("paper", 0.1)}
    assert load(text, "cub", "seed=6", "generator.fit.epochs=1").generator.fit.epochs == 1


def test_an_empty_file_is_the_defaults(load):
    assert load("") == TrainRecipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nval_share = = 3\n", r"is not TOML: .*line 2, column 13"),
        ("seed = 1\nseed = 2\n", r"is not TOML: .*line 2"),
        ("[generator\n", r"is not TOML: .*line 1"),
        ("sed = 1\n", "mine.toml: sed: no such setting; did you mean .seed.[?]$"),
        ("[generator.fit]\nlr = 1\n", "mine.toml: generator.fit.lr: no such setting; known: accumulate, "),
        (
            "[on.folder.classifier]\ncrop = 1\n",
            "classifier.crop: no such setting; known: crop_scale, ",
        ),
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


def test_settings_of_a_file_replace_those_of_its_base(load):
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


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="bytes.toml cannot be read: 'utf-8' codec"):
        load_train_recipe(str(tmp_path / "bytes.toml"))


@pytest.mark.parametrize("kind", CATALOGS)
@pytest.mark.parametrize("name", recipe_names())
def test_built_in_recipes_load_for_every_kind_and_come_back_from_toml(name, kind, load):
    recipe = load_train_recipe(name, kind)
    assert load(settings_toml(recipe), kind) == recipe
    assert hash(recipe) == hash(pickle.loads(pickle.dumps(recipe))) == hash(load_train_recipe(name, kind))


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


def test_toml_shows_every_setting_below_its_description():
    lines = settings_toml(TrainRecipe()).splitlines()
    shown = tomllib.loads("\n".join(lines))
    assert set(shown) == {"seed", "val_share", "data", *TASKS}
    for stage in TASKS:
        assert set(shown[stage]["fit"]) == set(FitSettings.model_fields)
    at = lines.index("[generator.fit]")
    assert lines[at + 1] == f"# {FitSettings.model_fields['epochs'].description}"
