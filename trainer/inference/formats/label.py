"""The label of an overlay: the best class and its score, in any script that a font of this machine has.

A name without a font is drawn as `class 3`, with the class's number. Long names lose their middle.
"""

from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw, ImageFont

from ....pipeline.io.fonts import DrawableText, default_font, find_font, isolated, needs_shaping, shortened
from ..predict import Prediction

LEAST_FONT_PX = 9
WHOLE_NAME = 0.7  # of the font's size: a name that is still too long then is shortened


@dataclass(frozen=True)
class _Fitted:
    """A text in a font, and its place relative to the upper left corner of the label."""

    text: str
    font: ImageFont.FreeTypeFont
    at: tuple[float, float]
    width: int
    height: int


def draw_label(
    pen: ImageDraw.ImageDraw,
    prediction: Prediction,
    box: np.ndarray | None,
    colour: tuple[int, int, int],
    size: tuple[int, int],
) -> None:
    """Above the box's upper edge, or inside the box if there is no room above; always within the canvas.

    A canvas that is too narrow for the score gets a bar of the class's colour.

    box   (4,) xyxy on the canvas
    size  width and height of the canvas
    """
    name, score = _name_and_score(prediction)
    fitted, (width, height) = _fit(name, score, size), size
    if fitted is None:
        pen.rectangle([0, 0, min(width, LEAST_FONT_PX) - 1, min(height, LEAST_FONT_PX) - 1], fill=colour)
        return
    x, y = (0, 0) if box is None else (round(box[0]), round(box[1]) - fitted.height)
    if box is not None and y < 0:
        y = round(box[1])
    x, y = max(0, min(x, width - fitted.width)), max(0, min(y, height - fitted.height))
    pen.rectangle([x, y, x + fitted.width - 1, y + fitted.height - 1], fill=colour)
    position = (x + fitted.at[0], y + fitted.at[1])
    pen.text(position, fitted.text, fill=(0, 0, 0), font=fitted.font, anchor="ls", direction=_direction(fitted.text))


def _name_and_score(prediction: Prediction) -> tuple[DrawableText, str]:
    if not prediction.classes:
        return DrawableText("object", default_font()), f"{prediction.mask_score:.2f}"
    name = prediction.classes[0]
    drawable = find_font(f"class {name}" if name.isdecimal() else name)
    number = DrawableText(f"class {prediction.labels[0]}", default_font())
    return drawable or number, f"{prediction.scores[0]:.2f}"


def _fit(name: DrawableText, score: str, size: tuple[int, int]) -> _Fitted | None:
    """The largest font in which the whole name fits the canvas; else a small one and a part of the name."""
    most = max(14, round(max(size) / 36))
    least_whole = max(LEAST_FONT_PX, round(most * WHOLE_NAME))
    for font_px in range(most, least_whole - 1, -1):
        if (whole := _place(f"{isolated(name.text)}: {score}", name.font, font_px, size)) is not None:
            return whole
    for font_px in range(least_whole, LEAST_FONT_PX - 1, -1):
        if (short := _shortened(name, score, font_px, size)) is not None:
            return short
    return _place(score, name.font, LEAST_FONT_PX, size)


def _shortened(name: DrawableText, score: str, font_px: int, size: tuple[int, int]) -> _Fitted | None:
    def place(text: str) -> _Fitted | None:
        return _place(f"{isolated(text)}: {score}", name.font, font_px, size)

    short = shortened(name.text, lambda text: place(text) is not None)
    return None if short is None else place(short)


def _place(text: str, file: str, font_px: int, size: tuple[int, int]) -> _Fitted | None:
    """None if the text does not fit the canvas."""
    font = ImageFont.truetype(file, font_px)
    left, top, right, bottom = font.getbbox(text, anchor="ls", direction=_direction(text))
    ascent, descent = font.getmetrics()
    pad = max(2, font_px // 4)
    above, below = max(ascent, -top), max(descent, bottom)  # marks may reach beyond the font's own lines
    width, height = int(np.ceil(right - left)) + 2 * pad, int(np.ceil(above + below))
    if width > size[0] or height > size[1]:
        return None
    return _Fitted(text, font, (pad - left, above), width, height)


def _direction(text: str) -> str | None:
    """The label reads from left to right, also where the name does not. Only shaping takes a direction."""
    return "ltr" if needs_shaping(text) else None
