"""Recipes: the built-in ones, their fingerprints, their TOML there and back, and every way to get one wrong."""

import hashlib
import json
import pickle
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from locloc.pipeline import recipe as recipe_module
from locloc.pipeline.config import Settings, settings_toml
from locloc.pipeline.errors import RecipeError
from locloc.pipeline.masks.grabcut import REFINERS
from locloc.pipeline.masks.saliency import SaliencySettings
from locloc.pipeline.recipe import (
    KEPT_REVISIONS,
    REVISIONS,
    BackboneSettings,
    ImageSettings,
    Recipe,
    load_recipe,
    recipe_names,
    recorded_revisions,
)

unhurried = settings(deadline=None)  # shared machines stall
SECTIONS = (ImageSettings, BackboneSettings, SaliencySettings, *REFINERS.values())
INPUTS = {"catalog": "c0ffee", "weights": "f00d", "mean": [0.485, 0.456, 0.406]}
# Of the recipe `locloc` with INPUTS. Another value makes every store built so far out of date: change it only together
# with a revision, or with what a recipe holds.
GOLDEN = "741e0bc259a5583b8cae239e73f7f95dfc29bbb1c5cf45d80f5995fc6a577e37"
# The same before the revisions 2 of decode and geometry.
FINGERPRINT_BEFORE = "5042cbd119d6a1b3b41cf1c825939a415dc2011378e9b37ee6653ab42820cfc7"

# Another valid value for every setting.
OTHER_VALUES = {
    "images.fit": "centre_crop",
    "images.reduced_decode": True,
    "images.max_pixels": 1000,
    "images.decoder": "nvjpeg",
    "backbone.name": "vit_base_patch16_224.dino",
    "backbone.size_px": 448,
    "backbone.precision": "bf16",
    "backbone.maps": "attention+contrast",
    "saliency.heads": (2, 1, 0),
    "saliency.foreground_from": 0.11,
    "saliency.background_below": 0.02,
    "saliency.threshold": 0.06,
    "saliency.strategy": "relative",
    "saliency.prior_range": (0.1, 2.0),
    "saliency.contrast_share": 0.5,
    "saliency.unknown_init": "background",
    "refine.iterations": 2,
    "refine.neighbours": 4,
    "refine.band_px": 3,
    "refine.gamma": 40.0,
    "refine.prior_weight": 1.0,
    "refine.engine": "threshold",
    "mask_px": 264,
    "seed": 1,
}


def changed(name, value):
    """The default recipe with one setting of that dotted name changed."""
    content = Recipe().model_dump()
    section, _, field = name.rpartition(".")
    if field == "engine":
        content[section] = {"engine": value}
    else:
        (content[section] if section else content)[field] = value
    return Recipe.model_validate(content)


def setting_names():
    """`mask_px`, `saliency.threshold`, ..."""
    for field, value in Recipe():
        names = type(value).model_fields if isinstance(value, Settings) else ()
        yield from [f"{field}.{name}" for name in names] or [field]


@st.composite
def recipes(draw):
    shares = st.floats(0, 1, allow_subnormal=True)
    low, middle, high = sorted(draw(st.lists(shares, min_size=3, max_size=3)))
    heads = st.lists(st.integers(0, 2**40), min_size=1, max_size=6, unique=True).map(tuple)
    return Recipe(
        images=ImageSettings(
            fit=draw(st.sampled_from(["stretch", "centre_crop"])), max_pixels=draw(st.integers(1, 2**70))
        ),
        backbone=BackboneSettings(
            name=draw(st.text(st.characters(codec="utf-8"))),
            size_px=draw(st.integers(1, 10_000)),
            precision=draw(st.sampled_from(["fp32", "tf32", "bf16", "fp16"])),
        ),
        saliency=SaliencySettings(
            heads=draw(st.just("mean") | heads),
            background_below=low,
            threshold=middle,
            foreground_from=high,
            unknown_init=draw(st.sampled_from(["background", "split", "foreground"])),
        ),
        refine=draw(
            st.builds(REFINERS["opencv"], iterations=st.integers(1, 100))
            | st.builds(REFINERS["fast"], band_px=st.integers(0, 64), gamma=st.floats(0, 1000))
            | st.sampled_from([r() for r in REFINERS.values()])
        ),
        mask_px=8 * draw(st.integers(2, 512)),
        seed=draw(st.integers(0, 2**70)),
    )


@pytest.fixture
def load(tmp_path):
    def load_text(text):
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8", newline="")
        return load_recipe(tmp_path / "mine.toml")

    return load_text


# --- built in --------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_of_windows_editors(tmp_path):
    (tmp_path / "mine.toml").write_text('\ufeffbase = "pocket"\nseed = 3\n', encoding="utf-8")
    assert load_recipe(tmp_path / "mine.toml").seed == 3


def test_names():
    assert recipe_names() == ["contrast", "locloc", "official", "pocket", "ppd", "relative", "second_round"]


def test_locloc_is_the_default_and_equals_the_class_defaults():
    assert load_recipe() == load_recipe("locloc") == Recipe()


def test_locloc_spells_out_every_setting():
    """But for the pixel limit, which is no choice of the method."""
    with (recipe_module.BUILTIN.folder / "locloc.toml").open("rb") as file:
        written = tomllib.load(file)
    named = {f"{key}.{name}" for key, value in written.items() if isinstance(value, dict) for name in value}
    named |= {key for key, value in written.items() if not isinstance(value, dict)}
    assert set(setting_names()) - named == {"images.max_pixels"}


def test_official_differs_in_the_unknown_pixels_and_has_opencv_s_own_grabcut():
    expected = Recipe().model_dump()
    expected["saliency"]["unknown_init"] = "background"
    expected["refine"] = {"engine": "opencv", "iterations": 1}
    assert load_recipe("official").model_dump() == expected


def test_ppd_is_one_threshold_without_refinement():
    expected = Recipe().model_dump()
    expected["saliency"] |= {"foreground_from": 0.05, "background_below": 0.05, "threshold": 0.05}
    expected["refine"] = {"engine": "threshold"}
    assert load_recipe("ppd").model_dump() == expected


def test_built_in_recipes_have_fingerprints_of_their_own():
    assert len({load_recipe(name).fingerprint(**INPUTS) for name in recipe_names()}) == len(recipe_names())


# --- fingerprint -----------------------------------------------------------------------------------------------------


def test_golden_fingerprint():
    assert load_recipe("locloc").fingerprint(**INPUTS) == GOLDEN


def test_fingerprint_is_the_sha256_of_readable_json():
    content = {
        "recipe": Recipe().identity(),
        "revisions": {**REVISIONS, "refine.fast": REFINERS["fast"].revision},
        "inputs": INPUTS,
    }
    assert Recipe().fingerprint(**INPUTS) == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_other_values_names_every_setting():
    assert set(OTHER_VALUES) == set(setting_names())


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_every_setting_moves_the_fingerprint(name):
    assert changed(name, OTHER_VALUES[name]).fingerprint(**INPUTS) != GOLDEN


@pytest.mark.parametrize("stage", REVISIONS)
def test_every_revision_moves_the_fingerprint(stage, monkeypatch):
    monkeypatch.setitem(REVISIONS, stage, REVISIONS[stage] + 1)
    assert Recipe().fingerprint(**INPUTS) != GOLDEN


def test_older_revisions_that_are_kept_are_those_of_their_versions():
    older = {stage: kept[0] for stage, kept in KEPT_REVISIONS.items()}
    recorded = {"revisions": {**REVISIONS, **older, "refine.fast": 7}}
    assert recorded_revisions(recorded) == REVISIONS | older
    recorded["revisions"]["decode"] = REVISIONS["decode"] + 1  # of a later release
    assert recorded_revisions(recorded) == REVISIONS | older | {"decode": REVISIONS["decode"]}
    assert Recipe().fingerprint(REVISIONS | older, **INPUTS) == FINGERPRINT_BEFORE


@pytest.mark.parametrize("engine", REFINERS)
def test_only_its_own_engine_s_revision_moves_the_fingerprint(engine, monkeypatch):
    before = {name: changed("refine.engine", name).fingerprint(**INPUTS) for name in REFINERS}
    monkeypatch.setattr(REFINERS[engine], "revision", REFINERS[engine].revision + 1)
    after = {name: changed("refine.engine", name).fingerprint(**INPUTS) for name in REFINERS}
    assert {name for name in REFINERS if before[name] != after[name]} == {engine}


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_moves_the_fingerprint(name):
    without = {other: value for other, value in INPUTS.items() if other != name}
    assert len({Recipe().fingerprint(**inputs) for inputs in (INPUTS, without, {**without, name: "other"})}) == 3


def test_order_does_not_move_the_fingerprint(load):
    backwards = "seed = 0\nmask_px = 256\nsaliency = { unknown_init = 'split', threshold = 0.05, heads = [0, 1, 2] }\n"
    backwards += "[refine]\niterations = 1\nengine = 'fast'\n[backbone]\nprecision = 'fp32'\nsize_px = 224\n"
    assert load(backwards).fingerprint(**INPUTS) == GOLDEN
    assert Recipe().fingerprint(**dict(reversed(INPUTS.items()))) == GOLDEN


# --- TOML ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["locloc", "official", "pocket", "ppd"])
def test_built_in_recipes_come_back_from_toml(name, load):
    recipe = load_recipe(name)
    assert load(settings_toml(recipe)) == recipe
    assert settings_toml(load(settings_toml(recipe))) == settings_toml(recipe)


@unhurried
@given(recipe=recipes())
def test_every_recipe_comes_back_from_toml(recipe, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(settings_toml(recipe), encoding="utf-8")
    again = load_recipe(file)
    assert again == recipe and again.fingerprint() == recipe.fingerprint() and hash(again) == hash(recipe)
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_toml_shows_every_setting_below_its_description():
    lines = settings_toml(Recipe()).splitlines()
    assert set(tomllib.loads("\n".join(lines))["saliency"]) == set(SaliencySettings.model_fields)
    assert lines[lines.index("iterations = 1") - 1] == f"# {REFINERS['fast'].model_fields['iterations'].description}"


@pytest.mark.parametrize("section", [Recipe, *SECTIONS])
def test_every_setting_is_described(section):
    """In one line, for it becomes one comment. Sections are described by their own settings, engines by their file."""
    for name, field in section.model_fields.items():
        if name == "engine" or (section is Recipe and name in ("images", "backbone", "saliency", "refine")):
            continue
        assert field.description and field.description.endswith(".") and "\n" not in field.description, name


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oficial", r"No recipe 'oficial'; did you mean 'official'\?; a file's name ends in .toml"),
        ("Locloc", r"did you mean 'locloc'\?"),
        (
            "xyz",
            "No recipe 'xyz'; known: contrast, locloc, official, pocket, ppd, relative, second_round; a file's "
            "name ends in .toml",
        ),
        ("", "No recipe ''; known: contrast, locloc, official, pocket, ppd, relative, second_round"),
        ("none.toml", "Recipe none.toml cannot be read: No such file or directory"),
        ("./none", "Recipe ./none cannot be read: No such file or directory"),
    ],
)
def test_unknown_recipes(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=f"^{message}" if message.startswith(("No", "Recipe")) else message):
        load_recipe(name)


def test_unreadable_recipes(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="bytes.toml cannot be read: 'utf-8' codec"):
        load_recipe(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nmask_px = = 3\n", r"is not TOML: .*line 2, column 11"),
        ("seed = 1\nseed = 2\n", r"is not TOML: .*line 2"),
        ("[images\n", r"is not TOML: .*line 1"),
        ("mask_pxx = 256\n", "mask_pxx: no such setting; did you mean .mask_px.[?]$"),
        ("[saliency]\ntreshold = 0.05\n", "saliency.treshold: no such setting; did you mean .threshold.[?]$"),
        ("[refine]\nengine = 'threshold'\niterations = 3\n", "refine.iterations: no such setting$"),
        (
            "[refine]\nengine = 'opencv'\niterations = 0\n",
            "refine.iterations: Input should be greater than or equal to 1$",
        ),
        (
            "[refine]\nengine = 'magic'\n",
            "refine: no engine 'magic'; there are 'fast', 'opencv', 'threshold', 'torch'$",
        ),
        ("[refine]\nengine = 'opencv'\niterations = true\n", "refine.iterations: a number or text, not true$"),
        ("[refine]\niterations = 3\n", "refine: 'engine' has to be named, as in `locloc masks recipe`$"),
        ("mask_px = 'large'\n", "mask_px: Input should be a valid integer"),
        ("saliency = 3\n", "saliency: Input should be"),
        ("[backbone]\nname = 3\n", "backbone.name: Input should be a valid string$"),
        (
            "[backbone]\nprecision = 'fp8'\n",
            "backbone.precision: Input should be 'fp32', 'tf32', 'bf16', 'fp16' or 'auto'$",
        ),
        ("[images]\nfit = 'pad'\n", "images.fit: Input should be 'stretch' or 'centre_crop'$"),
        ("[saliency]\nheads = ['a']\n", "saliency.heads.0: Input should be a valid integer"),
        ("[saliency]\nheads = 'max'\n", "saliency.heads: "),
        (
            "[saliency]\nheads = [1, 1]\n",
            "saliency: heads must be 'mean', 'off_border' or a list of different head numbers from 0$",
        ),
        ("[saliency]\nthreshold = nan\n", "saliency.threshold: "),
        ("[saliency]\nthreshold = 0.5\n", "saliency: background_below <= threshold <= foreground_from must hold$"),
        ("mask_px = 20\n", "mask_px must be a multiple of 8: masks are stored as bits$"),
        ("mask_px = 8\n", "mask_px: Input should be greater than or equal to 16$"),
        ("mask_px = 8\nseed = -1\nimages = 0\n", r"\(and 2 more\)$"),
    ],
)
def test_wrong_settings(text, message, load):
    with pytest.raises(RecipeError, match=message) as raised:
        load(text)
    assert str(raised.value).startswith("Recipe /") and "mine.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


# --- settings --------------------------------------------------------------------------------------------------------


def test_with_backbone():
    assert Recipe().with_backbone(None) == Recipe()
    other = Recipe().with_backbone("vit_base_patch16_224.dino")
    assert other == changed("backbone.name", "vit_base_patch16_224.dino")
    assert other.with_backbone(Recipe().backbone.name) == Recipe()


def test_recipes_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().saliency.threshold = 0.04


def test_what_a_decoded_image_covers():
    """Reduced decoding is for all large JPEGs, but only `reduced_decode` leaves no more pixels than are needed."""
    reduced = Recipe.model_validate({"images": {"reduced_decode": True}, "backbone": {"size_px": 448}})
    assert [Recipe().covers_px(), reduced.covers_px()] == [512, 448]
    assert [Recipe().covers_px(1), reduced.covers_px(1)] == [None, 448]
