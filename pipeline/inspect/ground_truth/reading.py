"""Rules that turn what a mask file stores into object and background, one for all masks of a folder.

A rule is called with `MaskPixels` and gives `(H, W) bool`. It raises ImageError for a file that does not fit it: one
odd file neither changes the rule nor is read by another one. A mask in which nothing is marked is empty under every
rule. `describe` ends the sentence "masks read as: ". `void_of` gives the pixels that the figures of masks leave out, as
PASCAL VOC's evaluation does.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...errors import ImageError
from .pixels import COLOURED, GREY, MaskPixels

VOID = 255
"""The index of pixels that nobody labelled, in PASCAL VOC and after it: neither object nor background."""

VOID_COLOUR = (224, 224, 192)
"""The same in VOC's palette."""


class Reading(Protocol):
    """A rule."""

    def describe(self) -> str: ...

    def __call__(self, pixels: MaskPixels) -> np.ndarray: ...

    def void_of(self, pixels: MaskPixels) -> np.ndarray | None:
        """`(H, W) bool`, pixels that are neither object nor background; None for a rule without any."""
        ...


@dataclass(frozen=True)
class Brightness:
    """Grey: brighter than half is object; `dark`: what is not."""

    dark: bool = False

    def describe(self) -> str:
        return f"grey, {'not ' if self.dark else ''}brighter than half is object"

    def __call__(self, pixels: MaskPixels) -> np.ndarray:
        if pixels.kind == "palette" and not pixels.black:
            raise ImageError("is a palette image and the masks are read as grey; say what is object with --truth-class")
        values = np.zeros(pixels.shape, np.uint8) if pixels.black else pixels.values
        if values is None:
            raise ImageError(f"has colours ({_coloured(pixels):.0%} of what is not black); a mask is grey here")
        bright = values > pixels.white // 2
        if not bright.any() and values.max() > 0 and not self.dark:
            raise ImageError(
                f"is empty: its brightest value is {values.max()}, and an object is brighter than {pixels.white // 2}"
            )
        return ~bright if self.dark else bright

    def void_of(self, pixels: MaskPixels) -> np.ndarray | None:
        return None


@dataclass(frozen=True)
class Labels:
    """Indices of classes, grey or of a palette: `classes` are object, or any but 0 and void."""

    kind: str  # "grey", "palette", or "" for both
    classes: tuple[int, ...] = ()  # (): any
    void: int | None = None
    seen: str = ""  # the indices seen, in words
    unseen: int | None = None  # what would be void, but is in none of the masks that decided

    def describe(self) -> str:
        what = {"palette": "palette index", "grey": "label index"}.get(self.kind, "index")
        void = f"; {self.void} {_VOID}" if self.void is not None else ""
        if self.classes:
            return f"{what}, {', '.join(map(str, self.classes))} is object{void}"
        return f"{what}, any but 0 is object{f' (seen: {self.seen})' if self.seen else ''}{void}"

    def __call__(self, pixels: MaskPixels) -> np.ndarray:
        if pixels.black and not self.classes:
            return np.zeros(pixels.shape, bool)
        values = pixels.values
        if values is None:
            raise ImageError("has colours, and no indices; name the object's colour: --truth-class '#rrggbb'")
        if self.kind and pixels.kind != self.kind:
            raise ImageError(
                f"is a {_KIND_NAMES[pixels.kind]} image and the other masks are {_KIND_NAMES[self.kind]} images; "
                "say what is object with --truth-class"
            )
        if self.classes:
            return np.isin(values, self.classes)
        marked = values > 0
        if self.unseen is not None and np.any(values == self.unseen):
            raise ImageError(
                f"has the index {self.unseen}, often void, which the masks that decided lack; say what is object with "
                "--truth-class"
            )
        if self.void is None:
            return marked
        found: np.ndarray = marked & (values != self.void)
        if not found.any():
            raise ImageError(f"has no index but 0 and {self.void}, which is void in the other masks")
        return found

    def void_of(self, pixels: MaskPixels) -> np.ndarray | None:
        return None if self.void is None or pixels.values is None else np.asarray(pixels.values == self.void)


@dataclass(frozen=True)
class Colours:
    """Colours: one of them is object, or any but black and VOC's void."""

    colour: tuple[int, int, int] | None = None  # None: any
    seen: str = ""  # the colours seen, in words
    void: bool = False  # whether VOC's colour of void is among them

    def describe(self) -> str:
        void = f"; {_hex(VOID_COLOUR)} {_VOID}" if self.void else ""
        if self.colour is not None:
            return f"colours, {_hex(self.colour)} is object{void}"
        return f"colours, any but black is object (seen: {self.seen}){void}"

    def __call__(self, pixels: MaskPixels) -> np.ndarray:
        rgb = pixels.rgb()
        if self.colour is not None:
            return _near(rgb, self.colour)
        return (rgb.max(2) > GREY) & ~_near(rgb, VOID_COLOUR)

    def void_of(self, pixels: MaskPixels) -> np.ndarray | None:
        return _near(pixels.rgb(), VOID_COLOUR) if self.void else None


@dataclass(frozen=True)
class OneColour:
    """One colour on black, with soft edges: brighter than half of it is object."""

    colour: tuple[int, int, int]

    def describe(self) -> str:
        return f"{_hex(self.colour)} on black, brighter than half of it is object"

    def __call__(self, pixels: MaskPixels) -> np.ndarray:
        return np.asarray(pixels.rgb().max(2) > max(self.colour) // 2)

    def void_of(self, pixels: MaskPixels) -> np.ndarray | None:
        return None


@dataclass(frozen=True)
class Alpha:
    """Opaque by more than half is object, whatever the colours."""

    def describe(self) -> str:
        return "alpha, more than half opaque is object"

    def __call__(self, pixels: MaskPixels) -> np.ndarray:
        if pixels.alpha is None:
            raise ImageError("has no alpha channel, by which the masks are read; say what is object with --truth-class")
        opaque: np.ndarray = pixels.alpha > 127
        return opaque

    def void_of(self, pixels: MaskPixels) -> np.ndarray | None:
        return None


_VOID = "is void: left out of the figures of masks, background for boxes"
_KIND_NAMES = {"grey": "grey", "palette": "palette", "colour": "colour"}


def _near(rgb: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels within GREY of a colour in each channel: JPEG changes them."""
    return np.asarray((np.abs(rgb.astype(np.int16) - np.array(colour, np.int16)) <= GREY).all(2))


def _coloured(pixels: MaskPixels) -> float:
    rgb = pixels.rgb()
    marked = rgb[rgb.max(2) > GREY]
    return float(np.mean(np.ptp(marked, axis=1) > GREY)) if len(marked) else COLOURED


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
