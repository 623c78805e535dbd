"""Boxes in the notations of list files > four numbers each."""

import json
import re
from collections.abc import Sequence
from typing import Any

from ...io.json_objects import unique_keys
from .list_values import is_missing

CORNERS, SIZES = "x0 y0 x1 y1", "x y width height"

# Names of a box's numbers in structs and JSON objects; the last ones are sizes.
_CORNER_KEYS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZE_KEYS = (("x", "y", "width", "height"), ("x", "y", "w", "h"))


def parse_boxes(value: object, xywh: bool = False) -> Sequence[Sequence[float]]:
    """Lists of boxes, one flat box, or either as text > boxes x0 y0 x1 y1, in their order; missing values are no boxes.

    xywh  the numbers are x y width height. A box whose numbers have names (`xmin`, ..., or `width`, ...) goes by them.

    Raises ValueError: anything else, and a width or height that is not positive. `build_catalog` checks that corners
    are a box.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("[", "{")):
            value = _from_json(text, xywh)
        elif is_missing(text):
            return ()
        else:
            value = [part.split() for part in text.split(";") if part.strip()]
    elif is_missing(value):
        return ()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise _not_boxes(value, xywh)
    if value and not any(isinstance(box, (list, dict)) for box in value):
        value = [value]
    return [_box(box, xywh) for box in value]


def _from_json(text: str, xywh: bool) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise _not_boxes(text, xywh) from error


def _box(box: object, xywh: bool) -> list[float]:
    numbers = box
    if isinstance(box, dict):
        keys = next((keys for keys in (*_CORNER_KEYS, *_SIZE_KEYS) if keys == tuple(k for k in keys if k in box)), None)
        if keys is None or len(box) != 4:
            raise _not_boxes(box, xywh)
        numbers, xywh = [box[key] for key in keys], keys in _SIZE_KEYS
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise _not_boxes(box, xywh)
    try:
        if any(isinstance(number, bool) or (isinstance(number, str) and "_" in number) for number in numbers):
            raise ValueError
        x0, y0, x1, y1 = (float(number) for number in numbers)
    except (TypeError, ValueError, OverflowError) as error:
        raise _not_boxes(box, xywh) from error
    if not xywh:
        return [x0, y0, x1, y1]
    if x1 <= 0 or y1 <= 0:
        raise ValueError(f"box {x0:g} {y0:g} {x1:g} {y1:g} (x y width height) has no area")
    return [x0, y0, x0 + x1, y0 + y1]


def _not_boxes(value: object, xywh: bool) -> ValueError:
    form = SIZES if xywh else CORNERS
    shown = value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, list) else repr(value)
    comma = "; write decimals with a point" if re.search(r"\d,\d+\s", shown) and "[" not in shown else ""
    return ValueError(
        f"boxes {shown[:80]!r} are not [[{form.replace(' ', ', ')}], ...], or {form} with semicolons between several"
        f"{comma}"
    )
