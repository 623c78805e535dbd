"""Which backbone: told apart from `backbone.py`, so that who only passes it on need not import torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneSpec:
    """What it takes to make the same backbone in another process.

    `weights` is None for those published under the name, `"random"`, or a file; `sha256`, once known, is checked.
    """

    name: str
    size_px: int = 224
    precision: str = "fp32"
    weights: str | None = None
    sha256: str | None = None
