"""What a refinement engine is: image and trimap > mask."""

from typing import Annotated, ClassVar, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

PriorWeight = Annotated[
    float,
    Field(
        ge=0,
        le=100,
        description="Weight of the attention's log odds beside the colours' log likelihoods; 0: attention only makes "
        "the trimap.",
    ),
]
"""The setting of engines that use `odds`."""


@runtime_checkable
class Engine(Protocol):
    """A frozen settings class whose instances are called.

    revision     raised whenever the same arguments give another mask
    uses_pixels  False for an engine that never reads rgb
    """

    revision: ClassVar[int]
    uses_pixels: ClassVar[bool]

    def __call__(
        self, rgb: np.ndarray, trimap: np.ndarray, seed: int = 0, odds: np.ndarray | None = None
    ) -> np.ndarray:
        """Rgb `(H, W, 3) uint8`, trimap `(H, W) uint8` in OpenCV's codes > mask `(H, W) bool`.

        odds  (H, W) float32, each pixel's odds of foreground before its colour is seen, above 0; only an engine with a
              `prior_weight` uses them

        Codes: 0 sure background, 1 sure foreground, 2 probable background, 3 probable foreground. The mask depends on
        the arguments alone, not on earlier calls. Any trimap has a mask: the trimap's own foreground if the engine
        cannot run on it.
        """
        ...

    def unusable(self, trimap: np.ndarray) -> str | None:
        """Why the engine cannot run on the trimap, or None. The build asks first and records the reason in the row."""
        ...


@runtime_checkable
class BatchEngine(Engine, Protocol):
    """An engine that takes a whole block's images at once on a GPU."""

    @property
    def exact(self) -> Engine:
        """The engine for images that `cut` leaves."""
        ...

    def cut(
        self, rgb: np.ndarray, trimaps: np.ndarray, device: str = "cpu", odds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rgb `(B, H, W, 3) uint8`, trimaps `(B, H, W) uint8` > masks `(B, H, W) bool`; `(B,) bool`: which are final.

        odds  (B, H, W) float32, as of `Engine`
        """
        ...

    def batch(
        self,
        rgb: np.ndarray,
        trimaps: np.ndarray,
        device: str = "cpu",
        seeds: list[int] | None = None,
        odds: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `cut`, with all masks final > masks `(B, H, W) bool` and gaps `(B,) float64`.

        A gap is an upper bound on how far the mask's cut is above the least cost, as a share of its own cost.
        """
        ...
