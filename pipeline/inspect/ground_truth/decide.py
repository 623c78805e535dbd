"""Decides how the masks of a folder are read: by `--truth-class`, or by what a sample of them holds.

The rule is the folder's, not a file's, so that one odd mask cannot change it:

    all values 0 and 255 (65535), or grey with soft edges       brighter than half is object
    a few other whole numbers with 0 (0 and 1; label indices)   any but 0 is object; 255 beside others is void
    a coloured palette                                          any index but 0 is object; 255 beside others is void
    one colour on black; a few flat colours and black           any colour is object
    transparent parts                                           opaque is object

What fits two rules is an error that names the option. Void is neither object nor background.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ...errors import ImageError, TruthError
from .pixels import GREY, WHITE_16, MaskPixels
from .reading import VOID, VOID_COLOUR, Alpha, Brightness, Colours, Labels, OneColour, Reading

SAMPLE = 32
"""At most so many masks decide, evenly spaced."""

THIN_PX = 512  # longest side at which colours and borders are looked at
FEW_VALUES = 64  # most values of a file of label indices
TRIMAP = 100  # highest class beside white: 127 and 128 are the unknown part of trimaps
FLAT_COLOURS = 256  # most colours of a file of colour-coded labels
EDGE_PX = 5  # soft edges are thinner
INNER = 0.02  # largest share of pixels further inside than that, of the bright ones
SOFT = 0.1  # the same of all pixels between black and white, where they have one or two levels
SHADES = 0.9  # smallest share of bright pixels that are shades of the one colour of a mask
BLACK = 0.01  # smallest number of black pixels, of the others
DIM = 0.25  # largest share of pixels that are darker than half of it, but not black
BORDER = 0.7  # share of the border that an object fills if the mask may be inverted
OTHERS = 0.25  # share of masks of another kind that makes a folder ambiguous
EDGES = 0.02  # largest share of pixels in which brightness and alpha of the same mask differ
NAMED = 8  # values and colours that a message names

_NAME_IT = "say what is object with --truth-class: any, bright, dark, alpha, an index such as 1, or a colour as #rrggbb"


@dataclass(frozen=True)
class Seen:
    """What one mask of the sample holds."""

    name: str
    pixels: MaskPixels  # thinned
    counts: np.ndarray  # (256 or 65536,) pixels by value, of all its pixels; none for colours
    white: int

    @property
    def values(self) -> np.ndarray:
        """Values other than 0, rising."""
        return np.flatnonzero(self.counts[1:]) + 1


def seen(name: str, pixels: MaskPixels) -> Seen:
    """A sample is small: thirty masks of a camera's size would fill the memory."""
    counts = np.zeros(0, np.int64)
    if pixels.values is not None:
        counts = np.bincount(pixels.values.ravel(), minlength=pixels.white + 1)
    return Seen(name, pixels.thinned(THIN_PX), counts, pixels.white)


def reading_of_class(truth_class: str) -> Reading | None:
    """`--truth-class` of mask files > its rule; None for `any`, which the sample decides. Raises TruthError."""
    words: dict[str, Reading | None] = {
        "any": None,
        "bright": Brightness(),
        "dark": Brightness(dark=True),
        "alpha": Alpha(),
    }
    text = truth_class.strip().lower()
    if text in words:
        return words[text]
    if re.fullmatch(r"\d{1,5}(\s*,\s*\d{1,5})*", text):
        return Labels("", tuple(int(part) for part in text.split(",")))
    if re.fullmatch(r"#[0-9a-f]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return Colours((red, green, blue))
    raise TruthError(
        f"--truth-class {truth_class}: masks in files have any, bright, dark, alpha, an index such as 1, or a colour "
        "as #rrggbb; names of categories are COCO's (--truth instances.json)"
    )


def with_void(reading: Reading, sample: Iterable[Seen]) -> Reading:
    """The rule of a named class or colour, with the masks' void: 255 beside classes up to TRIMAP, VOC's colour."""
    if isinstance(reading, Labels) and reading.classes and max(reading.classes) <= TRIMAP:
        labelled = [one for one in sample if len(one.counts) > VOID and one.pixels.kind != "colour"]
        if any(one.counts[VOID] and one.white == VOID for one in labelled):
            return replace(reading, void=VOID)
    if isinstance(reading, Colours) and reading.colour != VOID_COLOUR:
        return replace(reading, void=any((one.pixels.rgb() == VOID_COLOUR).all(2).any() for one in sample))
    return reading


def decide(sample: Iterable[Seen], any_value: bool = False) -> Reading:
    """The rule for masks like these. Raises TruthError where two rules fit, or none.

    any_value  `--truth-class any` was given: every value but 0 is object, also where that is not the only way to read
    """
    marked = [one for one in sample if not one.pixels.black or one.pixels.has_matte]
    if not marked:
        return Brightness()
    mattes = [one for one in marked if one.pixels.has_matte]
    if len(mattes) * 2 > len(marked) and not any_value:
        return _of_mattes(mattes)
    marked = [one for one in marked if not one.pixels.black]
    kinds = Counter(one.pixels.kind for one in marked)
    kind, count = kinds.most_common(1)[0]
    if kinds["colour"] > OTHERS * len(marked):
        kind, count = "colour", kinds["colour"] + kinds["grey"]  # the white or grey one of several colours
    if len(marked) - count > OTHERS * len(marked):
        first = {one.pixels.kind: one.name for one in reversed(marked)}
        shown = " and ".join(f"{name} ({kind})" for kind, name in first.items())
        raise TruthError(f"True masks are of several kinds, as {shown}; {_NAME_IT}")
    if kind == "colour":
        return _of_colours(marked)
    of_kind = [one for one in marked if one.pixels.kind == kind]
    if kind == "palette":
        return _of_palette(of_kind)
    return _of_grey(of_kind, any_value)


def inverted(sample: list[Seen], reading: Reading) -> str | None:
    """A warning if most masks of the sample have an object that fills the border of the image; None if not."""
    filled = 0
    for one in sample:
        try:
            object_ = reading(one.pixels)
        except ImageError:  # named when the mask itself is read
            continue
        border = np.concatenate([object_[0], object_[-1], object_[:, 0], object_[:, -1]])
        filled += bool(border.mean() >= BORDER)
    if filled * 2 <= len(sample):
        return None
    return (
        f"the object fills the border of the image in {filled} of {len(sample)} true masks that were looked at; if the "
        "object is the dark part, give --truth-class dark; if they label whole scenes, name the object's class"
    )


def _of_mattes(mattes: list[Seen]) -> Reading:
    agree = 0
    for one in mattes:
        if one.pixels.kind == "grey" and one.pixels.values is not None and one.pixels.alpha is not None:
            bright = one.pixels.values > one.pixels.white // 2
            agree += bool(np.mean(bright != (one.pixels.alpha > 127)) < EDGES)
    if agree * 2 > len(mattes):
        return Brightness()  # white on transparent: the same by both rules
    black = sum(one.pixels.black for one in mattes)
    coloured = sum(one.pixels.kind == "colour" for one in mattes)
    if (black + coloured) * 2 > len(mattes):
        return Alpha()
    raise TruthError(f"True mask {mattes[0].name} has an object in alpha and another in its brightness; {_NAME_IT}")


def _of_palette(marked: list[Seen]) -> Reading:
    for one in marked:
        palette = one.pixels.palette
        if palette is not None and palette[0].any() and one.counts[0]:
            others = [value for value in one.values.tolist() if not palette[value].any()]
            if others:
                raise TruthError(
                    f"True mask {one.name} has a palette in which {others[0]} is black and 0 is not: either may be the "
                    f"background; {_NAME_IT}"
                )
    _check_background(marked)
    return _labels("palette", marked)


def _of_grey(marked: list[Seen], any_value: bool) -> Reading:
    white_only = [one for one in marked if one.values.tolist() == [one.white]]
    others = [one for one in marked if one.values.tolist() != [one.white]]
    if not others:
        return Brightness()
    if any_value:
        return _labels("grey", marked, any_value)
    reading = _of_levels(others)
    if isinstance(reading, Brightness) or not white_only:
        return reading
    fewer, more = sorted((white_only, others), key=len)
    if len(fewer) > max(1, OTHERS * len(marked)):
        raise TruthError(
            f"True masks are of two kinds, as {more[0].name} (0, {_listed(more[0].values)}) and {fewer[0].name} "
            f"(0, {_listed(fewer[0].values)}); {_NAME_IT}"
        )
    return reading if more is others else Brightness()


def _of_levels(files: list[Seen]) -> Reading:
    """The rule for grey masks that are not only black and white."""
    values = np.unique(np.concatenate([one.values for one in files]))
    if sum(one.pixels.soft for one in files) * 2 > len(files):
        return Brightness()
    white = max(one.white for one in files)
    most = max(len(one.values) for one in files)
    levels = values[values != white]
    if len(levels) and len(values) == 1:  # one value beside 0
        return _labels("grey", files)
    dark_only = not len(levels) or levels.max() <= white // 2
    if not dark_only and (most > FEW_VALUES or _has_soft_edges(files)):
        return Brightness()
    # Without levels between half and white, what is not white is no soft edge: classes, and white is void.
    bright, dim = (sum(_pixels(one, *of) for one in files) for of in ((white // 2 + 1, white), (1, white // 2)))
    if most > FEW_VALUES or (white == VOID and not dark_only) or (bright and (dim < bright or levels.max() > TRIMAP)):
        name = next(one.name for one in files if len(one.values) == most)
        raise TruthError(
            f"True mask {name} has the values {_listed(values)}: they may be classes, or levels of grey; {_NAME_IT}"
        )
    _check_background(files)
    return _labels("grey", files)


def _has_soft_edges(files: list[Seen]) -> bool:
    """Whether what lies between black and white is thin, and of more than one level or little."""
    bright = between = inner = 0
    levels: set[int] = set()
    for one in files:
        values = one.pixels.values
        assert values is not None, "of the kind grey"
        near = GREY * one.white // 255
        grey = (values > near) & (values < one.white - near)
        levels |= set(np.unique(values[grey]).tolist())
        bright += int(np.count_nonzero(values > one.white // 2))
        between += int(np.count_nonzero(grey))
        inner += int(np.count_nonzero(cv2.erode(grey.astype(np.uint8), np.ones((EDGE_PX, EDGE_PX), np.uint8))))
    return inner <= INNER * bright and (len(levels) > 2 or between <= SOFT * bright)


def _pixels(one: Seen, low: int, high: int) -> int:
    return int(one.counts[low : high + 1].sum())


def _check_background(files: list[Seen]) -> None:
    without = [one for one in files if not one.counts[0]]
    if len(without) * 2 > len(files):
        raise TruthError(
            f"True mask {without[0].name} has the values {_listed(without[0].values)} and no 0 for the background, "
            f"like {len(without)} of {len(files)} that were looked at; {_NAME_IT}"
        )


def _labels(kind: str, files: list[Seen], any_value: bool = False) -> Labels:
    values = np.unique(np.concatenate([one.values for one in files]))
    void = WHITE_16 if WHITE_16 in values else VOID
    labels = values[values != void]
    if len(labels) and len(labels) < len(values):
        return Labels(kind, (), void, _listed(labels))
    return Labels(kind, (), None, _listed(values), void if len(labels) and not any_value else None)


def _of_colours(marked: list[Seen]) -> Reading:
    total, black = np.zeros((0, 3), np.uint8), 0
    colours: Counter[tuple[int, int, int]] = Counter()
    flat = True
    for one in marked:
        rgb = one.pixels.rgb().reshape(-1, 3)
        packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        unique, counts = np.unique(packed, return_counts=True)
        flat &= len(unique) <= FLAT_COLOURS
        for colour, count in zip(unique[np.argsort(-counts)][:NAMED].tolist(), np.sort(counts)[::-1], strict=False):
            colours[colour >> 16, colour >> 8 & 255, colour & 255] += int(count)
        total = np.concatenate([total, rgb[rgb.max(1) > GREY]])
        black += int(np.count_nonzero(rgb.max(1) <= GREY))
    if black > BLACK * len(total) and (colour := _one_colour(total)) is not None:
        return OneColour(colour)
    listed = ", ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour, _ in colours.most_common(NAMED))
    if not flat:
        raise TruthError(
            f"True mask {marked[0].name} has colours, more than {FLAT_COLOURS} of them: it is a photograph, or a mask "
            f"after JPEG; name the folder of masks with --truth, or the object's colour with --truth-class '#rrggbb'"
        )
    if colours[0, 0, 0] == 0:
        raise TruthError(
            f"True mask {marked[0].name} has colours and no black ({listed}); name the object's colour with "
            "--truth-class '#rrggbb'"
        )
    return Colours(None, ", ".join(one for one in listed.split(", ") if one != "#000000"), bool(colours[VOID_COLOUR]))


def _one_colour(marked: np.ndarray) -> tuple[int, int, int] | None:
    """The colour of which all pixels `(n, 3)` that are not black are shades; None if there is none."""
    if not len(marked):
        return None
    brightest = marked[marked.max(1) >= np.quantile(marked.max(1), 0.9)]
    red, green, blue = np.median(brightest, axis=0).astype(int).tolist()
    colour = np.array([red, green, blue], np.float64)
    shade = marked.max(1, keepdims=True) / max(colour.max(), 1)
    shades = (np.abs(marked - shade * colour) <= 2 * GREY).all(1)
    bright = marked.max(1) >= colour.max() / 2
    # JPEG spreads colours over edges, and mostly over the dark side of them.
    return (red, green, blue) if shades[bright].mean() > SHADES and bright.mean() > 1 - DIM else None


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(map(str, values[:NAMED].tolist()))
    return shown if len(values) <= NAMED else f"{shown}, ... {values[-1]}"
