"""The fields of a WebDataset sample, out of its `.cls` and `.json`, in the words that lists use."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...io.json_objects import unique_keys
from ..lists.box_text import parse_boxes
from ..lists.columns import LABEL_NAMES, XYWH_NAMES, plain_name
from ..lists.list_values import is_missing
from ..split_words import SPLIT_CODES, split_code

TEXTS = ("cls", "json")
"""Extensions of the members whose content is read."""

_LABEL_BYTES = 1024
_AMBIGUOUS = frozenset({"bbox", "bboxes"})
_NO_OBJECT = "[]"


@dataclass
class Fields:
    """label: an integer, a name, or None · split: an index into SPLITS, None where none is given."""

    label: object = None
    split: int | None = None
    boxes: Sequence[Sequence[float]] = ()
    annotated_size: tuple[int, int] = (0, 0)


@dataclass
class FieldNotes:
    """What of the samples is not read, counted."""

    no_object: int = 0
    ambiguous: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        lines = [
            f"{count} samples have {name!r}, which may hold corners or sizes and is not read; name it boxes "
            "(x0 y0 x1 y1) or boxes_xywh"
            for name, count in sorted(self.ambiguous.items())
        ]
        if self.no_object:
            lines.append(f"{self.no_object} .json members hold no object, and are not read")
        return lines


def text_of(name: str, data: bytes) -> str:
    """What the index of a tar keeps of a `.cls` or `.json`. Raises ValueError with the reason for a broken one.

    A label's text; of JSON the fields that `fields_of` reads, under the names of lists.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error.reason})") from None
    if name.lower().endswith(".cls"):
        if len(data) > _LABEL_BYTES or len(text.split("\n")) > 2:
            raise ValueError("a .cls holds one integer or class name")
        return text.strip()
    try:
        record = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken JSON ({error})") from None
    if not isinstance(record, dict):
        return _NO_OBJECT
    return json.dumps(_known(record), ensure_ascii=True)


def _known(record: dict[str, Any]) -> dict[str, Any]:
    names = {plain_name(key): key for key in record}
    kept: dict[str, Any] = {
        name: record[names[name]] for name in ("split", "boxes", "width", "height") if name in names
    }
    labels = ["label"] if "label" in names else sorted(LABEL_NAMES & names.keys())
    if len(labels) > 1:
        raise ValueError(f"{' and '.join(map(repr, labels))} both name the label; name one of them label")
    sizes = sorted(XYWH_NAMES & names.keys())
    if len(sizes) + ("boxes" in kept) > 1:
        raise ValueError(f"{' and '.join(map(repr, [*sizes, 'boxes']))} both name the boxes; keep one of them")
    for name, found in (("label", labels), ("boxes_xywh", sizes)):
        if found:
            kept[name] = record[names[found[0]]]
    if not sizes and "boxes" not in kept and (ambiguous := sorted(_AMBIGUOUS & names.keys())):
        kept["ambiguous"] = ambiguous[0]
    return kept


def fields_of(cls: str | None, record: str | None, notes: FieldNotes) -> Fields:
    """The fields of a sample, from what `text_of` kept of its members; a `.cls` has priority over a label in JSON.

    Raises ValueError for a split or boxes that are none.
    """
    fields = Fields()
    if record == _NO_OBJECT:
        notes.no_object += 1
    elif record is not None:
        known = json.loads(record)
        fields.label = known.get("label")
        fields.split = _split(known["split"]) if "split" in known else None
        xywh = "boxes_xywh" in known
        fields.boxes = parse_boxes(known["boxes_xywh" if xywh else "boxes"], xywh) if xywh or "boxes" in known else ()
        if "ambiguous" in known:
            notes.ambiguous[known["ambiguous"]] += 1
        size = known.get("width"), known.get("height")
        if len(fields.boxes) and all(type(side) is int and 0 < side < 2**31 for side in size):
            fields.annotated_size = size
    if cls:
        fields.label = cls
    return fields


def _split(value: object) -> int | None:
    if is_missing(value):
        return None
    if not isinstance(value, str) or (code := split_code(value)) is None:
        raise ValueError(f"unknown split {str(value)[:80]!r}; known: {', '.join(filter(None, SPLIT_CODES))}")
    return code
