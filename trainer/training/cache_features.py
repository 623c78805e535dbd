"""Computes the features of the frozen backbone once, so that epochs need not (`--cache-tokens`)."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from ...pipeline.errors import LocLocError, TrainError, os_error_reason
from ...pipeline.io.mapped_arrays import create_mapped
from ..data.batches import ImageBatch
from ..data.datasets import NO_AUGMENTATION, MaskPairs
from ..data.feature_cache import FeatureCache
from ..data.loader import EpochLoader, EpochSampler
from .distributed import raise_on_all_ranks

BATCH_SIZE = 32  # of each rank


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
    """Computes the features of `rows`, each rank a share, unless `folder` has a file for the same `key` and rows.

    features_of  rgb `(B, S, S, 3) uint8` > `(B, D, h, w)`
    key          everything that features depend on: weights, size, images
    """
    rows = np.sort(rows)
    digest = hashlib.sha256(key.encode() + rows.tobytes()).hexdigest()[:16]
    file = folder / f"tokens-{digest}.npy"
    part = file.with_name(f"{file.name}.part")  # written by all ranks, so io.atomic does not fit
    if not file.exists():
        failure: LocLocError | None = None
        if fabric.is_global_zero:
            try:
                first = features_of(pairs[int(rows[0]), NO_AUGMENTATION].rgb[None])
                part.parent.mkdir(parents=True, exist_ok=True)
                create_mapped(part, np.float16, (len(rows), 2, *first.shape[1:]))
            except LocLocError as error:
                failure = error
            except OSError as error:  # a full disk: the other ranks are told too
                failure = TrainError(f"{part} cannot be written: {os_error_reason(error)}; free space there")
        raise_on_all_ranks(fabric, failure)
        try:
            _compute(fabric, pairs, rows, features_of, part, workers, on_progress)
        except LocLocError as error:
            failure = error
        raise_on_all_ranks(fabric, failure)
        if fabric.is_global_zero:
            part.replace(file)
    fabric.barrier()
    return FeatureCache(file, rows)


def _compute(
    fabric: Fabric,
    pairs: MaskPairs,
    rows: np.ndarray,
    features_of: Callable[[Tensor], Tensor],
    part: Path,
    workers: int,
    on_progress: Callable[[int, int], None],
) -> None:
    """Writes `(n, 2, D, h, w) float16`, plain and flipped, to the file `part`."""
    out = np.load(part, mmap_mode="r+")
    sampler = EpochSampler(rows, BATCH_SIZE * fabric.world_size, None, fabric.global_rank, fabric.world_size)
    done = 0
    for batch in EpochLoader(pairs, sampler, workers).epoch():
        if isinstance(batch, LocLocError):
            raise batch
        assert isinstance(batch, ImageBatch)
        for flipped in (0, 1):
            features = features_of(batch.rgb.flip(2) if flipped else batch.rgb)
            out[np.searchsorted(rows, batch.row.numpy()), flipped] = features.to(torch.float16).cpu().numpy()
        done += len(batch.row) * fabric.world_size
        on_progress(min(done, len(rows)), len(rows))
    out.flush()
