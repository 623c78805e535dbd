"""What the frozen backbone makes of images, kept on disk for many cheap epochs (`--cache-tokens`).

float16, of each image's whole square as it is and flipped: 2 * D * h * w * 2 bytes an image (ViT-S/16 at 224: 301 KB).
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from ...pipeline.errors import LocLocError
from ..training.distributed import raise_on_all_ranks
from .datasets import NO_AUGMENTATION, Batches, MaskPairs, Sample, load, resized
from .splits import MaskCache


class FeatureCache:
    """Features `(D, h, w) float16` by row, memory-mapped from one file."""

    def __init__(self, file: Path, rows: np.ndarray):
        self.file, self.rows, self._features = file, rows, None

    def read(self, row: int, flipped: bool) -> np.ndarray:
        if self._features is None:
            self._features = np.load(self.file, mmap_mode="r")
        return self._features[np.searchsorted(self.rows, row), int(flipped)]

    def __reduce__(self):
        return FeatureCache, (self.file, self.rows)


class CachedMaskPairs(Dataset):
    """`(features (D, h, w) float16, mask (side, side) bool, row)` in place of MaskPairs: no image is read."""

    def __init__(self, tokens: FeatureCache, masks: MaskCache, flip: bool, side_px: int):
        self.tokens, self.masks, self.flip, self.side_px = tokens, masks, flip, side_px

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Tensor, int]:
        row, number = sample
        flipped = number != NO_AUGMENTATION and self.flip and bool(number & 1)
        mask = resized(self.masks.read(row), self.side_px)
        features = torch.from_numpy(self.tokens.read(row, flipped).copy())
        return features, torch.from_numpy(np.ascontiguousarray(mask[:, ::-1] if flipped else mask)), row


def cache_features(
    fabric: Fabric,
    pairs: MaskPairs,
    rows: np.ndarray,
    features_of: Callable[[Tensor], Tensor],
    key: str,
    folder: Path,
    workers: int,
    on_progress: Callable[[int, int], None],
) -> FeatureCache:
    """Computes the features of some rows, each process its share, unless a file with the same `key` and rows is there.

    features_of  rgb `(B, S, S, 3) uint8` > `(B, D, h, w)`
    key          of all that decides them: weights, size, images
    """
    rows = np.sort(rows)
    digest = hashlib.sha256(key.encode() + rows.tobytes()).hexdigest()[:16]
    file = folder / f"tokens-{digest}.npy"
    part = file.with_name(f"{file.name}.part")
    if not file.exists():
        trouble = None
        try:
            _compute(fabric, pairs, rows, features_of, part, workers, on_progress)
        except LocLocError as error:
            trouble = error
        raise_on_all_ranks(fabric, trouble)
        if fabric.is_global_zero:
            part.replace(file)
    fabric.barrier()
    return FeatureCache(file, rows)


def _compute(fabric, pairs, rows, features_of, part: Path, workers: int, on_progress) -> None:
    batches, done, out = Batches(rows, 32 * fabric.world_size, None, fabric.global_rank, fabric.world_size), 0, None
    if fabric.is_global_zero:
        first = features_of(pairs[int(rows[0]), NO_AUGMENTATION][0][None])
        part.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(part, "w+", np.float16, (len(rows), 2, *first.shape[1:])).flush()
    fabric.barrier()
    out = np.load(part, mmap_mode="r+")
    for batch in load(pairs, batches, workers):
        if isinstance(batch, Exception):
            raise batch
        rgb, _, own = batch
        for flipped in (0, 1):
            features = features_of(rgb.flip(2) if flipped else rgb)
            out[np.searchsorted(rows, own.numpy()), flipped] = features.to(torch.float16).cpu().numpy()
        done += len(own) * fabric.world_size
        on_progress(min(done, len(rows)), len(rows))
    out.flush()
