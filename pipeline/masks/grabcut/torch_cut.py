"""GrabCut (Rother, Kolmogorov, Blake 2004) for many images at once on a GPU.

The energy is that of the engine `fast` with 8 neighbours: two mixtures of 5 Gaussians of binned colours, gamma. The cut
is found by a primal-dual method (torch_primal_dual.py), which bounds how far each cut may be above the least cost;
images above `max_gap` are cut again by `fast` on the CPU. On CUDA its steps are fused kernels (torch_fused.py) where
Triton is installed and finds a C compiler, and the masks and gaps of a batch are all that is read back from the device.
On a CPU images are cut one at a time, so that a mask depends on its own image alone; this is then the slowest engine.
"""

import os
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...config import Settings
from ..saliency import PROBABLE_FOREGROUND, SURE_BACKGROUND, SURE_FOREGROUND
from .engine import PriorWeight
from .fast import COMPONENTS, FastGrabCut
from .trimap import too_few_pixels, trimap_foreground, weighted_log_odds

if TYPE_CHECKING:  # schedulers import this package to unpickle tasks, and do not need torch
    import torch

    from .torch_primal_dual import Cuts

PIXELS_AT_ONCE = 256 * 224 * 224
IMAGES_AT_ONCE = 256


class TorchGrabCut(Settings):
    """GrabCut by a primal-dual cut, batched where there is a GPU."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"prior_weight"})
    revision: ClassVar[int] = 3
    uses_pixels: ClassVar[bool] = True
    kernels: ClassVar[tuple[str, ...]] = FastGrabCut.kernels

    engine: Literal["torch"] = "torch"
    iterations: int = Field(1, ge=1, le=100, description="Rounds of fitting and cutting; the paper takes one.")
    gamma: float = Field(50.0, gt=0, le=1000, description="Price of an outline between two pixels of one colour.")
    prior_weight: PriorWeight = 0.0
    coarse_steps: int = Field(100, ge=0, le=10_000, description="Most steps of the cut on each coarser level.")
    fine_steps: int = Field(
        600, ge=1, le=10_000, description="Most steps of the cut at full size: most images need 150, rough ones 300."
    )
    stop_gap: float = Field(
        0.0005, ge=0, description="A cut ends once its certified gap to the least cost is at most this share."
    )
    max_gap: float = Field(
        0.01, ge=0, description="Images whose certified gap is above this share are cut again by the engine fast."
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="Precision of the cut's iterations; half precision halves a GPU's memory traffic."
    )

    def __call__(
        self, rgb: np.ndarray, trimap: np.ndarray, seed: int = 0, odds: np.ndarray | None = None
    ) -> np.ndarray:
        return self.batch(rgb[None], trimap[None], "cpu", [seed], None if odds is None else odds[None])[0][0]

    def unusable(self, trimap: np.ndarray) -> str | None:
        return too_few_pixels(trimap, COMPONENTS)

    def batch(
        self,
        rgb: np.ndarray,
        trimaps: np.ndarray,
        device: str = "cpu",
        seeds: list[int] | None = None,
        odds: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rgb `(B, H, W, 3) uint8`, trimaps `(B, H, W) uint8` > masks `(B, H, W) bool` and gaps `(B,) float64`.

        A gap is an upper bound on how far a mask's last cut is above the least cost, as a share of its own cost; 0 for
        masks from the exact engine or from the trimap itself.
        """
        masks, gaps = self._cuts(rgb, trimaps, device, odds)
        for row in np.flatnonzero(~(gaps <= self.max_gap)):
            row_odds = None if odds is None else odds[row]
            masks[row], gaps[row] = self.exact(rgb[row], trimaps[row], seeds[row] if seeds else 0, row_odds), 0.0
        return masks, gaps

    def cut(
        self, rgb: np.ndarray, trimaps: np.ndarray, device: str = "cpu", odds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `batch`, without the images above `max_gap` > masks, and which of them are final `(B,) bool`."""
        masks, gaps = self._cuts(rgb, trimaps, device, odds)
        return masks, gaps <= self.max_gap

    def _cuts(
        self, rgb: np.ndarray, trimaps: np.ndarray, device: str, odds: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks and gaps; 0 for masks that are the trimap's own."""
        masks, gaps = trimap_foreground(trimaps), np.zeros(len(rgb))
        usable = np.array([row for row in range(len(rgb)) if not self.unusable(trimaps[row])], int)
        prior = weighted_log_odds(odds, self.prior_weight, trimaps.shape)
        pixels = trimaps[0].size if len(trimaps) else 1
        at_once = 1 if device == "cpu" else max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // pixels))
        for start in range(0, len(usable), at_once):
            rows = usable[start : start + at_once]
            masks[rows], gaps[rows] = self._cut(rgb[rows], trimaps[rows], prior[rows], device)
        return masks, gaps

    @property
    def exact(self) -> FastGrabCut:
        """The engine for images above `max_gap`. If its revision changes, so must ours."""
        return FastGrabCut(iterations=self.iterations, gamma=self.gamma, prior_weight=self.prior_weight)

    def _cut(
        self, rgb: np.ndarray, trimaps: np.ndarray, prior: np.ndarray, device: str
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from .torch_mixtures import Colours, compare

        with torch.inference_mode():
            image, codes = _on_device(rgb, device), _on_device(trimaps, device)
            log_odds = _on_device(prior, device) if self.prior_weight else 0.0
            colours, weights = Colours.of(image.flatten(1, 2)), edge_weights(image, self.gamma)
            mask = (codes == SURE_FOREGROUND) | (codes == PROBABLE_FOREGROUND)
            density = None
            for _ in range(self.iterations):
                preference, density = compare(colours, mask.flatten(1), density)
                unary = terminal_weights(codes, preference.view(codes.shape) - log_odds, self.gamma)
                cuts = self._min_cut(unary, weights)
                mask = (cuts.mask | (codes == SURE_FOREGROUND)) & (codes != SURE_BACKGROUND)
            return read_back(mask), read_back(cuts.gap)

    def _min_cut(self, unary: "torch.Tensor", weights: "torch.Tensor") -> "Cuts":
        import torch

        settings = (self.coarse_steps, self.fine_steps, self.stop_gap, getattr(torch, self.dtype))
        if unary.device.type == "cuda" and _triton_works():
            from .torch_fused import fused_min_cut

            return fused_min_cut(unary, weights, *settings)
        from .torch_primal_dual import min_cut

        return min_cut(unary, weights, *settings)


def _triton_works() -> bool:
    """Triton is installed, and the C compiler that it starts kernels with."""
    return find_spec("triton") is not None and any((os.environ.get("CC"), which("gcc"), which("clang")))


def _on_device(values: np.ndarray, device: str) -> "torch.Tensor":
    import torch

    host = torch.from_numpy(np.ascontiguousarray(values))
    return host if device == "cpu" else host.pin_memory().to(device, non_blocking=True)


def read_back(values: "torch.Tensor") -> np.ndarray:
    """The values as an array on the host. Waits for the device: the engine calls it twice a batch, and no more."""
    return values.cpu().numpy()


def edge_weights(rgb: "torch.Tensor", gamma: float) -> "torch.Tensor":
    """Rgb `(B, H, W, 3) uint8` > `(B, 4, H, W) float32`, for the edges of torch_primal_dual: METHOD 1.4."""
    import torch

    from .torch_primal_dual import OFFSETS, differences, inside

    red, green, blue = (differences(rgb[..., channel].float()).square() for channel in range(3))
    squared = red + green + blue  # whole numbers, exact in float32
    exists = inside(rgb.shape[1], rgb.shape[2], squared)
    mean = squared.sum((1, 2, 3), dtype=torch.float64) / exists.sum().clamp(min=1)
    beta = (0.5 / mean).nan_to_num(posinf=0.0)  # an image of one colour: every edge costs gamma
    weights = gamma * exists * (-beta.float()[:, None, None, None] * squared).exp()
    for kind, (dy, dx) in enumerate(OFFSETS):
        weights[:, kind] /= (dy * dy + dx * dx) ** 0.5
    return weights


def terminal_weights(codes: "torch.Tensor", preference: "torch.Tensor", gamma: float) -> "torch.Tensor":
    """Each pixel's cost as foreground minus its cost as background, `(B, H, W) float32`; 9 gamma for sure pixels.

    A pixel's 8 edges cost less than 7 gamma together, so 9 gamma fixes its side; likelihoods are clamped to it too.
    """
    import torch

    unary = preference.clamp(-9 * gamma, 9 * gamma)
    unary = torch.where(codes == SURE_FOREGROUND, -9 * gamma, unary)
    return torch.where(codes == SURE_BACKGROUND, 9 * gamma, unary).float()
