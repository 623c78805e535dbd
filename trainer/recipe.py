"""Training recipes: all settings that decide the result of a training run, frozen, read from TOML.

A recipe file holds settings for any data, and below `[on.KIND]` those that differ for one kind of catalog (cub, ilsvrc,
synthetic, ...). `base = "locloc"` starts from a built-in recipe, including its settings for the kind. Devices,
precision and workers are not part of a recipe.
"""

import tomllib
from typing import Any, Literal

from pydantic import Field

from ..pipeline.config import BuiltinRecipes, Settings, merge_settings, validate_settings
from ..pipeline.errors import RecipeError
from .models import BN_MOMENTUM

BUILTIN = BuiltinRecipes(__package__, "training recipe")


class FitSettings(Settings):
    """Optimisation of one model."""

    epochs: int = Field(20, gt=0, description="Passes over the training images.")
    batch_size: int = Field(256, ge=2, description="Images per step, over all devices and accumulated parts.")
    accumulate: int = Field(
        1, gt=0, description="Parts that a device splits its share of a batch into, to save memory."
    )
    optimizer: str = Field("adamw", description="Name of a timm optimizer.")
    lr_base: float = Field(5e-4, gt=0, description="Learning rate for a batch of lr_base_batch; scaled linearly.")
    lr_base_batch: int = Field(512, gt=0, description="Batch size that lr_base is given for, as in DeiT.")
    weight_decay: float = Field(0.05, ge=0, description="Not applied to biases and norms.")
    schedule: Literal["constant", "cosine", "multistep"] = Field("constant", description="Learning-rate schedule.")
    warmup_epochs: float = Field(0, ge=0, description="Linear warm-up from warmup_lr, part of epochs.")
    warmup_lr: float = Field(1e-6, ge=0, description="Not scaled by the batch size.")
    min_lr: float = Field(0.0, ge=0, description="Final rate of cosine; not scaled by the batch size.")
    milestones: tuple[int, ...] = Field((), description="Epochs at which multistep multiplies by 0.1.")
    clip_norm: float = Field(0.0, ge=0, description="Gradients are clipped to this norm; 0: not clipped.")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Moving average of the weights, which is validated and saved; 0: none."
    )
    compile: bool = Field(False, description="torch.compile: faster on a GPU after a minute of compiling.")

    @property
    def lr(self) -> float:
        """Learning rate at `batch_size`."""
        return self.lr_base * self.batch_size / self.lr_base_batch


class GeneratorSettings(Settings):
    """GEG: patch tokens > mask."""

    kind: Literal["paper", "tapered"] = Field("tapered", description="tapered has a twelfth of paper's arithmetic.")
    wiring: Literal["mended", "published"] = Field("mended", description="published leaves 23,232 parameters dead.")
    bn_momentum: float = Field(
        BN_MOMENTUM, gt=0, lt=1, description="Batch-norm momentum of the UNet; the published 0.01 adapts too slowly."
    )
    resize_px: int = Field(
        256, gt=0, description="Side of the square from which the backbone's input is cropped at random."
    )
    flip: bool = Field(True, description="Horizontal flip of half of the images.")
    fit: FitSettings = FitSettings()


class ClassifierSettings(Settings):
    """LFDM: tokens of mask-enhanced images, before any block of the ViT or after the shared ones > class."""

    enhance: bool = Field(True, description="Blacken all but the mask and a random box (training only).")
    resize_px: int = Field(256, gt=0, description="Side of the square on which masks and random boxes are applied.")
    randaugment: str = Field("rand-m9-mstd0.5-inc1", description="timm policy; empty: none.")
    crop_scale: tuple[float, float] = Field((0.08, 1.0), description="Area of a random crop as a share of the square.")
    flip: bool = Field(True, description="Horizontal flip of half of the images.")
    keep_tokens: float = Field(
        1.0, ge=0, le=1, description="Share of patch tokens that GEG's map selects; 0, 1: all. Best without enhance."
    )
    shared_blocks: float = Field(
        0.0, ge=0, lt=1, description="Share of LFDM's first blocks that are the frozen ViT's. Best without enhance."
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

    resize_px: int = Field(256, gt=0, description="Side of the square from which crops are taken.")
    crop_scale: tuple[float, float] = Field((0.08, 1.0), description="Area of a random crop as a share of the square.")
    flip: bool = Field(True, description="Horizontal flip of half of the images.")
    fit: FitSettings = FitSettings(
        epochs=100, batch_size=256, optimizer="sgd", lr_base=1e-3, lr_base_batch=256, weight_decay=0.0,
        schedule="cosine",
    )  # fmt: skip


class DataSettings(Settings):
    """Which masks are learned from; models of classes do not depend on it."""

    min_quality: float = Field(
        0.0, ge=0, le=1, description="Masks of a lower quality (masks/quality) teach nothing; 0: all do."
    )
    weighting: Literal["none", "quality"] = Field(
        "none", description="quality: a mask's loss counts by the square of its quality."
    )


class TrainRecipe(Settings):
    """The settings of `locloc train`. Defaults are those of the recipe `locloc`."""

    seed: int = Field(0, ge=0, description="Seed of initial weights, order, crops and augmentation.")
    val_share: float = Field(
        0.1, gt=0, lt=1, description="Share of each class in `train` for validation, if the data have no `val`."
    )
    data: DataSettings = Field(DataSettings(), description="Which masks are learned from, and how much each counts.")
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
    """Loads a built-in recipe by name or a TOML file, for one kind of catalog.

    changes  settings on top, `section.field=value`; a value that is not TOML is taken as text

    Raises RecipeError with the field's name.
    """
    content = TrainRecipe().model_dump()  # defaults of the fields that the file does not set
    file_content = BUILTIN.read(name_or_file)
    if (base := BUILTIN.take_base(file_content, name_or_file)) is not None:
        content = load_train_recipe(base, kind).model_dump()
    by_kind = file_content.pop("on", {})
    content = merge_settings(TrainRecipe, content, file_content)
    content = merge_settings(TrainRecipe, content, _settings_of_kind(by_kind, kind, name_or_file))
    return validate_settings(TrainRecipe, apply_changes(content, changes), f"Recipe {name_or_file}", RecipeError)


def apply_changes(content: dict[str, Any], changes: tuple[str, ...]) -> dict[str, Any]:
    """The content of a recipe with `section.field=value` set. Raises RecipeError."""
    for change in changes:
        content = merge_settings(TrainRecipe, content, _parse_change(change))
    return content


def _settings_of_kind(by_kind: Any, kind: str, name_or_file: str) -> dict[str, Any]:
    """The settings below `[on.KIND]`."""
    settings = by_kind.get(kind, {}) if isinstance(by_kind, dict) else by_kind
    if not isinstance(settings, dict):
        raise RecipeError(f"Recipe {name_or_file}: on: write settings for one kind of data below [on.{kind}]")
    return settings


def _parse_change(change: str) -> dict[str, Any]:
    """`a.b=value` > `{"a": {"b": value}}`."""
    name, equals, value = change.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {change!r}: write it as generator.fit.epochs=5")
    try:
        nested = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        nested = {"value": value.strip()}
    *sections, field = name.strip().split(".")
    nested = {field: nested["value"]}
    for section in reversed(sections):
        nested = {section: nested}
    return nested
