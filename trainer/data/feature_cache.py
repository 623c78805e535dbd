"""Features of the frozen backbone, cached on disk, and the data set that reads them (`--cache-tokens`).

The file holds float16 features of each image's whole square, plain and flipped: 2 * D * h * w * 2 bytes an image
(ViT-S/16 at 224: 301 KB). `training/cache_features.py` computes them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .batches import FeatureBatch
from .datasets import NO_AUGMENTATION, Sample, resized
from .mask_cache import Masks


class FeatureCache:
    """Features `(D, h, w) float16` by row, memory-mapped from one file.

    rows  (n,) int64, ascending: the rows in the file
    """

    def __init__(self, file: Path, rows: np.ndarray):
        self.file, self.rows = file, rows
        self._features: np.ndarray | None = None

    def read(self, row: int, flipped: bool) -> np.ndarray:
        if self._features is None:
            self._features = np.load(self.file, mmap_mode="r")
        return self._features[np.searchsorted(self.rows, row), int(flipped)]

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureCache, (self.file, self.rows)  # each process opens its own memory map


class CachedMaskPairs(Dataset[FeatureBatch]):
    """Cached features with their masks: MaskPairs without reading images."""

    def __init__(self, features: FeatureCache, masks: Masks, flip: bool, side_px: int):
        self.features, self.masks, self.flip, self.side_px = features, masks, flip, side_px

    def __getitem__(self, sample: Sample) -> FeatureBatch:
        row, seed = sample
        flipped = seed != NO_AUGMENTATION and self.flip and bool(seed & 1)
        mask = resized(self.masks.read(row), self.side_px)
        return FeatureBatch(
            torch.from_numpy(self.features.read(row, flipped).copy()),
            torch.from_numpy(np.ascontiguousarray(mask[:, ::-1] if flipped else mask)),
            torch.tensor(row),
        )
