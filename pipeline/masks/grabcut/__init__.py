"""Trimap + image > mask. One file an engine; to add one, write its file and its line in `REFINERS`.

An engine is a frozen settings class whose instances are called: `engine(rgb, trimap, seed=0) -> mask`, with
rgb `(H, W, 3) uint8`, trimap `(H, W) uint8` in OpenCV's codes (0 sure background, 1 sure foreground, 2 probable
background, 3 probable foreground) and mask `(H, W) bool`. It depends on its arguments alone, whatever ran before in
the process, and answers any trimap: where it cannot run, it gives the trimap's own foreground. `unusable(trimap)` says
why it could not, or None; the build asks first, so that the row says so too. `revision` is raised whenever the same
arguments give another mask; `uses_pixels` is False for one that never looks at rgb. One that also has
`batch(rgb, trimaps, device, seeds) -> masks, gaps` is given a block's images together where there is a GPU. One whose
kernels are compiled at import names their modules in `kernels`; workers import them before they are given work.
"""

from .fast import FastGrabCut
from .opencv import OpenCVGrabCut
from .threshold import Threshold
from .torch_cut import TorchGrabCut


def refines_on_gpu(engine) -> bool:
    """True for an engine that wants a block's images together, and a GPU where there is one."""
    return hasattr(engine, "batch")


def kernels_of(engine) -> tuple[str, ...]:
    """Modules of the package `locloc` that are compiled at import, the first time on a machine for some 20 s."""
    return getattr(engine, "kernels", ())


REFINERS = {
    "fast": FastGrabCut,
    "opencv": OpenCVGrabCut,
    "threshold": Threshold,
    "torch": TorchGrabCut,
}

__all__ = ["REFINERS", "kernels_of", "refines_on_gpu", "FastGrabCut", "OpenCVGrabCut", "Threshold", "TorchGrabCut"]
