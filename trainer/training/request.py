"""What a user asks of `locloc train`, and what that comes to: defaults, the resumed run's own settings, the recipe.

Imports no torch, so that a mistake is told at once.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...pipeline.backbones.precision import auto_precision, needs_gpu
from ...pipeline.config import settings_toml
from ...pipeline.errors import TrainError, check_known
from ...pipeline.store import open_version
from ..recipe import TrainRecipe, load_train_recipe

TASK_GROUPS = {
    "all": ("generator", "classifier"),
    "generator": ("generator",),
    "classifier": ("classifier",),
    "ppd": ("decoder", "linear"),
}
"""The tasks that each value of `--stage` trains, in order."""

DEFAULT_RECIPE = "locloc"


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how a run is trained. Settings other than the precision change results by rounding errors only."""

    devices: int | None = None  # None: every GPU, or one CPU process
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "tf32", "bf16", "fp16", "auto"] = "fp32"  # auto: what `resolve_request` makes of it
    workers: int | None = None  # loading processes of each device; None: by the cores
    cache_tokens: bool = False
    checkpoint_s: float = 300.0  # between saved states within an epoch


@dataclass(frozen=True)
class TrainRequest:
    version: str  # STORE@V
    out: Path
    recipe: TrainRecipe
    recipe_name: str
    stage: str = "all"  # a key of TASK_GROUPS
    images: str | None = None  # where the images are now; None: where they were
    weights: str | None = None  # where the backbone's weights are now; None: where they were
    allow_changed_images: bool = False
    resume: bool = False
    runtime: RuntimeConfig = RuntimeConfig()
    boxes_in: str = "upright"  # "stored": true boxes were drawn before EXIF turns an image
    only: str | None = None  # a choice of rows, or a file of ids (pipeline/catalogs/row_filter.py)
    auto: str | None = None  # why `runtime.precision` was chosen, where it was


@dataclass(frozen=True)
class TrainArguments:
    """As a user gives them. None: the resumed run's, or the default."""

    version: str | None
    out: Path | None
    images: str | None = None
    stage: str | None = None
    recipe: str | TrainRecipe | None = None
    changes: tuple[str, ...] = ()
    precision: str | None = None
    cache_tokens: bool = False
    resume: bool = False
    weights: str | None = None
    allow_changed_images: bool = False
    boxes_in: str = "upright"
    only: str | None = None
    runtime: RuntimeConfig = field(default=RuntimeConfig())
    recipe_name: str = "custom"  # of a `recipe` that is a TrainRecipe


def resolve_request(given: TrainArguments) -> TrainRequest:
    """Fills in what was not given. Raises a subclass of LocLocError."""
    for value, known, option in (
        (given.stage, TASK_GROUPS, "--stage"),
        (given.precision, ("fp32", "tf32", "bf16", "fp16", "auto"), "--precision"),
    ):
        if value is not None:
            check_known(TrainError, option, value, known)
    if given.precision in ("fp16", "tf32") and given.runtime.accelerator == "cpu":
        raise TrainError("--" + needs_gpu(given.precision))
    recipe, name, before = _recipe(given)
    asked: dict[str, Any] = before.get("request", {})
    precision, why = _precision(given, before)
    cached = before.get("cache_tokens", False) if given.resume else given.runtime.cache_tokens
    settings: dict[str, Any] = {"precision": precision, "cache_tokens": given.cache_tokens or cached}
    return TrainRequest(
        _version_of(given, before),
        given.out or Path(),
        recipe,
        name,
        given.stage or asked.get("stage", "all"),
        given.images or asked.get("images"),
        given.weights or asked.get("weights"),
        given.allow_changed_images or asked.get("allow_changed_images", False),
        given.resume,
        replace(given.runtime, **settings),
        given.boxes_in if given.boxes_in != "upright" else asked.get("boxes_in", "upright"),
        given.only,
        why,
    )


def _precision(given: TrainArguments, before: dict[str, Any]) -> tuple[str, str | None]:
    """The precision, and why, if that was left to `auto`. A resumed run keeps its own."""
    own = before.get("precision", "fp32") if given.resume else given.runtime.precision
    asked = given.precision or own
    if asked != "auto":
        return asked, None
    if given.resume:
        return own, None
    auto = auto_precision(with_gpu=given.runtime.accelerator != "cpu")
    return auto.precision, auto.why


def shown_recipe(given: TrainArguments) -> str:
    """The recipe that a run would have, as TOML that loads to the same settings."""
    recipe, name, _ = _recipe(given)
    kind = "" if given.version is None else f", for data of the kind {_kind(given.version)}"
    changes = "".join(f"\n#   --set {change}" for change in given.changes)
    return f"# Training recipe {name}{kind}.{changes}\n{settings_toml(recipe)}"


def _recipe(given: TrainArguments) -> tuple[TrainRecipe, str, dict[str, Any]]:
    """The recipe, its name, and the metadata of the run that is resumed, else {}."""
    if given.resume and given.out is not None:
        from .resume import read_run, resumed_recipe

        run = read_run(given.out)
        if isinstance(given.recipe, TrainRecipe):
            return given.recipe, given.recipe_name, run.metadata
        kind = "folder" if given.recipe is None else _kind(_version_of(given, run.metadata))
        return *resumed_recipe(run, given.recipe, kind, given.changes), run.metadata
    if isinstance(given.recipe, TrainRecipe):
        return given.recipe, given.recipe_name, {}
    chosen = given.recipe or DEFAULT_RECIPE
    kind = "folder" if given.version is None else _kind(given.version)
    return load_train_recipe(chosen, kind, given.changes), Path(chosen).stem, {}


def _version_of(given: TrainArguments, before: dict[str, Any]) -> str:
    name = given.version or before.get("version")
    if name is None:
        raise TrainError("Which masks? Name STORE@VERSION, such as photos.store@latest; or --resume the run in --out")
    return str(name)


def _kind(version: str) -> str:
    return str(open_version(version).provenance["catalog"]["kind"])
