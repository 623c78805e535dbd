"""What a recipe file that leaves settings out starts from, and when thresholds are another backbone's."""

import warnings

import pytest
from PIL import Image
from typer.testing import CliRunner

import locloc
from locloc import api
from locloc.cli import app
from locloc.pipeline.build.spec import BuildSummary
from locloc.pipeline.config import settings_toml
from locloc.pipeline.errors import RecipeError
from locloc.pipeline.recipe import GENERATOR_TOO, Recipe, load_recipe, recipe_names
from locloc.pipeline.recipes.choice import MADE_FOR, choose_recipe, choose_refinement

from ...conftest import Content, write_version

DINO, DINOV2 = "vit_small_patch16_224.dino", "vit_small_patch14_dinov2.lvd142m"
OWN = "[saliency]\nstrategy = 'absolute'\nforeground_from = 0.6\nbackground_below = 0.2\nthreshold = 0.4\n"
LOWER = "[saliency]\nthreshold = 0.3\n"


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return tmp_path / "mine.toml"

    return write_text


def built(file, backbone=None):
    return choose_recipe(file, backbone, "s.store")


def refined(given, parent):
    return choose_refinement(given, "s.store@v1", {"recipe": parent.model_dump(mode="json")}, "s.store")


def with_changes(recipe, **sections):
    content = recipe.model_dump()
    for name, value in sections.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    return Recipe.model_validate(content)


# --- base ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", recipe_names())
def test_a_base_fills_up_a_file(base, write):
    file = write(f'base = "{base}"\nmask_px = 128\n')
    wanted = with_changes(load_recipe(base), mask_px=128)
    assert load_recipe(file) == Recipe.load(file) == built(file).recipe == wanted
    assert built(file).notes == ()
    assert built(file, DINOV2).recipe == wanted.with_backbone(DINOV2)


@pytest.mark.parametrize("base", ["'lokloc'", "'mine.toml'", "3", "['locloc']", "''"])
def test_a_base_that_is_no_built_in_recipe(base, write):
    with pytest.raises(
        RecipeError, match=r"mine.toml: base: no built-in recipe .*(; did you mean|; known: )"
    ) as raised:
        load_recipe(write(f"base = {base}\n"))
    assert "\n" not in str(raised.value)


def test_an_engine_of_its_own_replaces_the_engine_of_the_base(write):
    other = load_recipe(write('base = "locloc"\n[refine]\nengine = "opencv"\n'))
    assert other.refine.model_dump() == {"engine": "opencv", "iterations": 1}
    same = load_recipe(write('base = "locloc"\n[refine]\nband_px = 4\n'))
    assert same.refine == load_recipe().refine.model_copy(update={"band_px": 4})
    with pytest.raises(RecipeError, match="refine: no engine 'magic'"):
        load_recipe(write('base = "locloc"\n[refine]\nengine = "magic"\n'))


# --- build -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "start"), [(None, "pocket"), ("pocket", "pocket"), (DINO, "contrast"), (DINOV2, "contrast")]
)
def test_a_build_starts_from_the_default_recipe_for_the_backbone(backbone, start, write):
    file = write("[saliency]\nunknown_init = 'foreground'\n")
    choice = built(file, backbone)
    start_recipe = load_recipe(start).with_backbone(backbone)
    assert choice.recipe == with_changes(start_recipe, saliency={"unknown_init": "foreground"})
    assert choice.notes == (f"{file} sets 1 of {20 if start == 'pocket' else 24} settings; the others are those of the "
                            f"recipe {start}",)  # fmt: skip


@pytest.mark.parametrize(("backbone", "start"), [("pocket", "pocket"), ("timm/" + DINO, "contrast")])
def test_the_backbone_may_be_named_in_the_file(backbone, start, write):
    file = write(f"[backbone]\nname = '{backbone}'\n")
    assert built(file).recipe == load_recipe(file) == Recipe.load(file) == load_recipe(start)


def test_python_fills_up_a_file_as_the_command_does(write):
    file = write(LOWER)
    assert Recipe.load(file) == built(file).recipe == with_changes(load_recipe("pocket"), saliency={"threshold": 0.3})
    assert Recipe.load() == load_recipe("locloc")


def test_a_file_that_sets_everything_starts_from_nothing(write):
    file = write(settings_toml(load_recipe("official")))
    assert (built(file).recipe, built(file).notes) == (load_recipe("official"), ())


# --- refine ----------------------------------------------------------------------------------------------------------

PARENT = with_changes(
    load_recipe("pocket"), saliency={"background_below": 0.1}, backbone={"size_px": 256}, images={"fit": "centre_crop"}
)


def test_a_refinement_inherits_from_the_version(write):
    file = write(LOWER)
    choice = refined(file, PARENT)
    assert choice.recipe == with_changes(PARENT, saliency={"threshold": 0.3})
    assert choice.notes == (f"{file} sets 1 of 20 settings; the others are those of s.store@v1",)
    assert (choice.name, choice.warnings) == ("mine", ())


def test_a_base_replaces_the_version_s_settings_but_for_its_backbone(write):
    choice = refined(write('base = "official"\nseed = 5\n'), PARENT)
    assert choice.recipe == with_changes(load_recipe("official"), seed=5, backbone=PARENT.backbone.model_dump())
    assert (
        "thresholds of the recipe official were made for DINO at 224 px, not for pocket at 256 px" in choice.warnings[0]
    )


def test_a_refinement_by_contrast_needs_contrast_maps():
    with pytest.raises(RecipeError, match=r"s.store@v1 has no contrast maps.*`--recipe relative`"):
        refined("contrast", PARENT)
    parent = with_changes(PARENT, backbone={"maps": "attention+contrast"})
    assert refined("contrast", parent).recipe.saliency == load_recipe("contrast").saliency
    assert refined("locloc", parent).recipe.backbone.maps == "attention+contrast"


def test_a_refinement_by_a_generator_needs_its_maps():
    with pytest.raises(RecipeError, match=r"s.store@v1 has no maps of a generator; `--from RUN` makes them"):
        refined("second_round", PARENT)
    metadata = {"recipe": PARENT.model_dump(mode="json")}
    choice = choose_refinement("second_round", "s.store@v1", metadata, "s.store", with_generator=True)
    assert choice.recipe.saliency == load_recipe("second_round").saliency
    assert choice.recipe.backbone == with_changes(PARENT, backbone={"maps": GENERATOR_TOO}).backbone


@pytest.mark.parametrize("setting", ["threshold = 0.05", "heads = [0]", "foreground_from = 0.3"])
def test_thresholds_without_a_strategy_are_the_paper_s(setting, write):
    """So was every file before there were other strategies."""
    choice = built(write(f"[saliency]\n{setting}\n"), DINO)
    assert choice.recipe == load_recipe(write(f"base = 'locloc'\n[saliency]\n{setting}\n"))
    assert choice.notes[0].endswith("the others are those of the recipe locloc")
    assert built(write("[saliency]\nstrategy = 'contrast'\nthreshold = 0.1\n"), DINO).recipe.saliency.threshold == 0.1
    assert built(write("seed = 3\n"), DINO).recipe.saliency.strategy == "contrast"


@pytest.mark.parametrize("name", sorted({*recipe_names()} - {"contrast", "second_round"}))
def test_a_built_in_recipe_replaces_the_version_s_settings_but_for_its_backbone(name):
    choice = refined(name, PARENT)
    assert choice.recipe == load_recipe(name).model_copy(update={"backbone": PARENT.backbone})
    assert (choice.name, choice.notes) == (name, ())


def test_a_file_for_another_backbone_is_told_which_one_stays(write):
    choice = refined(write(settings_toml(Recipe())), load_recipe("pocket"))
    assert choice.recipe == Recipe().with_backbone("pocket")
    assert choice.notes[0].endswith(f"mine.toml names the backbone {DINO}; s.store@v1 keeps pocket")
    assert "were made for DINO at 224 px, not for pocket" in choice.warnings[0]
    assert "`--recipe pocket` has its thresholds" in choice.warnings[0]


def test_a_recipe_of_another_release_is_one_line(write):
    metadata = {"recipe": Recipe().model_dump(mode="json") | {"later": 1}}
    with pytest.raises(RecipeError, match=r"^Recipe of s.store@v1: later: no such setting$"):
        choose_refinement("official", "s.store@v1", metadata, "s.store")
    old = Recipe().model_dump(mode="json")
    del old["images"]["reduced_decode"], old["seed"]
    assert choose_refinement("locloc", "s.store@v1", {"recipe": old}, "s.store").recipe == Recipe()


# --- thresholds ------------------------------------------------------------------------------------------------------


def test_every_built_in_recipe_says_what_its_thresholds_were_made_for():
    assert sorted([*MADE_FOR, "contrast", "relative", "second_round"]) == recipe_names()
    for name in recipe_names():
        assert built(name).warnings == ()


@pytest.mark.parametrize(
    ("given", "backbone", "warned"),
    [
        ("official", "pocket", "the recipe official were made for DINO at 224 px, not for pocket at 224 px"),
        ("locloc", DINOV2, f"the recipe locloc were made for DINO at 224 px, not for {DINOV2}"),
        ("locloc", "vit_small_patch16_dinov3.lvd1689m", "not for vit_small_patch16_dinov3.lvd1689m at 224 px"),
        (None, DINOV2, None),
        ("relative", "vit_small_patch16_dinov3.lvd1689m", None),
        ("ppd", "vit_small_patch16_224.augreg_in21k", "the recipe ppd were made for DINO"),
        ("pocket", DINO, "the recipe pocket were made for pocket at 224 px, not for"),
        (None, DINO, None),
        (None, "hf_hub:timm/vit_base_patch8_224.dino", None),
        (None, None, None),
        ("[backbone]\nsize_px = 448\nname = 'pocket'\n", None, "made for pocket at 224 px, not for pocket at 448 px"),
        ("base = 'official'\nmask_px = 64\n", "pocket", "the recipe official were made for DINO"),
        (LOWER, "pocket", None),
        ("[saliency]\nthreshold = 0.07\n", DINOV2, "the recipe locloc were made for DINO"),
        (OWN, DINOV2, None),
        (OWN + f"[backbone]\nname = '{DINOV2}'\n", None, None),
        (OWN + f"[backbone]\nname = '{DINOV2}'\nsize_px = 448\n", "vit_base_patch14_dinov2.lvd142m", None),
        (
            OWN + f"[backbone]\nname = '{DINOV2}'\n",
            "pocket",
            "mine.toml were made for DINOv2 at 224 px, not for pocket",
        ),
        (
            OWN.replace(".6", ".10").replace(".2", ".03").replace("0.4", "0.05"),
            DINOV2,
            "the recipe locloc were made for",
        ),
    ],
)
def test_thresholds_of_another_backbone_warn(given, backbone, warned, write):
    is_file = given is not None and given not in recipe_names()
    choice = built(write(given) if is_file else given, backbone)
    if warned is None:
        assert choice.warnings == ()
        return
    (line,) = choice.warnings
    assert warned in line and "`locloc masks view s.store@latest ID --out masks.png`" in line and "\n" not in line


def test_a_recipe_object_warns_too():
    own = with_changes(Recipe(), saliency={"foreground_from": 0.6, "background_below": 0.2, "threshold": 0.4})
    assert choose_recipe(own, None, "s").warnings == choose_recipe(own, "vit_base_patch16_224.dino", "s").warnings == ()
    assert "this recipe were made for DINO" in choose_recipe(own, "pocket", "s").warnings[0]
    assert "the recipe locloc were made for DINO" in choose_recipe(Recipe(), "pocket", "s").warnings[0]


def test_a_version_s_own_thresholds_are_its_backbone_s(write):
    """Also where they are equal to a built-in recipe's: whoever refines the version has seen its masks."""
    parent = Recipe().with_backbone(DINOV2)
    assert refined(write("[refine]\nengine = 'threshold'\n"), parent).warnings == ()
    assert refined("official", parent).warnings != ()


# --- commands and API ------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "1.png")
    return tmp_path / "photos"


def test_the_recipe_of_a_version_comes_back_from_toml(tmp_path):
    content = Content.made(["1.jpg"])
    content.recipe = PARENT.model_dump(mode="json")
    version = write_version(tmp_path / "s.store", content, tmp_path / "images")
    said = CliRunner().invoke(app, ["masks", "recipe", version.name])
    assert said.exit_code == 0, said.output
    (tmp_path / "back.toml").write_text(said.stdout)
    assert load_recipe(tmp_path / "back.toml") == Recipe.load(tmp_path / "back.toml") == PARENT


def test_masks_recipe_shows_a_file_as_a_build_takes_it(write, tmp_path):
    said = CliRunner().invoke(app, ["masks", "recipe", str(write(LOWER))])
    assert said.stdout == settings_toml(built(tmp_path / "mine.toml").recipe)


def test_a_dry_run_says_what_a_file_starts_from_and_lists_warnings(write, tmp_path, photos):
    command = ["masks", "build", str(photos), "--store", str(tmp_path / "s"), "--backbone", "pocket", "--dry-run"]
    said = CliRunner().invoke(app, [*command, "--recipe", str(write(LOWER))])
    assert "note: " in said.stderr and "sets 1 of 20 settings; the others are those of the recipe pocket" in said.stderr
    assert "note: recipe mine: from the file" in said.stderr and "warning" not in said.stderr
    said = CliRunner().invoke(app, [*command, "--recipe", "official", "--json"])
    assert said.stderr.count("warning: the thresholds of the recipe official were made for DINO") == 1
    assert '"warnings": [\n    "the thresholds of the recipe official' in said.stdout


def test_python_warns_before_the_build_and_in_the_summary(monkeypatch, photos, tmp_path):
    requests = []

    def build_version(request, on_progress):
        requests.append(request)
        return BuildSummary("v1", "f", {"rows": 2, "ok": 2, "fallback": 0})

    monkeypatch.setattr(api, "build_version", build_version)
    with pytest.warns(UserWarning, match="the recipe official were made for DINO"):
        summary = locloc.build_masks(photos, tmp_path / "s", recipe="official", backbone="pocket")
    assert len(summary.warnings) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert locloc.build_masks(photos, tmp_path / "s").warnings == ()
    assert [request.recipe for request in requests] == [
        load_recipe("official").with_backbone("pocket"),
        load_recipe("pocket"),
    ]
    assert [request.recipe_why for request in requests] == [
        "chosen by name",
        "the default where neither a recipe nor a backbone is named, for pocket",
    ]


@pytest.mark.parametrize("backbone", [DINO, DINOV2, "pocket", "timm/" + DINO])
def test_masks_recipe_for_a_backbone_is_what_a_build_takes(backbone, tmp_path):
    said = CliRunner().invoke(app, ["masks", "recipe", "--for", backbone])
    choice = built(None, backbone)
    assert said.stdout == settings_toml(choice.recipe)
    assert f"recipe {choice.name}: the default for {choice.recipe.backbone.name}" in said.stderr
    (tmp_path / "back.toml").write_text(said.stdout)
    assert built(tmp_path / "back.toml").recipe == choice.recipe


def test_masks_recipe_fills_up_a_file_for_a_backbone(write):
    file = write("[refine]\niterations = 3\n")
    said = CliRunner().invoke(app, ["masks", "recipe", str(file), "--for", DINOV2])
    assert said.stdout == settings_toml(built(file, DINOV2).recipe)
    assert f"recipe mine: from the file {file}" in said.stderr
    said = CliRunner().invoke(app, ["masks", "recipe", "s.store@v1", "--for", DINO])
    assert said.exit_code == 2 and "has its backbone" in said.stderr


def test_why_a_recipe_was_chosen(write):
    file = write(LOWER)
    assert built(None, DINO).why == f"the default for {DINO}"
    assert built(None).why == "the default where neither a recipe nor a backbone is named, for pocket"
    assert built("locloc", DINOV2).why == refined("official", PARENT).why == "chosen by name"
    assert built(file, "pocket").why == refined(file, PARENT).why == f"from the file {file}"
    assert built(Recipe()).why == "given as a Recipe"
