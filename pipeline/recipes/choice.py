"""Which recipe a command uses: what a file left out, where it comes from, and for which backbone its thresholds are.

Thresholds cut attention that was stretched to its own range. Another family of ViTs, or another number of tokens, gives
other levels, so a recipe that is good for one makes worse masks, without any error, for another. That is a warning.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backbones.spec import backbone_family
from ..errors import RecipeError
from ..recipe import (
    GENERATOR_TOO,
    BackboneSettings,
    Recipe,
    RecipeSource,
    default_recipe,
    load_recipe,
    read_recipe,
    recorded_recipe,
)

MADE_FOR = {"locloc": "DINO", "official": "DINO", "pocket": "pocket", "ppd": "DINO"}
"""The family of backbones that thresholds of built-in recipes were made for, at the recipe's own size_px.

Recipes of the strategies `relative` and `contrast` are for every backbone.
"""

SECOND_ROUND = "second_round"
"""The recipe of masks from a generator's maps where none is named."""

GIVEN = "given as a Recipe"
"""Why a recipe was used that comes from Python."""


@dataclass(frozen=True)
class RecipeChoice:
    """A recipe to make masks by.

    name      recorded in the version
    why       how it was chosen, recorded too: "the default for vit_small_patch16_224.dino"
    notes     what a file starts from, unless it sets everything or names its base; one line each
    warnings  why the masks should be looked at, one line each
    """

    recipe: Recipe
    name: str
    why: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Origin:
    """Where thresholds come from, and the backbone they were made for."""

    what: str
    family: str
    size_px: int


def choose_recipe(given: str | Path | Recipe | None, backbone: str | None, store: str) -> RecipeChoice:
    """The recipe of a build.

    given     a built-in name, a TOML file or a Recipe; None: the default for the backbone
    backbone  a timm name; None: the recipe's, or `pocket` where no recipe is given either
    store     where its masks will be, for the warnings

    Raises RecipeError.
    """
    if isinstance(given, Recipe):
        recipe, origin = given.with_backbone(backbone), _origin_of_values(given)
        warnings = _warnings(recipe, origin or _own(given), store)
        return RecipeChoice(recipe, "custom", GIVEN, (), warnings)
    source = read_recipe(given or default_recipe(backbone))
    recipe, start = source.for_backbone(backbone), source.start(backbone)
    origin = _origin(source, recipe, None if start is None else _built_in(start))
    notes = _start_notes(source, recipe, f"the recipe {start}")
    why = _why(source) if given is not None else _why_default(recipe.backbone.name, backbone)
    return RecipeChoice(recipe, Path(source.name_or_file).stem, why, notes, _warnings(recipe, origin, store))


def choose_refinement(
    given: str | Path, version: str, metadata: dict[str, Any], store: str, with_generator: bool = False
) -> RecipeChoice:
    """The recipe of `locloc masks refine`, which keeps the backbone of the version.

    given              a file's settings are on top of the version's, or of its own base; a built-in recipe replaces all
    version, metadata  its name, `STORE@V`, and its provenance
    with_generator     masks are made from maps of a generator, which are kept too

    Raises RecipeError.
    """
    source, parent, name = read_recipe(given), recorded_recipe(metadata, version), str(given)
    if with_generator:
        kept = parent.backbone.model_copy(update={"maps": GENERATOR_TOO})
        parent = parent.model_copy(update={"backbone": kept})
    if not source.is_file:
        recipe = _refining(load_recipe(name), parent, name, version)
        return RecipeChoice(recipe, name, _why(source), (), _warnings(recipe, _built_in(name), store))
    origin: _Origin | None
    if source.base is None:
        start, origin = parent, _Origin(version, backbone_family(parent.backbone.name), parent.backbone.size_px)
    else:
        start, origin = load_recipe(source.base), _built_in(source.base)
    start = start.model_copy(update={"backbone": parent.backbone})
    recipe = source.on(start).with_backbone(parent.backbone.name)
    if recipe.backbone.precision == "auto":  # of the attention that is there
        recipe = recipe.with_precision(parent.backbone.precision)
    if _thresholds(recipe) != _thresholds(parent):
        origin = _origin(source, recipe, origin)
    notes = _start_notes(source, recipe, version)
    if source.backbone not in (None, parent.backbone.name):
        notes += (f"{name} names the backbone {source.backbone}; {version} keeps {parent.backbone.name}",)
    return RecipeChoice(recipe, Path(name).stem, _why(source), notes, _warnings(recipe, origin, store))


def _why(source: RecipeSource) -> str:
    return f"from the file {source.name_or_file}" if source.is_file else "chosen by name"


def _why_default(default_for: str, backbone: str | None) -> str:
    if backbone is None:
        return f"the default where neither a recipe nor a backbone is named, for {default_for}"
    return f"the default for {default_for}"


def _refining(recipe: Recipe, parent: Recipe, name: str, version: str) -> Recipe:
    """The recipe with the version's backbone. Raises RecipeError where it needs a map that the version lacks."""
    if recipe.saliency.strategy == "generator" and not parent.backbone.generator_maps:
        raise RecipeError(f"Recipe {name}: {version} has no maps of a generator; `--from RUN` makes them")
    if recipe.saliency.strategy == "contrast" and not parent.backbone.contrast_maps:
        raise RecipeError(
            f"Recipe {name}: {version} has no contrast maps, only attention; `--recipe relative` makes do with it, and "
            "`locloc masks build` makes contrast maps"
        )
    return recipe.model_copy(update={"backbone": parent.backbone})


def _origin(source: RecipeSource, recipe: Recipe, start: _Origin | None) -> _Origin | None:
    """The origin of a recipe's thresholds; None: unknown, because they are the user's own and no backbone is named.

    start  the origin of those that the source leaves out
    """
    if not source.is_file:
        return _built_in(source.name_or_file)
    if (known := _origin_of_values(recipe, source.base)) is not None:
        return known
    own = source.settings.get("saliency", {})
    if not {"foreground_from", "background_below", "threshold"} <= own.keys():
        return start
    if source.backbone is None:
        return None
    size_px = source.settings["backbone"].get("size_px", BackboneSettings().size_px)
    return _Origin(f"the recipe {source.name_or_file}", backbone_family(source.backbone), size_px)


def _origin_of_values(recipe: Recipe, prefer: str | None = None) -> _Origin | None:
    """The built-in recipe with the same thresholds, `prefer` before others."""
    names = [name for name in MADE_FOR if _thresholds(load_recipe(name)) == _thresholds(recipe)]
    return _built_in(prefer if prefer in names else names[0]) if names else None


def _own(recipe: Recipe) -> _Origin:
    return _Origin("this recipe", backbone_family(recipe.backbone.name), recipe.backbone.size_px)


def _built_in(name: str) -> _Origin:
    return _Origin(f"the recipe {name}", MADE_FOR.get(name, "every backbone"), load_recipe(name).backbone.size_px)


def _thresholds(recipe: Recipe) -> tuple[float, float, float]:
    settings = recipe.saliency
    return settings.background_below, settings.threshold, settings.foreground_from


def _warnings(recipe: Recipe, origin: _Origin | None, store: str) -> tuple[str, ...]:
    name, size_px = recipe.backbone.name, recipe.backbone.size_px
    if recipe.saliency.strategy != "absolute":
        return ()
    if origin is None or (origin.family, origin.size_px) == (backbone_family(name), size_px):
        return ()
    advice = "`--recipe pocket` has its thresholds; else " if name == "pocket" and origin.family != "pocket" else ""
    return (
        f"the thresholds of {origin.what} were made for {origin.family} at {origin.size_px} px, not for {name} at "
        f"{size_px} px: {advice}look at some masks with `locloc masks view {store}@latest ID --out masks.png`",
    )


def _start_notes(source: RecipeSource, recipe: Recipe, start: str) -> tuple[str, ...]:
    """What filled up a file that leaves settings out and does not name its base."""
    if not source.is_file or source.base is not None:
        return ()
    every = _setting_names(recipe.model_dump())
    left_out = every - _setting_names(source.settings)
    if not left_out:
        return ()
    sets = f"{len(every) - len(left_out)} of {len(every)} settings"
    return (f"{source.name_or_file} sets {sets}; the others are those of {start}",)


def _setting_names(content: dict[str, Any], prefix: str = "") -> set[str]:
    """`mask_px`, `saliency.threshold`, ..."""
    names: set[str] = set()
    for name, value in content.items():
        names |= _setting_names(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return names
