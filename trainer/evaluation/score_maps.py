"""Score maps in a protocol's frame: resampled, quantised to levels, with the largest contour of each level.

S side of the frame, L levels. The mask of level l holds the pixels above l.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.geometry.resize_crop import ResizeCrop
from .contours import contour_ious, largest_boxes
from .metrics import best_ious
from .protocols import LEVELS, TAUS, Frame, Protocol

INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


@dataclass(frozen=True)
class FramedMap:
    """A model's map of one image in a protocol's frame."""

    scores: np.ndarray  # (S, S) float, 0 to 1
    levels: np.ndarray  # (S, S) integers from 0 to L
    boxes: np.ndarray  # (L, 4) int32, box of each level's largest contour, zeros for none
    peak: int  # the highest level
    best_iou: np.ndarray | None  # (L,) best IoU of any contour, for protocols with MaxBoxAccV2


def frame_map(
    score_map: np.ndarray,
    geometry: ResizeCrop,
    protocol: Protocol,
    truths: np.ndarray,
    keep_range: bool = False,
) -> FramedMap:
    """A raw map `(h, w) float` > in the protocol's frame.

    geometry    from the image to the map
    truths      ground-truth boxes `(n, 4)` in the frame
    keep_range  a map in 0..1 that needs no resampling is not min-max normalised
    """
    frame = protocol.frame
    scores = resample_map(score_map, geometry, frame)
    if not (keep_range and scores is score_map and 0 <= scores.min() <= scores.max() <= 1):
        # A flat map is tested before resampling: bicubic weights sum to one but for rounding errors.
        scores = np.zeros_like(scores) if score_map.min() == score_map.max() else min_max_or_zeros(scores)
    levels = quantize(scores, frame)
    count, best = level_count(frame), None
    if protocol.max_box_acc and len(truths):
        boxes, best = contour_ious(levels, count, truths, protocol.plus, protocol.clipped)
        iou_of_empty = best_ious(np.array(protocol.empty_box), truths, protocol.plus)
        best = np.where(np.isnan(best), iou_of_empty, best)
    else:
        boxes = largest_boxes(levels, count)
    return FramedMap(scores, levels, boxes, int(levels.max()), best)


def resample_map(score_map: np.ndarray, geometry: ResizeCrop, frame: Frame) -> np.ndarray:
    """A map `(h, w) float` > `(S, S) float`; where the map does not show the image, its minimum.

    geometry  from the image to the map
    """
    target = frame.geometry(geometry.source_px)
    method, size = INTERPOLATION[frame.resample], (frame.size_px, frame.size_px)
    score_map = score_map if score_map.dtype == np.float64 else np.asarray(score_map, np.float32)
    if geometry.window == target.window:
        return score_map if score_map.shape == size else cv2.resize(score_map, size, interpolation=method)
    height, width = score_map.shape
    left, top, right, bottom = geometry.window
    x_scale, y_scale = width / (right - left), height / (bottom - top)  # map pixels an image pixel
    to_x, to_y = x_scale / target.scale[0], y_scale / target.scale[1]
    x_shift, y_shift = (target.window[0] - left) * x_scale, (target.window[1] - top) * y_scale
    # cv2 measures from pixel centres, ResizeCrop from edges.
    to_map = np.array([[to_x, 0, x_shift + 0.5 * to_x - 0.5], [0, to_y, y_shift + 0.5 * to_y - 0.5]])
    flags = method | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(score_map, to_map, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    centres = np.arange(frame.size_px) + 0.5
    x = target.window[0] + centres / target.scale[0]
    y = target.window[1] + centres / target.scale[1]
    inside = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
    return np.where(inside, warped, score_map.min())


def quantize(scores: np.ndarray, frame: Frame) -> np.ndarray:
    """Scores `(S, S) float` in 0..1 > levels: 8 bit, or how many of TAUS lie below each score."""
    if frame.eight_bit:
        return (scores * 255).astype(np.uint8)
    # As np.searchsorted counts, but faster: the thresholds are evenly spaced, so the result is next to scores * T.
    taus = np.append(TAUS, np.inf).astype(scores.dtype)
    near = (scores * len(TAUS)).astype(np.int32)
    return (
        near
        + (taus[near] < scores)
        + (taus[np.minimum(near + 1, len(TAUS))] < scores)
        - (taus[np.maximum(near - 1, 0)] >= scores) * (near > 0)
    )


def level_count(frame: Frame) -> int:
    return LEVELS if frame.eight_bit else len(TAUS)


def level_of_tau(taus: np.ndarray, peak: int, frame: Frame) -> np.ndarray:
    """The level whose mask is that of each threshold, for a map whose highest level is `peak`."""
    taus = np.asarray(taus, np.float64)
    if frame.eight_bit:
        return (taus * peak).astype(np.int64)
    return np.rint(taus * len(TAUS)).astype(np.int64)
