"""Pascal VOC: JPEGImages, Annotations in XML, and ImageSets, as distributed."""

import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CatalogError
from .bad_annotations import box_text, check_share, is_good_box
from .catalog import Catalog, CatalogRows, build_catalog
from .folders.walk import walk_images
from .left_out import Omissions
from .lines import numbered_lines, place
from .object_label import ObjectLabels
from .paths import folder_of, to_text
from .split_words import SPLITS, split_code

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SETS = ("Main", "Segmentation", "Layout")
_WHERE = ("", "VOCdevkit")


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Annotation:
    names: list[str]
    boxes: list[Box]  # x0 y0 x1 y1, edges of pixels
    size: tuple[int, int]
    source: str


def read_voc(images: Path | str, root: Path | str | None, label: str | None = None) -> Catalog:
    """The folder that holds JPEGImages and Annotations, such as VOC2012, or one that holds a single such folder.

    label  which of an image's classes is its label, see `object_label.Rule`

    Every image below JPEGImages is a row. id = path: below the catalog's root, the folder JPEGImages. classes: the
    sorted names of all objects. Boxes: all objects', in their order, difficult ones too, without parts. VOC counts
    pixels from 1 and includes the last: xmin ymin xmax ymax of 1 1 10 20 is the box 0 0 10 20. Split: by the lists of
    ImageSets/Main (else Segmentation, else Layout) that are named like a split; trainval only says where no other does.

    A box without area is left out and counted, up to `bad_annotations.check_share`.

    Raises CatalogError, naming file and line: no such folder, an annotation that is broken, has no size, no name or no
    box of four numbers, or a box outside of its size; an annotation or a name in a list without an image; an image in
    two splits.
    """
    rule = ObjectLabels(label)
    folder = _folder(folder_of("voc", images, root))
    omissions = Omissions()
    paths = sorted(walk_images(folder / "JPEGImages", omissions))
    stems: dict[str, str] = {}
    for path in paths:
        stem = os.path.splitext(path)[0]
        if stem in stems:
            raise CatalogError(f"{to_text(str(folder))}/JPEGImages: {stems[stem]} and {path} are both image {stem!r}")
        stems[stem] = path
    annotations = _annotations(folder, stems)
    splits = _splits(folder, stems)
    classes = sorted({name for annotation in annotations.values() for name in annotation.names})
    label_of = {name: number for number, name in enumerate(classes)}
    rows, boxes_read = CatalogRows(), 0
    for stem, path in stems.items():
        found = annotations.get(stem)
        if found is None:
            rows.add(path, path, -1, splits.get(stem, 0))
            continue
        boxes_read += len(found.boxes)
        boxes = [box for box in found.boxes if _is_box(box, found, omissions)]
        objects = [
            (label_of[name], (box[2] - box[0]) * (box[3] - box[1]))
            for name, box in zip(found.names, found.boxes, strict=True)
        ]
        own = rule.of(objects, classes, found.source)
        rows.add(path, path, own, splits.get(stem, 0), boxes, found.size)
    check_share(omissions, boxes_read, to_text(str(folder)))
    return build_catalog(
        "voc",
        folder / "JPEGImages",
        rows,
        classes,
        where=lambda row, _: f"{to_text(str(folder))}/JPEGImages/{rows.paths[row]}",
        looked_for=f"{to_text(str(folder))}/JPEGImages holds none",
        notes=rule.notes(),
        left_out=omissions.found(),
    )


def _folder(base: Path) -> Path:
    """The folder of one year's data. Raises CatalogError where there is none, or several."""
    candidates = [base, *sorted(path for below in _WHERE for path in (base / below).glob("VOC*") if path.is_dir())]
    found = [folder for folder in candidates if (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir()]
    if not found:
        raise CatalogError(f"No Pascal VOC in {to_text(str(base))}: looked for folders JPEGImages and Annotations")
    if len(found) > 1 and found[0] != base:
        raise CatalogError(f"{to_text(str(base))} holds {', '.join(path.name for path in found)}; name one of them")
    return found[0]


def _annotations(folder: Path, images: dict[str, str]) -> dict[str, _Annotation]:
    """By the name of the image without its suffix."""
    found: dict[str, _Annotation] = {}
    for file in sorted((folder / "Annotations").rglob("*.xml")):
        if file.name.startswith("."):
            continue
        stem = to_text(str(file.relative_to(folder / "Annotations"))).removesuffix(".xml")
        if stem not in images:
            raise CatalogError(f"{to_text(str(file))}: no image {stem} in {to_text(str(folder))}/JPEGImages")
        found[stem] = _read(file)
    return found


def _read(file: Path) -> _Annotation:
    source = to_text(str(file))
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CatalogError(f"Cannot read {source}: {error.strerror or error}") from error
    if b"<!DOCTYPE" in data:  # so that no entity is ever expanded
        raise CatalogError(f"{source}: has a DOCTYPE; an annotation has none")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        reason = str(error).partition(": line ")[0]
        raise CatalogError(f"{source}:{error.position[0]}: broken XML: {reason}") from None
    except (ValueError, LookupError) as error:  # an encoding that does not exist
        raise CatalogError(f"{source}: broken XML: {error}") from None
    names: list[str] = []
    boxes: list[Box] = []
    for number, item in enumerate(root.findall("object"), 1):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise CatalogError(f"{source}: object {number} has no name")
        names.append(name)
        x0, y0, x1, y1 = _numbers(item.find("bndbox"), _CORNERS, f"{source}: object {number} ({name}): bndbox")
        boxes.append((x0 - 1, y0 - 1, x1, y1))
    width, height = _numbers(root.find("size"), ("width", "height"), f"{source}: size")
    if not (1 <= width < 2**31 and 1 <= height < 2**31 and width.is_integer() and height.is_integer()):
        raise CatalogError(f"{source}: size {width:g} x {height:g} is no size of an image in pixels")
    return _Annotation(names, boxes, (int(width), int(height)), source)


def _numbers(parent: ElementTree.Element | None, fields: Sequence[str], place: str) -> list[float]:
    try:
        numbers = [float("" if parent is None else parent.findtext(field, "")) for field in fields]
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    raise CatalogError(f"{place} without {len(fields)} numbers {' '.join(fields)}")


def _is_box(box: Box, annotation: _Annotation, omissions: Omissions) -> bool:
    """False for a box without area, which is counted. Raises CatalogError for one outside of its image."""

    def outside() -> str:
        return (
            f"{annotation.source}: bndbox {box_text((box[0] + 1, box[1] + 1, *box[2:]))} is outside of the "
            f"annotation's size {annotation.size[0]} x {annotation.size[1]}; correct the box or the size"
        )

    return is_good_box(box, annotation.source, omissions, annotation.size, outside)


def _splits(folder: Path, images: dict[str, str]) -> dict[str, int]:
    """Split by the image's name without its suffix."""
    sets = next((path for name in _SETS if (path := folder / "ImageSets" / name).is_dir()), None)
    files = sorted(sets.glob("*.txt")) if sets else []
    named = [(file, code) for file in files if (code := split_code(file.stem))]
    named.sort(key=lambda item: item[0].stem.lower() == "trainval")  # last
    splits: dict[str, tuple[int, str]] = {}
    for file, code in named:
        for line, text in numbered_lines(file):
            stem = text.split()[0]
            if stem not in images:
                raise CatalogError(f"{place(file, line)}: no image {stem} in {to_text(str(folder))}/JPEGImages")
            before, where = splits.setdefault(stem, (code, place(file, line)))
            is_part = file.stem.lower() == "trainval" and SPLITS[before] in ("train", "val")
            if before != code and not is_part:
                raise CatalogError(
                    f"{place(file, line)}: image {stem} is in split {SPLITS[code]}, and in {SPLITS[before]} at {where}"
                )
    return {stem: code for stem, (code, _) in splits.items()}
