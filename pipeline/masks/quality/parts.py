"""A mask, and what it was made from > the parts of its quality.

Everything is measured at 64 x 64, and the second cut at 40 x 40: that tells a good mask from a bad one as well as 256 x
256 does, and takes a fifth of the time of the cut that made the mask.

Shapes: S side of a mask, H heads, h x w token grid; arrays below `quality_parts` are 64 x 64 unless said.
"""

import cv2
import numpy as np

from ...geometry.boxes import mask_iou
from ..grabcut.fast import FastGrabCut
from ..saliency import (
    PROBABLE_BACKGROUND,
    PROBABLE_FOREGROUND,
    SURE_BACKGROUND,
    SURE_FOREGROUND,
    TINY,
    SaliencySettings,
)

SIDE_PX = 64
CUT_SIDE_PX = 40
CUT = FastGrabCut(gamma=50 * CUT_SIDE_PX / 256)  # an outline is shorter here than at 256 px
SURE_SHARE = 0.25  # of the pixels on each side of the threshold, at most, for the cut from a wider band
LEAST_ATTENTION = 0.05  # in means of a head, added before logs
COLOUR_BITS = 3  # of each channel, in histograms


def quality_parts(
    mask: np.ndarray, saliency: np.ndarray, heads: np.ndarray, rgb: np.ndarray | None, settings: SaliencySettings
) -> tuple[float, ...]:
    """The parts of a mask that is not empty, in the order of PARTS.

    mask      (S, S) bool
    saliency  (S, S) float32, in the unit of the thresholds
    heads     (H, h, w) float: attention of the ViT's heads, whichever map the mask was made from
    rgb       (S, S, 3) uint8; None where the engine uses no pixels: the three parts that need them are 0
    """
    soft, levels = _small(mask.astype(np.float32)), _small(saliency)
    small = soft >= 0.5
    head_fit, head_agreement = _of_heads(heads, soft)
    cut_stability = edge_contrast = colour_contrast = 0.0
    if rgb is not None:
        pixels = _small(rgb)
        cut_stability = _cut_stability(soft, levels, pixels, settings)
        edge_contrast, colour_contrast = _edge_contrast(pixels, small), _colour_contrast(pixels, small)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    return (
        _map_stability(levels, settings),
        cut_stability,
        _correlation(levels, small),
        head_fit,
        head_agreement,
        edge_contrast,
        colour_contrast,
        _largest_share(small),
        float(border.mean()),
    )


def _small(image: np.ndarray, side_px: int = SIDE_PX) -> np.ndarray:
    return cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)


def _map_stability(levels: np.ndarray, settings: SaliencySettings) -> float:
    above = (settings.threshold + settings.foreground_from) / 2
    below = (settings.threshold + settings.background_below) / 2
    return mask_iou(levels >= above, levels >= below)


def _cut_stability(soft: np.ndarray, levels: np.ndarray, rgb: np.ndarray, settings: SaliencySettings) -> float:
    trimap = _wider_trimap(_small(levels, CUT_SIDE_PX), settings)
    return mask_iou(_small(soft, CUT_SIDE_PX) >= 0.5, CUT(_small(rgb, CUT_SIDE_PX), trimap))


def _wider_trimap(levels: np.ndarray, settings: SaliencySettings) -> np.ndarray:
    """Trimap `(40, 40) uint8` whose sure pixels are the recipe's, but on each side of the threshold only the surest."""
    inside = levels >= settings.threshold
    trimap = np.where(inside, PROBABLE_FOREGROUND, PROBABLE_BACKGROUND).astype(np.uint8)
    upper, lower = settings.foreground_from, settings.background_below
    ranked, outside = np.sort(levels, axis=None), np.count_nonzero(~inside)
    if outside < len(ranked):
        upper = max(upper, ranked[outside + int((1 - SURE_SHARE) * (len(ranked) - outside))])
    if outside:
        lower = min(lower, ranked[int(SURE_SHARE * outside)])
    trimap[levels >= upper] = SURE_FOREGROUND
    trimap[levels < lower] = SURE_BACKGROUND
    return trimap


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 if one of them is flat."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > TINY else 0.0


def _of_heads(heads: np.ndarray, soft: np.ndarray) -> tuple[float, float]:
    """`head_fit` and `head_agreement`."""
    count, height, width = heads.shape
    flat = heads.astype(np.float32).reshape(count, -1)
    logs = _unit(np.log(flat / np.maximum(flat.mean(1, keepdims=True), TINY) + LEAST_ATTENTION))
    on_grid = _unit(cv2.resize(soft, (width, height), interpolation=cv2.INTER_AREA).reshape(1, -1))
    agreement = (np.sum(logs.sum(0) ** 2) - count) / (count * (count - 1)) if count > 1 else 1.0
    return float((logs @ on_grid[0]).max()), float(agreement)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows `(n, m)`, each less its mean and of length 1, so that a product of two is their correlation."""
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.maximum(np.sqrt((centred * centred).sum(1, keepdims=True)), TINY)


def _edge_contrast(rgb: np.ndarray, mask: np.ndarray) -> float:
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
    across, down = _steps(lab[:, 1:], lab[:, :-1]), _steps(lab[1:], lab[:-1])
    on_across, on_down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    outline = np.count_nonzero(on_across) + np.count_nonzero(on_down)
    on_outline = (across[on_across].sum() + down[on_down].sum()) / max(outline, 1)
    everywhere = (across.sum() + down.sum()) / (across.size + down.size)
    return float(np.log((on_outline + 1) / (everywhere + 1)))


def _steps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two images `(h, w, 3) uint8` > their distance, the sum over channels, `(h, w) float32`."""
    channels: np.ndarray = cv2.absdiff(a, b).astype(np.float32)
    return channels @ np.ones(3, np.float32)


def _colour_contrast(rgb: np.ndarray, mask: np.ndarray) -> float:
    levels = (rgb >> (8 - COLOUR_BITS)).astype(np.uint16)
    bins = (levels[..., 0] << (2 * COLOUR_BITS)) | (levels[..., 1] << COLOUR_BITS) | levels[..., 2]
    inside = np.bincount(bins[mask], minlength=1 << (3 * COLOUR_BITS))
    outside = np.bincount(bins[~mask], minlength=1 << (3 * COLOUR_BITS))
    overlap = np.sqrt(inside.astype(np.float64) * outside).sum()
    return float(1 - overlap / np.sqrt(max(inside.sum(), 1) * max(outside.sum(), 1)))


def _largest_share(mask: np.ndarray) -> float:
    count, _, sizes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return float(sizes[1:, cv2.CC_STAT_AREA].max() / np.count_nonzero(mask)) if count > 1 else 0.0
