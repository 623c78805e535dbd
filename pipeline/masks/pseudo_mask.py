"""One picture's attention and pixels > its mask, with the steps between: the part of a block that needs no ViT.

Shapes: H heads, h x w token grid, S side of a mask.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..geometry.boxes import mask_iou
from ..geometry.resize_crop import Geometry
from ..recipe import Recipe
from .saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, make_trimap, saliency_map


@dataclass(frozen=True)
class MadeMask:
    """A mask with the steps that led to it; `reason` says why it is empty or a fallback."""

    mask: np.ndarray  # (S, S) bool
    saliency: np.ndarray  # (S, S) float32 in [0, 1]
    trimap: np.ndarray  # (S, S) uint8, OpenCV's codes
    reason: str | None
    stats: tuple[float, ...]  # in the order of STATS


def make_mask(
    attention: np.ndarray, rgb: np.ndarray, recipe: Recipe, image_id: str, seconds: Counter | None = None
) -> MadeMask:
    """Attention `(H, h, w) float16` and rgb `(S, S, 3) uint8` > mask: empty or the fallback at worst."""
    seconds = Counter() if seconds is None else seconds
    with timed(seconds, "saliency"):
        begun = _begin(attention, recipe)
    if isinstance(begun, MadeMask):
        return begun
    with timed(seconds, "refine"):
        mask = recipe.refine(rgb, begun.trimap, seed=image_seed(image_id, recipe.seed))
    with timed(seconds, "saliency"):
        return _end(begun, mask)


def make_masks(
    attention: np.ndarray, rgb: np.ndarray, recipe: Recipe, image_ids: list[str], device: str, seconds: Counter
) -> list[MadeMask]:
    """As `make_mask`, for n pictures together on a GPU: attention `(n, H, h, w)`, rgb `(n, S, S, 3)`.

    For engines with `batch`. On a GPU masks may differ in a few pixels with the company a picture has.
    """
    with timed(seconds, "saliency"):
        begun = [_begin(maps, recipe) for maps in attention]
    rows = [row for row, one in enumerate(begun) if isinstance(one, _Begun)]
    if not rows:
        return begun
    with timed(seconds, "refine"):
        trimaps = np.stack([begun[row].trimap for row in rows])
        seeds = [image_seed(image_ids[row], recipe.seed) for row in rows]
        masks, _ = recipe.refine.batch(rgb[rows], trimaps, device, seeds)
    with timed(seconds, "saliency"):
        for row, mask in zip(rows, masks, strict=True):
            begun[row] = _end(begun[row], mask)
    return begun


@dataclass(frozen=True)
class _Begun:
    """What there is before refinement."""

    saliency: np.ndarray
    trimap: np.ndarray
    thresholded: np.ndarray


def _begin(attention: np.ndarray, recipe: Recipe) -> _Begun | MadeMask:
    """What is to be refined, or the mask where there is nothing that could be."""
    saliency = saliency_map(attention, recipe.saliency, recipe.mask_px)
    if saliency is None:
        empty = np.zeros((recipe.mask_px, recipe.mask_px), np.float32)
        return MadeMask(empty > 0, empty, empty.astype(np.uint8), "flat attention: empty mask", (0.0, 0.0, 1.0))
    begun = _Begun(saliency, make_trimap(saliency, recipe.saliency), saliency >= recipe.saliency.threshold)
    reason = recipe.refine.unusable(begun.trimap)
    return _end(begun, begun.thresholded, f"{reason}: thresholded attention instead") if reason else begun


def _end(begun: _Begun, mask: np.ndarray, reason: str | None = None) -> MadeMask:
    if reason is None and not mask.any():
        reason = "refinement left no foreground: empty mask"
    unknown = (begun.trimap == PROBABLE_FOREGROUND) | (begun.trimap == PROBABLE_BACKGROUND)
    stats = (float(mask.mean()), float(unknown.mean()), mask_iou(mask, begun.thresholded))
    return MadeMask(mask, begun.saliency, begun.trimap, reason, stats)


def working_geometry(source_px: np.ndarray, recipe: Recipe, target_px: int) -> Geometry:
    """How the recipe shows a picture of `source_px` (width, height) as a square, the same for backbone and mask."""
    make = Geometry.centre_crop if recipe.images.fit == "centre_crop" else Geometry.stretch
    return make((int(source_px[0]), int(source_px[1])), target_px)


def image_seed(image_id: str, seed: int) -> int:
    """31 bits that depend on the picture's id and the recipe's seed alone."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=4, salt=seed.to_bytes(16, "little")).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


@contextmanager
def timed(seconds: Counter, stage: str) -> Iterator[None]:
    """Adds the time that the `with` block takes to `seconds[stage]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - start
