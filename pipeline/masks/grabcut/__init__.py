"""Refinement engines: trimap + image > mask. One file per engine.

To add one, write its file (`engine.py` says what an engine is) and add its line to `REFINERS` and to `AnyEngine`. An
engine whose kernels are compiled at import lists their modules in `kernels`; workers import them before their first
task.
"""

from typing import TypeGuard

from .engine import BatchEngine, Engine
from .fast import FastGrabCut
from .opencv import OpenCVGrabCut
from .threshold import Threshold
from .torch_cut import TorchGrabCut

REFINERS = {
    "fast": FastGrabCut,
    "opencv": OpenCVGrabCut,
    "threshold": Threshold,
    "torch": TorchGrabCut,
}

AnyEngine = FastGrabCut | OpenCVGrabCut | Threshold | TorchGrabCut
"""The classes in REFINERS, as the type of a recipe's `refine`."""


def refines_on_gpu(engine: Engine) -> TypeGuard[BatchEngine]:
    """True for an engine that takes a block's images at once, on a GPU if there is one."""
    return isinstance(engine, BatchEngine)


def kernels_of(engine: Engine) -> tuple[str, ...]:
    """Modules of `locloc` whose kernels are compiled at import: the first time on a machine it takes some 20 s."""
    return getattr(engine, "kernels", ())


__all__ = [
    "REFINERS",
    "AnyEngine",
    "BatchEngine",
    "Engine",
    "FastGrabCut",
    "OpenCVGrabCut",
    "Threshold",
    "TorchGrabCut",
    "kernels_of",
    "refines_on_gpu",
]
