"""Compiles Numba's kernels, which takes some 20 s once on a machine, so that no first command waits for it.

Without a place to keep them, every process compiles for itself (pipeline/masks/numba_kernels.py).
"""

import importlib

from locloc.pipeline.masks.grabcut import FastGrabCut, kernels_of

for module in (*kernels_of(FastGrabCut()), "locloc.trainer.evaluation.contours"):
    importlib.import_module(module)
