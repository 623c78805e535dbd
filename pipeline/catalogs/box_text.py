"""Boxes in the notations of list files > four numbers each."""

import json
from collections.abc import Sequence
from typing import Any

FORMS = "[[x0, y0, x1, y1], ...], or x0 y0 x1 y1; x0 y0 x1 y1"


def parse_boxes(value: object) -> Sequence[Sequence[float]]:
    """Lists of boxes, one flat box, or either as text > boxes x0 y0 x1 y1, in their order; None and "" are no boxes.

    Raises ValueError: anything else. `build_catalog` checks that the numbers are a box.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        text = value.strip()
        value = _from_json(text) if text.startswith("[") else [part.split() for part in text.split(";") if part.strip()]
    if not isinstance(value, list):
        raise _not_boxes(value)
    if value and not any(isinstance(box, list) for box in value):
        value = [value]
    return [_box(box) for box in value]


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_boxes(text) from error


def _box(numbers: object) -> list[float]:
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise _not_boxes(numbers)
    try:
        if any(isinstance(number, bool) or (isinstance(number, str) and "_" in number) for number in numbers):
            raise ValueError
        return [float(number) for number in numbers]
    except (TypeError, ValueError, OverflowError) as error:
        raise _not_boxes(numbers) from error


def _not_boxes(value: object) -> ValueError:
    shown = value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, list) else repr(value)
    return ValueError(f"boxes {shown[:80]!r} are not {FORMS}")
