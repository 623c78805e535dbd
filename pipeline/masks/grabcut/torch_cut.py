"""GrabCut (Rother, Kolmogorov, Blake 2004) in plain torch operations, for many images at once on a GPU.

The energy is OpenCV's: two mixtures of 5 Gaussians, gamma, 8 neighbours. The cut is found by a primal-dual method
(torch_primal_dual.py), which says how far each may be from the best; those that are too far are done by an exact engine
on the CPU. On a CPU images go one at a time, so that a mask depends on nothing else, and this is the slowest engine.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...config import Settings
from ..saliency import SURE_BACKGROUND, SURE_FOREGROUND
from .fast import COMPONENTS, FastGrabCut
from .trimap import too_few_pixels, trimap_foreground

if TYPE_CHECKING:  # schedulers import this package to unpickle tasks, and need no torch
    import torch

PIXELS_AT_ONCE = 64 * 256 * 256  # some 3 GB on the device, mixtures included


class TorchGrabCut(Settings):
    """GrabCut by a primal-dual cut, batched where there is a GPU."""

    revision: ClassVar[int] = 2
    uses_pixels: ClassVar[bool] = True
    kernels: ClassVar[tuple[str, ...]] = FastGrabCut.kernels

    engine: Literal["torch"] = "torch"
    iterations: int = Field(1, ge=1, le=100, description="Rounds of fitting and cutting; the paper takes one.")
    gamma: float = Field(50.0, gt=0, le=1000, description="What a boundary costs between two pixels of one colour.")
    coarse_steps: int = Field(100, ge=0, le=10_000, description="Of the cut, at most, on each coarser level.")
    fine_steps: int = Field(
        600, ge=1, le=10_000, description="Of the cut, at most, at full size: most are done after 150, rough ones 300."
    )
    stop_gap: float = Field(
        0.0005, ge=0, description="A cut that is surely no further than this share above the least cost is done."
    )
    max_gap: float = Field(
        0.01, ge=0, description="Images whose cut may be further than this share from the best are done by fast."
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="In which the cut is iterated; half precision halves a GPU's memory traffic."
    )

    def __call__(self, rgb: np.ndarray, trimap: np.ndarray, seed: int = 0) -> np.ndarray:
        return self.batch(rgb[None], trimap[None], "cpu", [seed])[0][0]

    def unusable(self, trimap: np.ndarray) -> str | None:
        return too_few_pixels(trimap, COMPONENTS)

    def batch(
        self, rgb: np.ndarray, trimaps: np.ndarray, device: str = "cpu", seeds: list[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rgb `(B, H, W, 3) uint8`, trimaps `(B, H, W) uint8` > masks `(B, H, W) bool` and gaps `(B,) float64`.

        A gap is how far a mask's last cut may be above the least cost, as a share of its own; 0 where an exact engine
        or the trimap itself gave the mask.
        """
        masks, gaps = trimap_foreground(trimaps), np.zeros(len(rgb))
        usable = np.array([row for row in range(len(rgb)) if not self.unusable(trimaps[row])], int)
        at_once = 1 if device == "cpu" else max(1, PIXELS_AT_ONCE // (trimaps[0].size if len(trimaps) else 1))
        for start in range(0, len(usable), at_once):
            rows = usable[start : start + at_once]
            masks[rows], gaps[rows] = self._cut(rgb[rows], trimaps[rows], device)
        for row in np.flatnonzero(~(gaps <= self.max_gap)):
            masks[row], gaps[row] = self.exact(rgb[row], trimaps[row], seeds[row] if seeds else 0), 0.0
        return masks, gaps

    @property
    def exact(self) -> FastGrabCut:
        """The engine that does what a certificate does not vouch for. A new revision of it is a new one of ours."""
        return FastGrabCut(iterations=self.iterations, gamma=self.gamma)

    def _cut(self, rgb: np.ndarray, trimaps: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from .torch_mixtures import first_components, fit, likeliest_components, log_likelihoods, products
        from .torch_primal_dual import min_cut

        with torch.inference_mode():
            image = torch.from_numpy(np.ascontiguousarray(rgb)).to(device)
            codes = torch.from_numpy(np.ascontiguousarray(trimaps)).to(device)
            features, weights = products(image.flatten(1, 2)), edge_weights(image, self.gamma)
            mask = torch.from_numpy(trimap_foreground(trimaps)).to(device)
            fitted = fit(features, first_components(features, mask.flatten(1)))
            for _ in range(self.iterations):
                fitted = fit(features, likeliest_components(features, fitted, mask.flatten(1)))
                background, foreground = log_likelihoods(features, fitted)
                unary = terminal_weights(codes, (background - foreground).view(codes.shape), self.gamma)
                cuts = min_cut(
                    unary, weights, self.coarse_steps, self.fine_steps, self.stop_gap, getattr(torch, self.dtype)
                )
                mask = (cuts.mask | (codes == SURE_FOREGROUND)) & (codes != SURE_BACKGROUND)
            return mask.cpu().numpy(), cuts.gap.cpu().numpy()


def edge_weights(rgb: "torch.Tensor", gamma: float) -> "torch.Tensor":
    """Rgb `(B, H, W, 3) uint8` > `(B, 4, H, W) float32`, for the edges of torch_primal_dual: METHOD 1.4."""
    from .torch_primal_dual import differences, inside

    squared = sum(differences(rgb[..., channel].double()).square() for channel in range(3))
    there = inside(*rgb.shape[1:3], squared)
    mean = squared.sum((1, 2, 3)) / there.sum().clamp(min=1)
    beta = (0.5 / mean).nan_to_num(posinf=0.0)  # one colour: every edge costs gamma
    length = squared.new_tensor([1.0, 1.0, 2.0, 2.0]).sqrt()[:, None, None]
    return (gamma * there / length * (-beta[:, None, None, None] * squared).exp()).float()


def terminal_weights(codes: "torch.Tensor", preference: "torch.Tensor", gamma: float) -> "torch.Tensor":
    """What a pixel costs as foreground less what it costs as background, `(B, H, W) float32`; 9 gamma where sure.

    No 8 edges outweigh 7 gamma, so that is for ever, and the mixtures' word is cut there too.
    """
    import torch

    unary = preference.clamp(-9 * gamma, 9 * gamma)
    unary = torch.where(codes == SURE_FOREGROUND, -9 * gamma, unary)
    return torch.where(codes == SURE_BACKGROUND, 9 * gamma, unary).float()
