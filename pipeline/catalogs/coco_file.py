"""A JSON file of COCO's instances: images, annotations and categories, each checked."""

import json
import math
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CatalogError
from ..io.json_objects import unique_keys
from .lines import open_text
from .paths import to_text

_EXPECTED = "a file of COCO's instances has lists images, annotations and categories"


@dataclass(frozen=True, slots=True)
class CocoImage:
    file_name: str
    size: tuple[int, int]  # width, height in pixels
    number: int  # in the list `images`


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation; box: x0 y0 x1 y1 in pixels; area: as the file has it, else the box's."""

    category: Hashable
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    number: int  # in the list `annotations`


@dataclass
class CocoFile:
    """What a file holds, by COCO's ids, in the file's order."""

    file: Path
    categories: dict[Hashable, str] = field(default_factory=dict)
    images: dict[Hashable, CocoImage] = field(default_factory=dict)
    objects: dict[Hashable, list[CocoObject]] = field(default_factory=lambda: defaultdict(list))  # by image

    def at(self, key: str, number: int) -> str:
        """`instances.json: annotations[17]`, for the start of an error line."""
        return f"{to_text(str(self.file))}: {key}[{number}]"


def read_coco_file(file: Path) -> CocoFile:
    """Reads a file, without the outlines in it.

    Raises CatalogError, naming the entry: no JSON, a list or field that is missing or of another type, an id that comes
    twice or that nothing has.
    """
    content, coco = _load(file), CocoFile(file)
    for number, entry in enumerate(content["categories"]):
        name = _get(coco, "categories", number, entry, "name", str)
        _add(coco, "categories", number, coco.categories, entry, name)
        if list(coco.categories.values()).count(name) > 1:
            raise CatalogError(f"{coco.at('categories', number)}: a second category of the name {name!r}")
    for number, entry in enumerate(content["images"]):
        size = (_side(coco, number, entry, "width"), _side(coco, number, entry, "height"))
        image = CocoImage(_get(coco, "images", number, entry, "file_name", str), size, number)
        _add(coco, "images", number, coco.images, entry, image)
    for number, entry in enumerate(content["annotations"]):
        image_id = _known(coco, number, entry, "image_id", coco.images, "images")
        category = _known(coco, number, entry, "category_id", coco.categories, "categories")
        box = _box(coco, number, entry)
        area = entry.get("area")
        is_number = isinstance(area, int | float) and not isinstance(area, bool) and math.isfinite(area)
        area = float(area) if is_number else (box[2] - box[0]) * (box[3] - box[1])
        coco.objects[image_id].append(CocoObject(category, box, area, bool(entry.get("iscrowd")), number))
    return coco


def _load(file: Path) -> dict[str, list[Any]]:
    shown = to_text(str(file))
    try:
        with open_text(file) as stream:
            content = json.load(stream, object_pairs_hook=_without_outline)
    except OSError as error:
        raise CatalogError(f"Cannot read {shown}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"{shown}: broken JSON ({error})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise CatalogError(f"{shown}: no list {key!r}; {_EXPECTED}")
    return content


def _without_outline(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Drops polygons while the file is parsed: they are nine tenths of COCO's."""
    entry = unique_keys(pairs)
    entry.pop("segmentation", None)
    return entry


def _get(coco: CocoFile, key: str, number: int, entry: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(entry, dict) or name not in entry:
        raise CatalogError(f"{coco.at(key, number)}: no {name}")
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = "text" if kind is str else "an integer" if kind is int else "an integer or text"
        raise CatalogError(f"{coco.at(key, number)}: {name} {str(value)[:80]!r} is not {expected}")
    return value


def _add(coco: CocoFile, key: str, number: int, known: dict[Hashable, Any], entry: Any, value: Any) -> None:
    own = _get(coco, key, number, entry, "id", (int, str))
    if own in known:
        raise CatalogError(f"{coco.at(key, number)}: id {own!r} comes twice")
    known[own] = value


def _side(coco: CocoFile, number: int, entry: Any, name: str) -> int:
    side = _get(coco, "images", number, entry, name, int)
    if not 0 < side < 2**31:
        raise CatalogError(f"{coco.at('images', number)}: {name} {side} is no number of pixels")
    return int(side)


def _known(coco: CocoFile, number: int, entry: Any, name: str, known: dict[Hashable, Any], where: str) -> Hashable:
    value = _get(coco, "annotations", number, entry, name, (int, str))
    if value not in known:
        raise CatalogError(f"{coco.at('annotations', number)}: {name} {value!r} is in none of the {where}")
    return value


def _box(coco: CocoFile, number: int, entry: dict[str, Any]) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or any(isinstance(value, bool) for value in box):
        raise CatalogError(
            f"{coco.at('annotations', number)}: bbox {str(box)[:80]} is not [x, y, width, height] in pixels"
        )
    try:
        x, y, width, height = map(float, box)
    except (TypeError, ValueError, OverflowError):
        raise CatalogError(f"{coco.at('annotations', number)}: bbox {str(box)[:80]} is not four numbers") from None
    if not all(map(math.isfinite, (x, y, width, height))):
        raise CatalogError(f"{coco.at('annotations', number)}: bbox {str(box)[:80]} is not finite")
    return x, y, x + width, y + height
