"""The compiled code that measuring a quality runs, apart from its names: those who only read them need no engine."""

from ..grabcut import FastGrabCut

KERNELS = FastGrabCut.kernels
"""Modules whose compiled kernels `cut_stability` runs, whatever engine made the mask: see `grabcut.kernels_of`."""
