"""A trained generator as a source of maps (`masks build --from RUN`), as far as a build has to know it.

The pipeline knows no training code: the trainer implements `MapSource`, and commands, which know both, hand an
`OpenRun` to the build. Workers get the source pickled, with each task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..status import Seen

if TYPE_CHECKING:
    from torch import Tensor

    from ..backbones.vit import Backbone


class MapSource(Protocol):
    """Frozen, hashable and small."""

    @property
    def sha256(self) -> str:
        """Of the generator's weights: part of the fingerprint of masks made from its maps."""

    @property
    def backbone_name(self) -> str:
        """The ViT whose tokens the generator takes."""

    @property
    def backbone_weights(self) -> str | None:
        """Where its weights were: a file, "random", or None for the published or included ones."""

    def provenance(self) -> dict[str, Any]:
        """Where the maps come from: `run`, its `fingerprint`, the `sha256` of its weights, the `version` it learned."""

    def check_fits(self, backbone: "Backbone") -> None:
        """Raises BuildError for a backbone whose tokens the generator was not trained on."""

    def load(self, device: str) -> "Callable[[Tensor], Tensor]":
        """Patch features `(B, D, h, w) float32` > maps `(B, 8h, 8w) float32` in [0, 1].

        Loads once per process. Raises BuildError if the weights are not those of `sha256`.
        """


@dataclass(frozen=True)
class SecondRound:
    """A source of maps, and the images that it was trained on.

    seen  digest of a file (16 bytes, see `input_digest`) > Seen, of the images that the run used
    """

    source: MapSource
    seen: Mapping[bytes, int] = field(default_factory=dict)

    def codes(self, digests: np.ndarray) -> np.ndarray:
        """Digests `(n, 16) uint8` > the column `seen`, `(n,) uint8`; 0 for rows whose file was not read."""
        read = digests.any(1)
        known = [self.seen.get(digest.tobytes(), Seen.UNSEEN) for digest in digests]
        return np.where(read, np.array(known, np.uint8), 0).astype(np.uint8)


OpenRun = Callable[[Path | str, str | None], SecondRound]
"""A run's folder, and the digest its weights must have (None: any) > its maps. Raises a LocLocError."""
