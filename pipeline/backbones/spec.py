"""Which backbone, as data: no import of torch for code that only passes it on."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BackboneError


@dataclass(frozen=True)
class BackboneSpec:
    """Everything needed to create the same backbone in another process.

    `weights` is None for those published under the name, `"random"`, or a file. `sha256` is None, or the hash that the
    loaded weights must have.
    """

    name: str
    size_px: int = 224
    precision: str = "fp32"
    weights: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", canonical_name(self.name))


BUNDLED_NAMES = ("pocket",)
"""Backbones that ship with the package."""


def canonical_name(name: str) -> str:
    """One name for a backbone that has several: `hf_hub:timm/NAME`, `hf-hub:timm/NAME` and `timm/NAME` are timm's NAME.

    A model of another owner is `hf-hub:OWNER/NAME`.
    """
    hub = re.fullmatch(r"(?i:hf[-_]hub):/*(.+)", name, re.DOTALL)
    path = hub[1] if hub else name
    own = path.removeprefix("timm/")
    canonical = own if own != path or hub is None else f"hf-hub:{path}"
    return canonical if canonical == name else canonical_name(canonical)


# What a part of a name says about how a ViT was trained. In this order: DINOv2's names hold DINO's.
_FAMILIES = {"dinov3": "DINOv3", "dinov2": "DINOv2", ".dino": "DINO"}


def backbone_family(name: str) -> str:
    """Backbones whose attention has alike levels, so that thresholds chosen on one hold for another.

    `DINO`, `DINOv2` or `DINOv3`; any other backbone is a family of its own, by its name.
    """
    return next((family for part, family in _FAMILIES.items() if part in name), name)


def check_weights_file(file: Path) -> None:
    """Raises BackboneError for a file of weights that is missing, or a folder."""
    if os.path.isdir(file):
        raise BackboneError(f"{file} is a folder; name a file of weights")
    if not os.path.isfile(file):
        raise BackboneError(f"No weights file {file}")


def recorded_weights(backbone: dict[str, Any]) -> str | None:
    """A backbone's entry in provenance > the `weights` of its spec: None for published or bundled ones."""
    return None if backbone["weights"] in ("hub", "bundled") else backbone["weights"]
