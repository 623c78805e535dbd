"""Everything that decides what is trained, as frozen settings: from TOML, each with its why.

A recipe file holds settings for any data, and below `[on.KIND]` what differs for one kind of catalog (cub, ilsvrc,
synthetic, ...). `base = "locloc"` in it begins with a built-in recipe, its settings for the kind included. How a run is
made (devices, precision, workers) is no part of it.
"""

import tomllib
from typing import Any, Literal

from pydantic import Field

from ..pipeline.config import BuiltinRecipes, Settings, validate_settings
from ..pipeline.errors import RecipeError, did_you_mean
from .models.generator import BN_MOMENTUM

BUILTIN = BuiltinRecipes(__package__, "training recipe")


class FitSettings(Settings):
    """One model's way from first to last weights."""

    epochs: int = Field(20, gt=0, description="Times that every image is seen.")
    batch_size: int = Field(256, ge=2, description="Images a step, over all devices and accumulated parts.")
    accumulate: int = Field(1, gt=0, description="Parts that a device's share of a batch is cut into, to save memory.")
    optimizer: str = Field("adamw", description="Any of timm's.")
    lr_base: float = Field(5e-4, gt=0, description="Learning rate for a batch of lr_base_batch; scaled linearly.")
    lr_base_batch: int = Field(512, gt=0, description="The batch that lr_base is meant for, as in DeiT.")
    weight_decay: float = Field(0.05, ge=0, description="Not on biases and norms.")
    schedule: Literal["constant", "cosine", "multistep"] = Field("constant", description="Of the learning rate.")
    warmup_epochs: float = Field(0, ge=0, description="Of these epochs the first ones, rising from warmup_lr.")
    warmup_lr: float = Field(1e-6, ge=0, description="Not scaled by the batch.")
    min_lr: float = Field(0.0, ge=0, description="Where cosine ends; not scaled by the batch.")
    milestones: tuple[int, ...] = Field((), description="Epochs at which multistep multiplies by 0.1.")
    clip_norm: float = Field(0.0, ge=0, description="Largest norm of the gradient; 0: not clipped.")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Average of the weights that is evaluated and kept; 0: none.")
    compile: bool = Field(False, description="torch.compile: faster on a GPU after a minute of compiling.")

    @property
    def lr(self) -> float:
        """Of this batch."""
        return self.lr_base * self.batch_size / self.lr_base_batch


class GeneratorSettings(Settings):
    """GEG: patch tokens > mask."""

    kind: Literal["paper", "tapered"] = Field("tapered", description="tapered has a twelfth of paper's arithmetic.")
    wiring: Literal["mended", "published"] = Field("mended", description="published leaves 23,232 parameters dead.")
    bn_momentum: float = Field(BN_MOMENTUM, gt=0, lt=1, description="Of the UNet; the published 0.01 lags behind.")
    resize_px: int = Field(256, gt=0, description="Side of the square that a random one of the backbone's is cut from.")
    flip: bool = Field(True, description="Left and right, for half of the images.")
    fit: FitSettings = FitSettings()


class ClassifierSettings(Settings):
    """LFDM: tokens of mask-enhanced images, before any block of the ViT or after the shared ones > class."""

    enhance: bool = Field(True, description="Blacken what is outside of the mask and of a random box (training only).")
    resize_px: int = Field(256, gt=0, description="Side of the square that masks and random boxes are laid on.")
    randaugment: str = Field("rand-m9-mstd0.5-inc1", description="timm's policy; empty: none.")
    crop_scale: tuple[float, float] = Field((0.08, 1.0), description="Share of the square that a random crop shows.")
    flip: bool = Field(True, description="Left and right, for half of the images.")
    keep_tokens: float = Field(
        1.0, ge=0, le=1, description="Share of patch tokens that GEG's map keeps; 0, 1: all. Best without enhance."
    )
    shared_blocks: float = Field(
        0.0, ge=0, lt=1, description="Share of blocks, the first ones, that are the frozen ViT's. Best without enhance."
    )
    fit: FitSettings = FitSettings(epochs=100, lr_base=7.5e-5, schedule="cosine", warmup_epochs=5, min_lr=1e-5)


class DecoderSettings(Settings):
    """PPD's decoder: normed patch tokens > mask."""

    size_px: int = Field(256, gt=0, description="Side of the backbone's input: 256 gives 16 x 16 tokens and 64 x 64.")
    fit: FitSettings = FitSettings(
        epochs=300, batch_size=256, optimizer="adam", lr_base=1e-3, lr_base_batch=256, weight_decay=0.0,
        schedule="multistep", milestones=(111,),
    )  # fmt: skip


class LinearSettings(Settings):
    """PPD's classifier: CLS of the last 4 blocks > class."""

    resize_px: int = Field(256, gt=0, description="Side of the square that crops are taken from.")
    crop_scale: tuple[float, float] = Field((0.08, 1.0), description="Share of the square that a random crop shows.")
    flip: bool = Field(True, description="Left and right, for half of the images.")
    fit: FitSettings = FitSettings(
        epochs=100, batch_size=256, optimizer="sgd", lr_base=1e-3, lr_base_batch=256, weight_decay=0.0,
        schedule="cosine",
    )  # fmt: skip


class TrainRecipe(Settings):
    """The settings of `locloc train`. Defaults are those of the recipe `locloc`."""

    seed: int = Field(0, ge=0, description="Of first weights, order, crops and augmentation.")
    val_share: float = Field(0.1, gt=0, lt=1, description="Of `train`, class by class, where the data have no `val`.")
    generator: GeneratorSettings = GeneratorSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    decoder: DecoderSettings = DecoderSettings()
    linear: LinearSettings = LinearSettings()

    @classmethod
    def load(cls, name_or_file: str = "locloc", kind: str = "folder", changes: tuple[str, ...] = ()) -> "TrainRecipe":
        """As `load_train_recipe`: a built-in recipe by name, or a TOML file, for one kind of catalog."""
        return load_train_recipe(name_or_file, kind, changes)


def recipe_names() -> list[str]:
    return BUILTIN.names()


def load_train_recipe(name_or_file: str = "locloc", kind: str = "folder", changes: tuple[str, ...] = ()) -> TrainRecipe:
    """A built-in recipe by name or a TOML file, for one kind of catalog, with `section.field=value` on top.

    Values of `changes` are TOML; what is not is taken as text. Raises RecipeError with the field's name.
    """
    content = TrainRecipe().model_dump()  # what the file does not name keeps its default
    given = BUILTIN.read(name_or_file)
    if (base := given.pop("base", None)) is not None:
        if base not in recipe_names():
            raise RecipeError(f"Recipe {name_or_file}: base: no built-in training recipe {base!r}{_known(base)}")
        content = load_train_recipe(base, kind).model_dump()
    of_kinds = given.pop("on", {})
    _lay_over(content, given)
    _lay_over(content, _of_kind(of_kinds, kind, name_or_file))
    for change in changes:
        _lay_over(content, _parsed(change))
    return validate_settings(TrainRecipe, content, f"Recipe {name_or_file}", RecipeError)


def _of_kind(of_kinds: Any, kind: str, name_or_file: str) -> dict[str, Any]:
    """The settings below `[on.KIND]`."""
    settings = of_kinds.get(kind, {}) if isinstance(of_kinds, dict) else of_kinds
    if not isinstance(settings, dict):
        raise RecipeError(f"Recipe {name_or_file}: on: write settings for one kind of data below [on.{kind}]")
    return settings


def _known(name: object) -> str:
    return did_you_mean(str(name), recipe_names())


def _parsed(change: str) -> dict[str, Any]:
    name, equals, value = change.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {change!r}: write it as generator.fit.epochs=5")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(name.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def _lay_over(content: dict[str, Any], settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, dict) and isinstance(content.get(name), dict):
            _lay_over(content[name], value)
        else:
            content[name] = value
