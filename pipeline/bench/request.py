"""What `locloc bench --masks` is asked. Imports no torch, so that a mistake is told at once."""

import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import BenchError
from ..inspect.ground_truth.masks import check_truth


@dataclass(frozen=True)
class MaskBenchRequest:
    """`images` None: synthetic scenes. `truth` None: no truth for `images`. `count` 0: all images."""

    images: Path | None = None
    truth: Path | None = None
    count: int = 25
    size_px: int = 256
    vit_images_s: float = 3600.0  # of a node's one GPU: assumed, not measured
    truth_class: str | None = None  # what is object in the masks of `truth`; None: by what they hold

    def check(self) -> None:
        """Raises BenchError and TruthError for what can be known to be wrong before the work."""
        if self.truth is not None and self.images is None:
            raise BenchError(f"--truth {self.truth} are masks of which images? Give their folder with --images")
        if not 0 < self.vit_images_s < math.inf:
            raise BenchError(f"--vit-images-s {self.vit_images_s:g} is no speed: images a second, more than 0")
        if self.images is None and not self.count:
            raise BenchError("--count 0 takes all images of --images; of made scenes there is no end, so give a number")
        check_truth(self.truth, self.truth_class)
