"""The field's evaluation protocols: four sets of rules that give different numbers for one model.

A protocol is data. To add one, add it to PROTOCOLS.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...pipeline.errors import TrainError, check_known
from ...pipeline.geometry.resize_crop import ResizeCrop

Fit = Literal["stretch", "centre_crop"]
"""How an image becomes a square. stretch: all of it; centre_crop: short side to 256, then the central 224."""

TAUS = np.arange(0, 1, 0.001)
"""Thresholds of curves, as shares of a map's maximum."""

LEVELS = 256
"""Levels of an 8-bit map: thresholds 0 to 255. The mask of the last one is empty."""


@dataclass(frozen=True)
class Frame:
    """The square in which maps are compared with ground-truth boxes."""

    fit: Fit
    size_px: int
    resample: Literal["bilinear", "bicubic"]
    eight_bit: bool  # maps x 255 to uint8, thresholds int(tau * max); else floats, thresholds tau

    def geometry(self, source_px: tuple[int, int]) -> ResizeCrop:
        return fit_geometry(self.fit, source_px, self.size_px)


@dataclass(frozen=True)
class Protocol:
    """One set of rules; `rules` states them in words."""

    name: str
    rules: str
    frame: Frame
    class_fit: Fit  # of the classifier's input
    empty_box: tuple[int, int, int, int]  # the box of an empty mask
    clipped: bool  # boxes end at size - 1
    plus: float  # IoU with widths of x1 - x0 + plus
    truths: Literal["any", "first"] = "any"  # which ground-truth boxes count
    whole_pixels: bool = False  # ground-truth boxes of stretched images are truncated to whole pixels of the frame
    # chosen: by --tau; fixed: 0.5; test: the best one on the test images
    tau: Literal["chosen", "fixed", "test"] = "chosen"
    taus: dict[str, tuple[float, float]] = field(default_factory=dict)  # lowest and highest for "test", by catalog kind
    max_box_acc: bool = False  # has MaxBoxAcc, MaxBoxAccV2 and PxAP too

    def boxes_in_frame(self, truths: np.ndarray, source_px: tuple[int, int], any_box: bool = False) -> np.ndarray:
        """An image's ground-truth boxes `(n, 4)` > in the frame: those that count, or all with `any_box`."""
        truths = np.asarray(truths, np.float64).reshape(-1, 4)
        truths = truths[:1] if self.truths == "first" and not any_box else truths
        if self.whole_pixels:  # multiplied first: another order of rounding would cut 49 to 48
            return np.trunc(truths * self.frame.size_px / np.tile(source_px, 2))
        return self.frame.geometry(source_px).boxes(truths)

    def predicted_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Contours' boxes `(..., 4)`, zeros for an empty mask, > by the protocol's rules, `(..., 4) float64`."""
        out = np.asarray(boxes, np.float64).copy()
        empty = out[..., 2] == 0
        if self.clipped:
            out[..., 2:] = np.minimum(out[..., 2:], self.frame.size_px - 1)
        out[empty] = self.empty_box
        return out

    def test_taus(self, kind: str) -> np.ndarray:
        """The thresholds that are tried on the test images of a kind of catalog."""
        if not self.taus:
            return TAUS
        low, high = self.taus.get(kind, self.taus[""])
        return np.round(np.arange(low, high + 0.005, 0.01), 2)


def fit_geometry(fit: Fit, source_px: tuple[int, int], size_px: int) -> ResizeCrop:
    """From an image to the square of a fit, at any size: models have input sizes of their own."""
    if fit == "stretch":
        return ResizeCrop.stretch(source_px, size_px)
    return replace(ResizeCrop.centre_crop(source_px, 224, 256), target_px=size_px)


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
    """`"all"`, or names separated by commas, > protocols. Raises TrainError for an unknown name."""
    if names == "all":
        return list(_ALL)
    protocols = []
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        check_known(TrainError, "--protocol", name, ("all", *PROTOCOLS))
        protocols.append(PROTOCOLS[name])
    return protocols
