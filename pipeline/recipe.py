"""A recipe: every setting that decides what a mask looks like, frozen, from TOML, with a fingerprint.

A recipe says *what* is computed. *How* (workers, devices, checkpoints) is no part of it and never changes a mask.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .config import BuiltinRecipes, Settings, validate_settings
from .errors import RecipeError
from .io.images import MAX_PIXELS
from .masks.grabcut import AnyEngine, FastGrabCut
from .masks.saliency import SaliencySettings

BUILTIN = BuiltinRecipes(__package__)

# Raise a stage's revision when its output changes for the same input: fingerprints change, so nothing old is reused.
REVISIONS = {"decode": 1, "geometry": 1, "attention": 1, "saliency": 1, "box": 1}


class ImageSettings(Settings):
    fit: Literal["stretch", "centre_crop"] = Field(
        "stretch", description="The whole image as a square, or its central square. Stretching loses no object."
    )
    reduced_decode: bool = Field(
        False,
        description="Large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size while that covers the backbone's input "
        "and the mask: 2 to 11 times faster from 1024 px on. On such scenes masks lost 0.1 to 0.9 points of IoU.",
    )
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="An image with more pixels than this is not decoded.")


class BackboneSettings(Settings):
    name: str = Field("vit_small_patch16_224.dino", description="A timm ViT with a CLS token.")
    size_px: int = Field(224, gt=0, description="Side of its input, a multiple of its patch.")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Autocast of the forward pass.")


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

    @classmethod
    def load(cls, name_or_file: str | Path = "locloc") -> "Recipe":
        """As `load_recipe`: a built-in recipe by name, or a TOML file."""
        return load_recipe(name_or_file)

    @property
    def covers_px(self) -> int | None:
        """Smallest side of an image that may be decoded at reduced size; None: images are decoded whole."""
        return max(self.backbone.size_px, self.mask_px) if self.images.reduced_decode else None

    def with_backbone(self, name: str | None) -> "Recipe":
        """The same recipe with another backbone; None leaves it as it is."""
        if name is None:
            return self
        return self.model_copy(update={"backbone": self.backbone.model_copy(update={"name": name})})

    def fingerprint(self, **inputs: str | int | list[float]) -> str:
        """sha256 (hex) of the recipe, the stages' revisions and `inputs` (digests of the catalog, the weights, ...)."""
        revisions = REVISIONS | {f"refine.{self.refine.engine}": self.refine.revision}
        content = {"recipe": self.model_dump(mode="json"), "revisions": revisions, "inputs": inputs}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def recipe_names() -> list[str]:
    return BUILTIN.names()


def default_recipe(backbone: str | None) -> str:
    """The recipe where none is named: thresholds depend on the backbone's attention."""
    return "pocket" if backbone in (None, "pocket") else "locloc"


def load_recipe(name_or_file: str | Path = "locloc") -> Recipe:
    """A built-in recipe by name, or a TOML file (anything with a `/` or ending in `.toml`).

    Raises RecipeError with the field's name for whatever does not parse.
    """
    name = str(name_or_file)
    return validate_settings(Recipe, BUILTIN.read(name), f"Recipe {name}", RecipeError)
