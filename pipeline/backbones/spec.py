"""Which backbone, as data: whoever only passes it on need not import torch."""

from dataclasses import dataclass
from typing import Any


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


def recorded_weights(backbone: dict[str, Any]) -> str | None:
    """What provenance says of a backbone > the `weights` of its spec: None for the published or bundled ones."""
    return None if backbone["weights"] in ("hub", "bundled") else backbone["weights"]
