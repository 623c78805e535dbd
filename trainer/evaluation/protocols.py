"""The field's evaluation protocols: four sets of rules that give different numbers for one model.

What a protocol decides is data; the code below it is the same for all. To add one is a line in PROTOCOLS.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np

from ...pipeline.errors import TrainError, did_you_mean
from ...pipeline.geometry.resize_crop import ResizeCrop
from .contours import contour_ious, largest_boxes
from .metrics import best_ious

Shown = Literal["stretch", "centre_crop"]

TAUS = np.arange(0, 1, 0.001)
"""Thresholds of curves, as shares of a map's maximum."""

LEVELS = 256
"""Of a map of 8 bits: thresholds 0 to 255, the last of which leaves nothing."""


@dataclass(frozen=True)
class Frame:
    """How a map is made comparable with true boxes: what of the image it shows, at which size and in which steps."""

    shown: Shown  # stretch: all of it; centre_crop: short side to 256, then the central square of 224
    size_px: int
    resample: Literal["bilinear", "bicubic"]
    eight_bit: bool  # x 255 to uint8, thresholds int(tau * max); else compared as it is

    def geometry(self, source_px: tuple[int, int]) -> ResizeCrop:
        return view(self.shown, source_px, self.size_px)


@dataclass(frozen=True)
class Protocol:
    """One set of rules; `rules` says them in words."""

    name: str
    rules: str
    frame: Frame
    classified: Shown  # how the classifier is shown the image
    empty: tuple[int, int, int, int]  # the box of an empty mask
    clipped: bool  # boxes end at size - 1
    plus: float  # IoU with widths of x1 - x0 + plus
    truths: Literal["any", "first"] = "any"
    whole_pixels: bool = False  # true boxes of stretched images are cut to whole pixels of the frame
    tau: Literal["chosen", "fixed", "test"] = (
        "chosen"  # chosen: by --tau; fixed: 0.5; test: on the images it is tested on
    )
    taus: dict[str, tuple[float, float]] = field(default_factory=dict)  # by kind of catalog, for "test"
    max_box_acc: bool = False  # MaxBoxAcc, MaxBoxAccV2 and PxAP too

    def boxes_in_frame(self, truths: np.ndarray, source_px: tuple[int, int], any_box: bool = False) -> np.ndarray:
        """True boxes `(n, 4)` of an image > in the frame: those that count, or all."""
        truths = np.asarray(truths, np.float64).reshape(-1, 4)
        truths = truths[:1] if self.truths == "first" and not any_box else truths
        if self.whole_pixels:  # multiplied first: another order of rounding would cut 49 to 48
            return np.trunc(truths * self.frame.size_px / np.tile(source_px, 2))
        return self.frame.geometry(source_px).boxes(truths)

    def by_rule(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes `(..., 4)` of contours, zeros for none, > as the protocol has them, `(..., 4) float64`."""
        out = np.asarray(boxes, np.float64).copy()
        empty = out[..., 2] == 0
        if self.clipped:
            out[..., 2:] = np.minimum(out[..., 2:], self.frame.size_px - 1)
        out[empty] = self.empty
        return out

    def test_taus(self, kind: str) -> np.ndarray:
        """The thresholds that are tried on the test images, for a kind of catalog."""
        if not self.taus:
            return TAUS
        low, high = self.taus.get(kind, self.taus[""])
        return np.round(np.arange(low, high + 0.005, 0.01), 2)


def view(shown: Shown, source_px: tuple[int, int], size_px: int) -> ResizeCrop:
    """What a protocol shows of an image, at any size: models have their own."""
    if shown == "stretch":
        return ResizeCrop.stretch(source_px, size_px)
    return replace(ResizeCrop.centre_crop(source_px, 224, 256), target_px=size_px)


def framed(one: np.ndarray, made: ResizeCrop, frame: Frame, wanted: ResizeCrop) -> np.ndarray:
    """A map `(h, w) float` of `made`'s window > of `wanted`'s, `(size_px, size_px) float32`.

    Where it shows nothing of the image it is taken at its minimum.
    """
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[frame.resample]
    one = one if one.dtype == np.float64 else np.asarray(one, np.float32)
    if made.window == wanted.window:
        if one.shape == (frame.size_px, frame.size_px):
            return one
        return cv2.resize(one, (frame.size_px, frame.size_px), interpolation=method)
    height, width = one.shape
    left, top, right, bottom = made.window
    x_scale, y_scale = width / (right - left), height / (bottom - top)  # map pixels an image pixel
    to_x, to_y = x_scale / wanted.scale[0], y_scale / wanted.scale[1]
    x_shift, y_shift = (wanted.window[0] - left) * x_scale, (wanted.window[1] - top) * y_scale
    # cv2 measures from pixel centres, geometry.py from edges.
    to_map = np.array([[to_x, 0, x_shift + 0.5 * to_x - 0.5], [0, to_y, y_shift + 0.5 * to_y - 0.5]])
    size = (frame.size_px, frame.size_px)
    out = cv2.warpAffine(one, to_map, size, flags=method | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    centres = np.arange(frame.size_px) + 0.5
    x = wanted.window[0] + centres / wanted.scale[0]
    y = wanted.window[1] + centres / wanted.scale[1]
    seen = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
    return np.where(seen, out, one.min())


@dataclass(frozen=True)
class Contours:
    """A map's largest contour's box, at every level, and where each threshold lies among these."""

    boxes: np.ndarray  # (L, 4) int32, by `largest_boxes`
    peak: int  # the map's maximum, in 8 bits
    best: np.ndarray | None  # (L,) best IoU of all contours, NaN for none


def levels_of(one: np.ndarray, frame: Frame) -> np.ndarray:
    """A map `(S, S) float` in 0..1 > its levels, for `contours.py`."""
    if frame.eight_bit:
        return (one * 255).astype(np.uint8)
    # How many thresholds lie below each pixel, as np.searchsorted would count them: a table, for they are even.
    taus = np.append(TAUS, np.inf).astype(one.dtype)
    near = (one * len(TAUS)).astype(np.int32)
    return (
        near
        + (taus[near] < one)
        + (taus[np.minimum(near + 1, len(TAUS))] < one)
        - (taus[np.maximum(near - 1, 0)] >= one) * (near > 0)
    )


def level_count(frame: Frame) -> int:
    return LEVELS if frame.eight_bit else len(TAUS)


def levels_at(taus: np.ndarray, peak: int, frame: Frame) -> np.ndarray:
    """The level whose mask is that of each threshold."""
    taus = np.asarray(taus, np.float64)
    if frame.eight_bit:
        return (taus * peak).astype(np.int64)
    return np.rint(taus * len(TAUS)).astype(np.int64)


def contours_of(levels: np.ndarray, frame: Frame, protocol: Protocol | None = None, truths=None) -> Contours:
    """Of a map's levels. With a protocol that has MaxBoxAccV2 and true boxes in its frame, `best` too."""
    peak, count = int(levels.max()), level_count(frame)
    if protocol is None or truths is None or not len(truths):
        return Contours(largest_boxes(levels, count), peak, None)
    boxes, best = contour_ious(levels, count, truths, protocol.plus, protocol.clipped)
    nothing = best_ious(np.array(protocol.empty), truths, protocol.plus)
    return Contours(boxes, peak, np.where(np.isnan(best), nothing, best))


_LOCLOC = Frame("centre_crop", 224, "bilinear", True)

_ALL = (
    Protocol(
        "locloc",
        "short side to 256, central square of 224; map bilinear to 224, min-max, 8 bit, > int(tau max); box of the "
        "largest outer contour, [0, 0, 1, 1] for none; any true box, moved likewise and cut to the square; "
        "IoU without +1; tau chosen on validation images",
        _LOCLOC, "centre_crop", (0, 0, 1, 1), False, 0.0,
    ),
    Protocol(
        "locloc-official",
        "as locloc, with the published code's defects: the first true box only; tau swept on the test images, 0.45 to "
        "0.53 (ILSVRC: 0.30 to 0.45)",
        _LOCLOC, "centre_crop", (0, 0, 1, 1), False, 0.0, "first", tau="test",
        taus={"": (0.45, 0.53), "ilsvrc": (0.30, 0.45)},
    ),
    Protocol(
        "ppd",
        "stretched to 256 for the map, 256/224 central square for the class; map bilinear to 256, min-max, > 0.5; box "
        "of the largest outer contour, [0, 0, 0, 0] for none; any true box; IoU with +1",
        Frame("stretch", 256, "bilinear", False), "centre_crop", (0, 0, 0, 0), False, 1.0, tau="fixed",
    ),
    Protocol(
        "wsol",
        "image and boxes stretched to 224, these cut to whole pixels; map bicubic to 224, min-max, 8 bit, > "
        "int(tau max); boxes end at pixel 223, [0, 0, 0, 0] for none; any true box; IoU with +1. MaxBoxAcc: the "
        "largest contour, best tau on the test images; V2: all contours, mean over IoU 0.3, 0.5, 0.7, each with "
        "its best tau; PxAP over all pixels",
        Frame("stretch", 224, "bicubic", True), "stretch", (0, 0, 0, 0), True, 1.0, whole_pixels=True, max_box_acc=True,
    ),
)  # fmt: skip

PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def protocols_named(names: str) -> list[Protocol]:
    """`"all"` or names with commas between > protocols. Raises TrainError for a name that is none."""
    if names == "all":
        return list(_ALL)
    found = []
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        if name not in PROTOCOLS:
            raise TrainError(f"No --protocol {name!r}{did_you_mean(name, ('all', *PROTOCOLS))}")
        found.append(PROTOCOLS[name])
    return found
