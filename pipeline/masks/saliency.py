"""Maps of a ViT > saliency map > trimap and odds of foreground (METHOD: supplement A; numbers are the recipe's).

Four strategies, which differ in what a threshold means:

    absolute  share of the range of the heads' mean attention, as the paper's masks; levels depend on backbone and size
    relative  multiple of the attention's mean, which does not depend on one bright token as the range does
    contrast  difference of two cosines: how much more a patch looks like the object than like the rest, see
              backbones/contrast.py; 0 is neutral, whatever the backbone and its size
    generator probability of the object in the map of a trained generator, or in its mean with the contrast

`heads` chooses by number, or by a rule: an object seldom lies along the border of its image, so a head with little
attention there looks at the object. docs/decisions/0007 has figures.
"""

from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator

from ..config import Settings
from ..geometry.border import border_width
from ..geometry.normalize import min_max

# OpenCV's GrabCut codes.
SURE_BACKGROUND, SURE_FOREGROUND, PROBABLE_BACKGROUND, PROBABLE_FOREGROUND = 0, 1, 2, 3


TINY = 1e-12

GENERATOR_SCALE = 8
"""A generator draws 8 x 8 points for each token."""

GENERATOR_MAPS = GENERATOR_SCALE * GENERATOR_SCALE
"""Maps of the token grid that a generator's map is stored as, see `pack_map`."""


class SaliencySettings(Settings):
    """How attention becomes a trimap, and a probability of foreground."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"strategy", "prior_range", "contrast_share"})

    strategy: Literal["absolute", "relative", "contrast", "generator"] = Field(
        "absolute",
        description="Unit of the three thresholds: share of the attention's range, multiple of its mean, contrast, a "
        "difference of cosines that needs backbone.maps = 'attention+contrast', or probability in a generator's map.",
    )
    contrast_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="For the strategy generator: weight of the contrast in its mean with the generator's map, where "
        "a contrast of -0.5 is a probability of 0 and one of 0.5 is 1.",
    )
    heads: tuple[int, ...] | Literal["mean", "off_border"] = Field(
        (0, 1, 2),
        description="Heads whose attention is averaged: the published masks use the first three of six; mean takes "
        "all; off_border takes, image by image, the one with the least attention along the border.",
    )
    foreground_from: float = Field(0.10, description="From here on a pixel is sure foreground.")
    background_below: float = Field(0.03, description="Below this a pixel is sure background.")
    unknown_init: Literal["background", "split", "foreground"] = Field(
        "split",
        description="What the pixels in between start as. It moves masks more than further iterations do: on simulated "
        "saliency over real photographs, split gained 5 points of IoU over the published code's background.",
    )
    threshold: float = Field(
        0.05,
        description="PPD's plain pseudo-mask: the split, and the fallback where refinement cannot run.",
    )
    prior_range: tuple[float, float] = Field(
        (0.02, 4.0),
        description="For an engine with a prior_weight: odds of foreground are the map as multiples of its mean, "
        "clipped to this range.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "SaliencySettings":
        if not self.background_below <= self.threshold <= self.foreground_from:
            raise ValueError("background_below <= threshold <= foreground_from must hold")
        low, high = self.background_below, self.foreground_from
        if (low < 0 and self.strategy != "contrast") or (high > 1 and self.strategy in ("absolute", "generator")):
            raise ValueError(f"thresholds from {low:g} to {high:g} make no sense with strategy = {self.strategy!r}")
        if not 0 < self.prior_range[0] <= 1 <= self.prior_range[1]:
            raise ValueError("prior_range must be two numbers, above 0 and up to 1, and 1 or more")
        if isinstance(self.heads, tuple) and (
            not self.heads or min(self.heads) < 0 or len(set(self.heads)) < len(self.heads)
        ):
            raise ValueError("heads must be 'mean', 'off_border' or a list of different head numbers from 0")
        return self


def saliency_map(maps: np.ndarray, settings: SaliencySettings, size_px: int) -> np.ndarray | None:
    """Maps `(H, h, w) float` > saliency `(size_px, size_px) float32`, in the unit of the thresholds; None: it is flat.

    maps  attention of the heads; for the strategy `contrast` the contrast map, the last one; for `generator` the
          contrast map and the packed map of a generator. All are finite.

    Resized bilinearly.
    """
    mean = _mean_map(maps, settings)
    scaled = min_max(mean)
    if scaled is None:
        return None
    if settings.strategy != "absolute":
        scaled = mean
    return cv2.resize(scaled, (size_px, size_px), interpolation=cv2.INTER_LINEAR)


def foreground_odds(maps: np.ndarray, settings: SaliencySettings, size_px: int) -> np.ndarray:
    """Maps `(H, h, w) float` > odds of foreground `(size_px, size_px) float32`, above 0.

    Attention as a multiple of its mean, or odds of the generator's probability, within `prior_range`; or exp(contrast).
    """
    mean = _mean_map(maps, settings)
    if settings.strategy == "absolute":
        mean = mean / max(float(mean.mean()), TINY)
    resized = cv2.resize(mean, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    if settings.strategy == "generator":
        resized = resized / np.maximum(1 - resized, TINY)
    return np.exp(resized) if settings.strategy == "contrast" else resized.clip(*settings.prior_range)


def _mean_map(maps: np.ndarray, settings: SaliencySettings) -> np.ndarray:
    """The mean of the chosen heads, as a multiple of its own mean if `relative`; or the contrast: `(h, w) float32`.

    For `generator` the probabilities, `(8h, 8w) float32`.
    """
    maps = maps.astype(np.float32)
    if settings.strategy == "contrast":
        return maps[-1]
    if settings.strategy == "generator":
        return _probability(unpack_map(maps[-GENERATOR_MAPS:]), maps[0], settings.contrast_share)
    if settings.heads == "off_border":
        mean = maps[int(border_shares(maps).argmin())]
    else:
        mean = (maps if settings.heads == "mean" else maps[list(settings.heads)]).mean(axis=0)
    return mean / max(float(mean.mean()), TINY) if settings.strategy == "relative" else mean


def _probability(drawn: np.ndarray, contrast: np.ndarray, contrast_share: float) -> np.ndarray:
    """The generator's map `(8h, 8w) float32`, or its mean with the contrast `(h, w) float32`."""
    if not contrast_share:
        return drawn
    resized = cv2.resize(contrast, drawn.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (1 - contrast_share) * drawn + contrast_share * (0.5 + resized).clip(0, 1)


def pack_map(drawn: np.ndarray) -> np.ndarray:
    """A map `(8h, 8w)` of a generator > `(64, h, w)`: the points of each token, row by row. Nothing is lost."""
    scale = GENERATOR_SCALE
    height, width = drawn.shape[0] // scale, drawn.shape[1] // scale
    return drawn.reshape(height, scale, width, scale).transpose(1, 3, 0, 2).reshape(GENERATOR_MAPS, height, width)


def unpack_map(packed: np.ndarray) -> np.ndarray:
    """`(64, h, w)` > the map `(8h, 8w)` that `pack_map` was given."""
    scale, (_, height, width) = GENERATOR_SCALE, packed.shape
    points = packed.reshape(scale, scale, height, width).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(points.reshape(scale * height, scale * width))


def border_shares(attention: np.ndarray) -> np.ndarray:
    """Attention `(H, h, w) float32` > each head's share along the border of the image, `(H,)`; 1 for a head of zeros.

    The border is `border_width` tokens wide.
    """
    _, height, width = attention.shape
    ring = border_width(height, width)
    total = attention.sum((1, 2))
    inside = attention[:, ring : height - ring, ring : width - ring].sum((1, 2))
    return np.where(total > 0, 1 - inside / np.maximum(total, TINY), 1.0)


def make_trimap(saliency: np.ndarray, settings: SaliencySettings) -> np.ndarray:
    """Saliency `(S, S) float32` > trimap `(S, S) uint8` in OpenCV's codes: 0 and 1 sure, 2 and 3 probable."""
    unknown: np.ndarray | int
    if settings.unknown_init == "split":
        unknown = np.where(saliency >= settings.threshold, PROBABLE_FOREGROUND, PROBABLE_BACKGROUND)
    else:
        unknown = PROBABLE_FOREGROUND if settings.unknown_init == "foreground" else PROBABLE_BACKGROUND
    trimap = np.where(saliency >= settings.foreground_from, SURE_FOREGROUND, unknown)
    return np.where(saliency < settings.background_below, SURE_BACKGROUND, trimap).astype(np.uint8)
