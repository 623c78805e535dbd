"""One image's attention and pixels > its pseudo-mask and the intermediate steps: everything after the ViT.

Shapes: H heads, h x w token grid, S side of a mask.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..geometry.boxes import mask_iou
from ..geometry.resize_crop import ResizeCrop
from ..io.timing import timed
from ..recipe import Recipe
from .grabcut import Engine, refines_on_gpu
from .quality import PARTS
from .quality.parts import quality_parts
from .quality.score import LOWEST, expected_iou
from .saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, foreground_odds, make_trimap, saliency_map


@dataclass(frozen=True)
class PseudoMask:
    """A mask with its intermediate steps; `reason` says why it is empty or a fallback."""

    mask: np.ndarray  # (S, S) bool
    saliency: np.ndarray  # (S, S) float32, in the unit of the recipe's thresholds
    trimap: np.ndarray  # (S, S) uint8, OpenCV's codes
    reason: str | None
    stats: tuple[float, ...]  # in the order of STATS


def make_mask(
    attention: np.ndarray,
    rgb: np.ndarray,
    recipe: Recipe,
    image_id: str,
    seconds: Counter[str] | None = None,
    cut: np.ndarray | None = None,
    engine: Engine | None = None,
) -> PseudoMask:
    """Attention `(H, h, w) float16` and rgb `(S, S, 3) uint8` > mask; empty or a fallback if refinement cannot run.

    Adds the time of each stage to `seconds`.

    cut     (S, S) bool: the refined mask, where `cut_masks` has made it
    engine  in place of the recipe's
    """
    seconds = Counter() if seconds is None else seconds
    with timed(seconds, "saliency"):
        prepared = _prepare(attention, recipe)
    if isinstance(prepared, PseudoMask):
        return prepared
    if cut is None:
        with timed(seconds, "refine"):
            seed = image_seed(image_id, recipe.seed)
            cut = (engine or recipe.refine)(rgb, prepared.trimap, seed, prepared.odds)
    with timed(seconds, "saliency"):
        return _finish(prepared, cut)


def cut_masks(
    attention: np.ndarray, rgb: np.ndarray, recipe: Recipe, device: str, seconds: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Attention `(n, H, h, w)`, rgb `(n, S, S, 3)` > masks `(n, S, S) bool`, and which of them are final `(n,) bool`.

    The recipe's engine is a `BatchEngine`. The other masks are left to `make_mask` with the engine's `exact`. On a GPU
    a mask may differ in a few pixels with the other images of its batch.
    """
    engine = recipe.refine
    assert refines_on_gpu(engine)
    with timed(seconds, "saliency"):
        prepared = {row: _prepare(maps, recipe) for row, maps in enumerate(attention)}
    unrefined = {row: item for row, item in prepared.items() if isinstance(item, _Unrefined)}
    masks, final = np.zeros(rgb.shape[:3], bool), np.zeros(len(rgb), bool)
    if unrefined:
        with timed(seconds, "refine"):
            rows = list(unrefined)
            trimaps = np.stack([item.trimap for item in unrefined.values()])
            odds = [item.odds for item in unrefined.values() if item.odds is not None]
            masks[rows], final[rows] = engine.cut(rgb[rows], trimaps, device, np.stack(odds) if odds else None)
    return masks, final


@dataclass(frozen=True)
class _Unrefined:
    """The steps before refinement."""

    saliency: np.ndarray
    trimap: np.ndarray
    thresholded: np.ndarray
    odds: np.ndarray | None  # of foreground, where the engine has a prior_weight


def heads_or_contrast(maps: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The stored maps `(M, h, w)` > those that the recipe's strategy uses.

    The heads; or the contrast map; or that and the packed map of a generator.
    """
    heads, strategy = len(attention_of(maps, recipe)), recipe.saliency.strategy
    if strategy == "generator":
        return maps[heads:]
    return maps[heads : heads + 1] if strategy == "contrast" else maps[:heads]


def _prepare(attention: np.ndarray, recipe: Recipe) -> _Unrefined | PseudoMask:
    """The steps before refinement, or the final mask if refinement cannot run."""
    attention = heads_or_contrast(attention, recipe)
    saliency = saliency_map(attention, recipe.saliency, recipe.mask_px)
    if saliency is None:
        empty = np.zeros((recipe.mask_px, recipe.mask_px), np.float32)
        return PseudoMask(empty > 0, empty, empty.astype(np.uint8), "flat attention: empty mask", (0.0, 0.0, 1.0))
    odds = None
    if getattr(recipe.refine, "prior_weight", 0):
        odds = foreground_odds(attention, recipe.saliency, recipe.mask_px)
    thresholded = saliency >= recipe.saliency.threshold
    prepared = _Unrefined(saliency, make_trimap(saliency, recipe.saliency), thresholded, odds)
    reason = recipe.refine.unusable(prepared.trimap)
    return _finish(prepared, prepared.thresholded, f"{reason}: thresholded attention instead") if reason else prepared


def _finish(prepared: _Unrefined, mask: np.ndarray, reason: str | None = None) -> PseudoMask:
    if reason is None and not mask.any():
        reason = "refinement left no foreground: empty mask"
    unknown = (prepared.trimap == PROBABLE_FOREGROUND) | (prepared.trimap == PROBABLE_BACKGROUND)
    stats = (float(mask.mean()), float(unknown.mean()), mask_iou(mask, prepared.thresholded))
    return PseudoMask(mask, prepared.saliency, prepared.trimap, reason, stats)


def rate_mask(made: PseudoMask, maps: np.ndarray, rgb: np.ndarray, recipe: Recipe) -> tuple[float, tuple[float, ...]]:
    """The quality of a mask, in (0, 1], and its parts in the order of PARTS: masks/quality.

    maps  (H, h, w) float16, and rgb (S, S, 3) uint8: those that it was made from
    """
    if not made.mask.any():
        return LOWEST, (0.0,) * len(PARTS)
    uses_pixels = recipe.refine.uses_pixels  # where it uses none, `masks refine` does not read images
    heads, pixels = attention_of(maps, recipe), rgb if uses_pixels else None
    parts = quality_parts(made.mask, made.saliency, heads, pixels, recipe.saliency)
    return expected_iou(made.stats[-1], parts, uses_pixels), parts


def attention_of(maps: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The stored maps `(M, h, w)` > those of the heads, `(H, h, w)`."""
    settings = recipe.backbone
    return maps[: len(maps) - settings.contrast_maps - settings.generator_maps]


def working_geometry(source_px: np.ndarray, recipe: Recipe, target_px: int) -> ResizeCrop:
    """The recipe's transform from an image of `source_px` (width, height) to a square, for the backbone or the mask."""
    return ResizeCrop.of_fit(recipe.images.fit, (int(source_px[0]), int(source_px[1])), target_px)


def image_seed(image_id: str, seed: int) -> int:
    """31 bits that depend on the image's id and the recipe's seed alone."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=4, salt=seed.to_bytes(16, "little")).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF
