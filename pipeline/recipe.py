"""A recipe: every setting that decides what a mask looks like, frozen, from TOML, with a fingerprint.

A recipe says *what* is computed. *How* (workers, devices, checkpoints) is no part of it and never changes a mask.

A file may leave settings out. They are then those of the built-in recipe that it names as `base = "NAME"`, else of the
default recipe for its backbone; `locloc masks refine` takes them from the version that it refines.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from .backbones.spec import canonical_name
from .config import BuiltinRecipes, Settings, is_recipe_file, merge_settings, validate_settings
from .errors import RecipeError, StoreError, check_known
from .io.decoding.pixel_limit import MAX_PIXELS
from .masks.grabcut import AnyEngine, FastGrabCut
from .masks.saliency import GENERATOR_MAPS, SaliencySettings

BUILTIN = BuiltinRecipes(__package__)

# Raise a stage's revision when its output changes for the same input: fingerprints change, so nothing old is reused.
REVISIONS = {"decode": 2, "geometry": 2, "attention": 1, "saliency": 1, "box": 1}

# Older revisions that this release computes too: versions and builds that have them are derived and resumed by them.
# decode 1: large JPEGs whole. geometry 1: resampled by Pillow.
KEPT_REVISIONS = {"decode": (1,), "geometry": (1,)}


class ImageSettings(Settings):
    fit: Literal["stretch", "centre_crop"] = Field(
        "stretch", description="The whole image as a square, or its central square. Stretching loses no object."
    )
    reduced_decode: bool = Field(
        False,
        description="JPEGs are decoded at 1/2, 1/4 or 1/8 of their size while that covers the backbone's input and the "
        "mask: masks of large scenes lost 0.1 to 0.9 points of IoU. false: while that covers them twice, where pixels "
        "of the square move by 0.2 to 0.4 levels on average.",
    )
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="An image with more pixels than this is not decoded.")
    decoder: Literal["pillow", "nvjpeg"] = Field(
        "pillow",
        description="nvjpeg: GPU workers decode upright baseline JPEGs in grey or YCbCr, whole, and Pillow the others; "
        "masks differ a little. It needs a GPU wherever images are read, in `masks refine` too.",
    )

    ADDED: ClassVar[frozenset[str]] = frozenset({"decoder"})


Precision = Literal["fp32", "tf32", "bf16", "fp16", "auto"]

GENERATOR_TOO = "attention+contrast+generator"
"""The value of `backbone.maps` that keeps a generator's maps."""


class BackboneSettings(Settings):
    name: str = Field("vit_small_patch16_224.dino", description="A timm ViT with a CLS token.")
    size_px: int = Field(224, gt=0, description="Side of its input, a multiple of its patch.")
    precision: Precision = Field(
        "fp32",
        description="Of the matrix products; sums and norms are fp32. fp32 is IEEE's on GPUs too; tf32, on GPUs alone, "
        "rounds what is multiplied. auto: bf16 where the CPU has AMX, or the GPU has bf16; a version records which it "
        "was.",
    )
    maps: Literal["attention", "attention+contrast", "attention+contrast+generator"] = Field(
        "attention",
        description="What is kept of an image: CLS attention of the last block's heads; or also the contrast map, how "
        "much more each patch looks like the attended patches than like the others; or also the map of the trained "
        "generator that `masks build --from RUN` names.",
    )

    ADDED: ClassVar[frozenset[str]] = frozenset({"maps"})

    @property
    def contrast_maps(self) -> int:
        """How many contrast maps follow those of the heads in a store: 1 or 0."""
        return int(self.maps != "attention")

    @property
    def generator_maps(self) -> int:
        """How many maps follow those: 64, in which the map of a generator is packed, or 0."""
        return GENERATOR_MAPS * (self.maps == GENERATOR_TOO)

    @field_validator("name")
    @classmethod
    def _canonical(cls, name: str) -> str:
        """One name for one backbone, because the name is part of the fingerprint."""
        return canonical_name(name)


class Recipe(Settings):
    """The settings of `locloc masks build`. Defaults are those of the recipe `locloc`."""

    images: ImageSettings = ImageSettings()
    backbone: BackboneSettings = BackboneSettings()
    saliency: SaliencySettings = SaliencySettings()
    refine: Annotated[AnyEngine, Field(discriminator="engine")] = FastGrabCut()
    mask_px: int = Field(256, ge=16, le=4096, description="Side of a mask, and of the image GrabCut sees.")
    seed: int = Field(0, ge=0, description="Mixed with each image's id into the seed of its refinement.")

    @model_validator(mode="after")
    def _packable(self) -> "Recipe":
        if self.mask_px % 8:
            raise ValueError("mask_px must be a multiple of 8: masks are stored as bits")
        return self

    @model_validator(mode="after")
    def _has_its_map(self) -> "Recipe":
        if self.saliency.strategy == "contrast" and not self.backbone.contrast_maps:
            raise ValueError("saliency.strategy = 'contrast' needs backbone.maps = 'attention+contrast'")
        if self.saliency.strategy == "generator" and not self.backbone.generator_maps:
            raise ValueError("saliency.strategy = 'generator' needs backbone.maps = 'attention+contrast+generator'")
        return self

    @classmethod
    def load(cls, name_or_file: str | Path = "locloc") -> "Recipe":
        """A built-in recipe by name, or a TOML file, filled up as `locloc masks build --recipe FILE` does.

        Raises RecipeError with the field's name for whatever does not parse.
        """
        return read_recipe(name_or_file).for_backbone(None)

    def covers_px(self, revision: int = REVISIONS["decode"]) -> int | None:
        """The side that a JPEG decoded at reduced size still has at least; None: images are decoded whole.

        revision  of the stage `decode`
        """
        needed = max(self.backbone.size_px, self.mask_px)
        if self.images.reduced_decode:
            return needed
        return None if revision == 1 else 2 * needed

    def with_backbone(self, name: str | None) -> "Recipe":
        """The same recipe with another backbone; None leaves it as it is."""
        if name is None:
            return self
        return self.model_copy(update={"backbone": self.backbone.model_copy(update={"name": canonical_name(name)})})

    def with_precision(self, precision: str | None) -> "Recipe":
        """The same recipe at another precision; None leaves it as it is. Raises RecipeError for an unknown one."""
        if precision is None:
            return self
        check_known(RecipeError, "precision", precision, get_args(Precision))
        return self.model_copy(update={"backbone": self.backbone.model_copy(update={"precision": precision})})

    def revisions(self, stages: Mapping[str, int] = REVISIONS) -> dict[str, int]:
        """The revisions of all stages, with the engine's."""
        return {**stages, f"refine.{self.refine.engine}": self.refine.revision}

    def fingerprint(self, stages: Mapping[str, int] = REVISIONS, **inputs: str | int | list[float]) -> str:
        """sha256 (hex) of the recipe, the stages' revisions and `inputs` (digests of the catalog, the weights, ...)."""
        content = {"recipe": self.identity(), "revisions": self.revisions(stages), "inputs": inputs}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def recipe_names() -> list[str]:
    return BUILTIN.names()


def default_recipe(backbone: str | None) -> str:
    """The recipe where none is named: thresholds depend on the backbone's attention."""
    return "pocket" if backbone is None or canonical_name(backbone) == "pocket" else "contrast"


LEVELS = frozenset({"foreground_from", "background_below", "threshold", "heads"})
"""Settings of `saliency` whose meaning its `strategy` decides."""


@dataclass(frozen=True)
class RecipeSource:
    """What a recipe's name stands for: the settings that its TOML sets, before others are filled up. See `read_recipe`.

    base  the built-in recipe that it names as its `base`
    """

    name_or_file: str
    settings: dict[str, Any]
    base: str | None

    @property
    def is_file(self) -> bool:
        return is_recipe_file(self.name_or_file)

    @property
    def backbone(self) -> str | None:
        """The backbone that its settings name."""
        section = self.settings.get("backbone")
        name = section.get("name") if isinstance(section, dict) else None
        return name if isinstance(name, str) else None

    def start(self, backbone: str | None) -> str | None:
        """The built-in recipe that fills up a file for a backbone: its base, else the default. None: it is built in.

        Thresholds and heads without a `strategy` are the paper's: `locloc` fills up such a file, not a recipe whose
        thresholds have another unit.

        backbone  the backbone to be used; None: the file's own
        """
        if self.base is not None or not self.is_file:
            return self.base
        start, own = default_recipe(backbone or self.backbone), self.settings.get("saliency", {})
        in_paper_s_unit = isinstance(own, dict) and "strategy" not in own and not LEVELS.isdisjoint(own)
        return "locloc" if start == "contrast" and in_paper_s_unit else start

    def for_backbone(self, backbone: str | None) -> Recipe:
        """The recipe as `locloc masks build` takes it: filled up from `start`, with this backbone; None: its own."""
        start = self.start(backbone)
        return self.on(load_recipe(start) if start is not None else None).with_backbone(backbone)

    def on(self, start: Recipe | None) -> Recipe:
        """The recipe whose other settings are those of `start`. None: the classes' defaults, which are `locloc`'s."""
        content = self.settings if start is None else merge_settings(Recipe, start.model_dump(), self.settings)
        return validate_settings(Recipe, content, f"Recipe {self.name_or_file}", RecipeError)


def recorded_recipe(metadata: dict[str, Any], where: str) -> Recipe:
    """The recipe in the provenance of a version or build. Settings that an older release did not have are defaults.

    where  names the version in errors

    Raises RecipeError for settings of another release.
    """
    return validate_settings(Recipe, metadata["recipe"], f"Recipe of {where}", RecipeError, suggest=False)


def recorded_revisions(metadata: dict[str, Any]) -> dict[str, int]:
    """The stages' revisions by which this release derives versions of a version or build: its own where it has them."""
    recorded = metadata["revisions"]
    kept = {stage: recorded[stage] for stage, older in KEPT_REVISIONS.items() if recorded.get(stage) in older}
    return REVISIONS | kept


IMPORTED = "masks were imported; of the recipe only fit, size and backbone have a meaning"
"""Why an imported version has its recipe, in its provenance and in that of what was decided about it."""


def are_imported(metadata: dict[str, Any]) -> bool:
    """True for the masks of `masks import`, also after `masks decide`: there is no attention to make others from."""
    return metadata.get("operation", {}).get("kind") == "import" or metadata.get("recipe_why") == IMPORTED


def built_recipe(metadata: dict[str, Any], where: str) -> Recipe:
    """As `recorded_recipe`, for what needs attention. Raises StoreError for imported masks, which have none."""
    if are_imported(metadata):
        raise StoreError(
            f"{where} holds imported masks, and no attention to make others from; `locloc masks import` takes "
            "corrected ones, `locloc masks build` makes masks of the same images"
        )
    return recorded_recipe(metadata, where)


def read_recipe(name_or_file: str | Path) -> RecipeSource:
    """A built-in recipe by name, or a TOML file (anything with a `/` or ending in `.toml`), not yet filled up.

    Raises RecipeError for an unknown name or base, or a file that cannot be read or is not TOML.
    """
    name = str(name_or_file)
    settings = BUILTIN.read(name)
    base = BUILTIN.take_base(settings, name)
    return RecipeSource(name, settings, base)


def load_recipe(name_or_file: str | Path = "locloc") -> Recipe:
    """As `Recipe.load`, but a file that names neither a base nor a backbone has `locloc`'s settings.

    Raises RecipeError with the field's name for whatever does not parse.
    """
    source = read_recipe(name_or_file)
    start = source.start(None) if source.base or source.backbone else None
    return source.on(load_recipe(start) if start is not None else None)
