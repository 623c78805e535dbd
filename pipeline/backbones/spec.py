"""Which backbone, as data: no import of torch for code that only passes it on."""

from dataclasses import dataclass
from typing import Any


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


def recorded_weights(backbone: dict[str, Any]) -> str | None:
    """A backbone's entry in provenance > the `weights` of its spec: None for published or bundled ones."""
    return None if backbone["weights"] in ("hub", "bundled") else backbone["weights"]
