"""Annotations of ILSVRC images, classes and boxes: from XML files, or text files with a line per image."""

import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from ..errors import CatalogError
from .left_out import Omissions
from .lines import numbered_lines, place
from .paths import to_text

SYNSET = re.compile(r"n[0-9]{8}")
_BETWEEN_TOKENS = re.compile(r"[,\s]+")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Note:
    """Synset or class number (index among the sorted ones) · boxes x0 y0 x1 y1 in pixels · file, or file:line.

    size     width and height that the annotation gives the image; zeros for none
    several  it names objects of several classes
    """

    label: str | int | None
    boxes: list[list[float]]
    source: str
    size: tuple[int, int] = (0, 0)
    several: bool = False


NOTHING = Note(None, [], "")


def read_xml(file: Path, omissions: Omissions) -> Note:
    """A Pascal VOC annotation: every <object> in its order; the label is the first one's <name>.

    What is broken is left out and counted: a file that cannot be read or is no XML, with its label; an <object> whose
    <bndbox> has not four numbers. A file with a DOCTYPE counts as broken, so that no entity is ever expanded;
    ImageNet's have none.
    """
    source = to_text(str(file))
    try:
        data = file.read_bytes()
        if b"<!DOCTYPE" in data:
            raise ValueError("has a DOCTYPE; an annotation has none")
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        omissions.add("annotation", "", f"{source}:{error.position[0]}", f"broken XML: {error}".partition(": line ")[0])
        return NOTHING
    except (ValueError, LookupError) as error:  # LookupError: an encoding that does not exist
        omissions.add("annotation", "", source, f"broken XML: {error}")
        return NOTHING
    except OSError as error:
        omissions.add("annotation", "", source, (error.strerror or str(error)).lower())
        return NOTHING
    objects, boxes = root.findall("object"), []
    for item in objects:
        box = item.find("bndbox")
        try:
            boxes.append([float("" if box is None else box.findtext(corner, "")) for corner in _CORNERS])
        except ValueError:
            omissions.add(
                "annotation", "", source, f"an <object> without a <bndbox> of four numbers {' '.join(_CORNERS)}"
            )
    names = [(item.findtext("name") or "").strip() for item in objects]
    return Note(next(iter(names), "") or None, boxes, source, _size(root), len({*names} - {""}) > 1)


def _size(root: ElementTree.Element) -> tuple[int, int]:
    """Width and height as <size> has them; zeros where it is missing, or holds no sizes of an image."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}", ""))) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return 0, 0
    return (width, height) if 0 < width < 2**31 and 0 < height < 2**31 else (0, 0)


def read_text(file: Path) -> dict[str, Note]:
    """Stem of the image's name > Note, from lines of tokens separated by commas or blanks:

        ILSVRC2012_val_00000001,n01751748 111 108 441 193 n01751748 ...    (Kaggle's LOC_val_solution.csv, with header)
        ILSVRC2012_val_00000001.JPEG 111 108 441 193 [x0 y0 x1 y1 ...]
        ILSVRC2012_val_00000001.JPEG 65 [x0 y0 x1 y1 ...]                  (class number, as in Caffe's val.txt)

    Raises CatalogError with the line number: a line of another form, or a second line for an image.
    """
    notes: dict[str, Note] = {}
    for line, text in numbered_lines(file):
        if line == 1 and text.strip().lower().startswith("imageid"):
            continue
        name, *tokens = _BETWEEN_TOKENS.split(text.strip().strip(","))
        stem = stem_of(name)
        source = place(file, line)
        try:
            label, boxes, several = _parse_tokens(tokens)
        except ValueError as error:
            raise CatalogError(f"{source}: {error}; expected 'name class', 'name x0 y0 x1 y1 ...' or both") from error
        if stem in notes:
            raise CatalogError(f"{source}: {stem} was already given at {notes[stem].source}; one line an image")
        notes[stem] = Note(label, boxes, source, several=several)
    return notes


def _parse_tokens(tokens: list[str]) -> tuple[str | int | None, list[list[float]], bool]:
    """Label, boxes, and whether there are several synsets."""
    synsets: list[str] = []
    numbers: list[float] = []
    for token in tokens:
        if SYNSET.fullmatch(token):
            if len(numbers) % 4:
                raise ValueError(f"{len(numbers) % 4} numbers before {token}, where a box has 4")
            synsets.append(token)
        else:
            numbers.append(float(token))
    label: str | int | None = synsets[0] if synsets else None
    if not synsets and len(numbers) % 4 == 1:
        first = numbers.pop(0)
        if not first.is_integer() or not 0 <= first < 2**31:
            raise ValueError(f"class number {tokens[0]} is not an integer from 0 to 2147483647")
        label = int(first)
    if len(numbers) % 4:
        raise ValueError(f"{len(numbers)} numbers, where each box has 4")
    if label is None and not numbers:
        raise ValueError("nothing after the name")
    return label, [numbers[start : start + 4] for start in range(0, len(numbers), 4)], len(set(synsets)) > 1


def find_xml(folder: Path, omissions: Omissions) -> dict[str, Path]:
    """Stem > file of every .xml below a folder. A folder below it that cannot be read is counted as left out."""
    files: dict[str, Path] = {}

    def cannot_read(error: OSError) -> None:
        name, reason = to_text(str(error.filename)), error.strerror or str(error)
        if error.filename == os.fspath(folder):
            raise CatalogError(f"Cannot read folder {name}: {reason}") from error
        omissions.add("unreadable", reason.lower(), name)

    for below, _, names in os.walk(folder, onerror=cannot_read):
        for name in names:
            if name.endswith(".xml") and not name.startswith("."):
                stem, file = to_text(name[:-4]), Path(below, name)
                if stem in files:
                    raise CatalogError(f"Two annotations of {stem}: {to_text(str(files[stem]))}, {to_text(str(file))}")
                files[stem] = file
    return files


def stem_of(path: str) -> str:
    """`val/ILSVRC2012_val_00000001.JPEG` > `ILSVRC2012_val_00000001`, the name that annotations use."""
    return os.path.splitext(path.rpartition("/")[2])[0]
