"""Values of a list's fields as CSV, JSON and Parquet hold them: missing ones, numbers for text, bytes."""

import os
from numbers import Real

from ..paths import to_text

# What pandas reads as missing (`pandas._libs.parsers.STR_NA_VALUES`), in exactly these spellings.
MISSING_WORDS = frozenset(
    ["NaN", "nan", "-NaN", "-nan", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None"]
)


def is_missing(value: object) -> bool:
    """None, NaN, blank text and MISSING_WORDS."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in MISSING_WORDS
    return value is None or (isinstance(value, float) and value != value)


def as_text(field: str, value: object) -> str:
    """Text of a path, an id or a label; "" for None and NaN.

    Bytes are UTF-8, or a path's own bytes as `paths.to_text` writes them. A whole number has no point: `1.0` is "1".
    Raises ValueError for anything else.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            if field == "path":
                return to_text(os.fsdecode(value))
    if field != "path":
        if isinstance(value, bool) and field == "label":
            return str(value)
        whole = _whole(value)
        if whole is not None:
            return str(whole)
    expected = {"path": "text", "id": "text or an integer", "label": "an integer >= 0 or a class name"}[field]
    raise ValueError(f"{field} {str(value)[:80]!r} is not {expected}{_hint(field, value)}")


def _whole(value: object) -> int | None:
    """The integer that a number of any type is (also Decimal), else None."""
    if isinstance(value, bool) or not (isinstance(value, Real) or hasattr(value, "as_integer_ratio")):
        return None
    try:
        return int(value) if int(value) == value else None  # type: ignore[call-overload]
    except (OverflowError, ValueError):  # infinity
        return None


def _hint(field: str, value: object) -> str:
    if field == "path" and isinstance(value, dict) and "bytes" in value:
        return "; images inside the file (as Hugging Face writes them) are read from Parquet, with --catalog parquet"
    if field == "label" and isinstance(value, list):
        return "; an image has one label"
    return ""
