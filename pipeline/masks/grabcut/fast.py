"""GrabCut's energy, minimised several times faster than by OpenCV: docs/engines.md has figures.

Colours in bins (fast_colours), a graph of the unknown pixels alone (fast_links), an exact cut (fast_cut) that starts
from the flow of the previous iteration. It uses no random numbers and ignores the seed.
"""

from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from ...config import Settings
from .engine import PriorWeight
from .fast_band import band, halve
from .trimap import too_few_pixels, trimap_foreground, weighted_log_odds

COMPONENTS = 5
FEWER_NEIGHBOURS = 1.6  # factor on gamma for 4 neighbours: an outline costs about as much as with 8
HALF_SIZE = 0.45  # factor on gamma at half size: 0.5 keeps the cost of an outline, a little less fits the truth better
SETTLED_PX = 50  # iterations end when a cut changes at most this many pixels


class FastGrabCut(Settings):
    """GrabCut by colour bins and an exact cut of the unknown pixels."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"prior_weight"})
    revision: ClassVar[int] = 2
    uses_pixels: ClassVar[bool] = True
    kernels: ClassVar[tuple[str, ...]] = tuple(f"{__package__}.fast_{name}" for name in ("colours", "cut", "links"))

    engine: Literal["fast"] = "fast"
    iterations: int = Field(1, ge=1, le=100, description="Rounds of fitting and cutting, at most.")
    neighbours: Literal[8, 4] = Field(8, description="Of a pixel; 8 is OpenCV's energy, 4 takes half the time.")
    band_px: int = Field(
        0,
        ge=0,
        le=64,
        description="If not 0, cut at half size first, then at full size only pixels this near to that outline.",
    )
    prior_weight: PriorWeight = 0.0
    gamma: float = Field(
        50.0, ge=0, le=1000, description="Price of an outline between two pixels of one colour; OpenCV's is 50."
    )

    def __call__(
        self, rgb: np.ndarray, trimap: np.ndarray, seed: int = 0, odds: np.ndarray | None = None
    ) -> np.ndarray:
        if rgb.shape != (*trimap.shape, 3):  # kernels do not check indices
            raise ValueError(f"rgb {rgb.shape} does not fit trimap {trimap.shape}")
        if self.unusable(trimap):
            return trimap_foreground(trimap)
        rgb, codes = np.require(rgb, np.uint8, ["C", "W"]), np.require(trimap, np.uint8, ["C", "W"])
        prior = weighted_log_odds(odds, self.prior_weight, codes.shape)
        if not self.band_px:
            return self._minimise(rgb, codes, prior, self.gamma, self.iterations, None)[0]
        half_rgb, half_codes = halve(rgb, codes)
        if self.unusable(half_codes):
            return self._minimise(rgb, codes, prior, self.gamma, self.iterations, None)[0]
        half = cv2.resize(prior, half_codes.shape[::-1], interpolation=cv2.INTER_AREA)
        coarse, mixtures = self._minimise(half_rgb, half_codes, half, self.gamma * HALF_SIZE, self.iterations, None)
        return self._minimise(rgb, band(codes, coarse, self.band_px), prior, self.gamma, 1, mixtures)[0]

    def unusable(self, trimap: np.ndarray) -> str | None:
        return too_few_pixels(trimap, COMPONENTS)

    def _minimise(
        self,
        rgb: np.ndarray,
        codes: np.ndarray,
        prior: np.ndarray,
        gamma: float,
        rounds: int,
        mixtures: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask `(H, W) bool`, and its mixtures, from which a next call may start. prior: `(H, W) float32`, in nats."""
        from .fast_colours import COLUMNS, compare  # numba, which is slow to import
        from .fast_cut import cut
        from .fast_links import charge, relabel

        index, colours, record, nodes, pixels = self.colours_and_graph(rgb, codes, gamma)
        mask = trimap_foreground(codes)
        labels, charged = mask.reshape(-1).view(np.uint8), np.zeros(len(nodes), np.int32)
        if first := mixtures is None:
            mixtures = np.zeros((2, COMPONENTS, COLUMNS))
        for _ in range(rounds):
            table = compare(index, colours, labels, mixtures, first)
            charge(record, nodes, pixels, charged, table, index, prior.reshape(-1))
            cut(record, nodes, codes.shape[1] + 2, self.neighbours)
            first = False
            if relabel(record, nodes, pixels, labels) <= SETTLED_PX:
                break
        return mask, mixtures

    def colours_and_graph(self, rgb: np.ndarray, codes: np.ndarray, gamma: float) -> tuple[np.ndarray, ...]:
        """Image `(H, W, 3) uint8` and trimap codes `(H, W) uint8` > colours and graph, without terminals.

        index `(H * W,)` and colours `(n, 3)` of fast_colours, record, nodes and pixels of fast_links.
        """
        from .fast_colours import index_colours
        from .fast_links import contrast, link

        gamma *= 1 if self.neighbours == 8 else FEWER_NEIGHBOURS
        index, colours = index_colours(rgb)
        return index.reshape(-1), colours, *link(rgb, codes, gamma, contrast(rgb), self.neighbours)
