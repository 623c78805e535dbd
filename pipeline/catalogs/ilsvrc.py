"""ILSVRC 2012 (ImageNet), train and validation images with their boxes, in the usual layouts.

    images                       folder holding train/ and/or val/, themselves or in Data/CLS-LOC or ILSVRC/Data/CLS-LOC
    train/<synset>/*.JPEG
    val/*.JPEG or val/<synset>/*.JPEG
    boxes                        for each split *.xml below one of _XML, or the lines of one of _TEXT
    LOC_synset_mapping.txt or synset_words.txt (optional): lines "n01440764 tench, Tinca tinca"

`ImageSets/CLS-LOC/val.txt` is not read: its numbers count images and are not classes.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import CatalogError
from .bad_annotations import check_share, good_boxes
from .catalog import Catalog, CatalogRows, build_catalog
from .folders.walk import walk_images
from .ilsvrc_annotations import NOTHING, SYNSET, Note, find_xml, read_text, read_xml, stem_of
from .left_out import Omissions, counted
from .lines import numbered_lines, place
from .paths import folder_of, to_text
from .split_words import SPLIT_CODES

_XML = (
    "Annotations/CLS-LOC/{split}",
    "Annotations/{split}",
    "{split}_annotations",
    "bbox/{split}",
    "bbox_{split}",
    "ILSVRC2012_bbox_{split}_v3",
    "ILSVRC2012_bbox_{split}_v2",
)
_TEXT = ("LOC_{split}_solution.csv", "{split}_boxes.txt", "{split}.txt")
_SYNSETS = ("LOC_synset_mapping.txt", "synset_words.txt")

FoundImage = tuple[str, str, Note, Note]
"""Split, path below the data folder, note of the label, note of the boxes."""


def read_ilsvrc(images: Path | str, root: Path | str | None) -> Catalog:
    """Images of train/ and val/ (either may be missing; test/ is not read) in one of the layouts above.

    id = path = the path below the folder that holds train/ and val/, which is the catalog's root
    ("val/ILSVRC2012_val_00000001.JPEG", as wsolevaluation names it). label: index of the synset among the sorted
    synsets of the mapping file, else of train's folders, else of val's labels; classes are those synsets. The synset of
    an image is its folder; in a flat val/ it comes from the image's line of text or first <object>; -1 without either.
    All boxes of an image are kept, in their order, in pixels of the original image; XML has priority over text. The
    size that an XML file gives its image is the catalog's `annotated_size`.

    Left out, counted in `left_out`, while the image stays: boxes that cannot be right (`bad_annotations.good_boxes`),
    XML files that are broken, and boxes in them that are no four numbers. More than 10 of them that are more than 5 %
    of the annotations end in an error, as does each line of a text file that does not parse: one program wrote them
    all. For images, the rules of `walk.walk_images` hold.

    Raises CatalogError: no such layout, an unknown synset or class number, annotations that match no validation image,
    too many bad annotations, or, naming file and line, a line that does not parse.
    """
    base = folder_of("ilsvrc", images, root)
    data = next((at for at in (base, base / "Data/CLS-LOC", base / "ILSVRC/Data/CLS-LOC") if _splits_of(at)), None)
    if data is None:
        where = to_text(str(base))
        raise CatalogError(f"No ILSVRC images: looked for train/ and val/ in {where}, also below Data/CLS-LOC")
    beside = [base, data]
    if data.parts[-2:] == ("Data", "CLS-LOC"):
        beside += [data.parent.parent, data.parent.parent.parent]  # ILSVRC, and the folder that holds it (Kaggle)

    folder_notes: dict[str, Note] = {}
    images_found: list[FoundImage] = []
    omissions = Omissions()
    for split in _splits_of(data):
        in_split = Omissions()
        below = walk_images(data / split, in_split)
        omissions.include(in_split, f"{split}/")
        notes_of = _notes(beside, split, below, omissions)
        for path in below:
            full = f"{split}/{path}"
            label_note, box_note = notes_of(path)
            synset, slash, _ = path.partition("/")
            if slash:
                label_note = folder_notes.setdefault(synset, Note(synset, [], to_text(str(data))))
            elif split == "train":
                raise CatalogError(f"{to_text(str(data))}/{full}: not in the folder of a synset")
            images_found.append((split, full, label_note, box_note))

    classes = _classes(beside, images_found)
    label_of: dict[str | int | None, int] = {name: label for label, name in enumerate(classes)} | {None: -1}
    rows = CatalogRows()
    for split, full, note, box_note in images_found:
        label = label_of.get(note.label)
        if label is None and isinstance(note.label, int) and (note.label < len(classes) or not classes):
            label = note.label
        if label is None:
            raise CatalogError(
                f"{note.source}: {full} has class {note.label}, which is none of the {len(classes)} known; a complete "
                f"{_SYNSETS[0]} or {_SYNSETS[1]} in {to_text(str(base))} names them all"
            )
        boxes = good_boxes(box_note.boxes, box_note.source, omissions, box_note.size)
        rows.add(full, full, label, SPLIT_CODES[split], boxes, box_note.size)
    annotated = sum(note is not NOTHING for *_, note in images_found) + omissions.count("annotation")
    check_share(omissions, annotated, to_text(str(base)))
    return build_catalog(
        "ilsvrc",
        data,
        rows,
        classes,
        where=lambda row, _: images_found[row][3].source,
        looked_for=f"train/ and val/ in {to_text(str(data))} hold none",
        notes=_notes_on_classes(sum(box_note.several for *_, box_note in images_found)),
        left_out=omissions.found(),
    )


def _notes_on_classes(several: int) -> list[str]:
    """several: images with boxes of objects of several classes."""
    if not several:
        return []
    images = counted(several, "image") + (" has" if several == 1 else " have")
    return [f"{images} objects of several classes: the label is the folder's, else the first one's; all boxes stay"]


def _splits_of(folder: Path) -> list[str]:
    return [split for split in ("train", "val") if os.path.isdir(folder / split)]


def _notes(
    beside: list[Path], split: str, images: list[str], omissions: Omissions
) -> Callable[[str], tuple[Note, Note]]:
    """A function: path below the split's folder > (note of its label, note of its boxes), from the folders `beside`."""
    folders = [at / name.format(split=split) for name in _XML for at in beside]
    folder = next((at for at in folders if os.path.isdir(at)), None)
    xml = find_xml(folder, omissions) if folder else {}
    # Caffe's train.txt repeats the folders
    names = [name for name in _TEXT if (split, name) != ("train", "{split}.txt")]
    candidates = dict.fromkeys(at / name.format(split=split) for name in names for at in beside)
    files = [file for file in candidates if os.path.isfile(file)]
    texts = [read_text(file) for file in files]
    known = xml.keys() | {stem for text in texts for stem in text}
    if split == "val" and images and known and not any(stem_of(path) in known for path in images):
        raise CatalogError(
            f"{to_text(str(folder or files[0]))} names none of the {len(images)} images in val/, such as {images[0]}"
        )

    def notes_of(path: str) -> tuple[Note, Note]:
        stem = stem_of(path)
        from_xml = read_xml(xml[stem], omissions) if stem in xml else NOTHING
        from_text = [text.get(stem, NOTHING) for text in texts]
        return (
            next((note for note in (*from_text, from_xml) if note.label is not None), NOTHING),
            next((note for note in (from_xml, *from_text) if note.boxes), NOTHING),
        )

    return notes_of


def _classes(beside: list[Path], images: list[FoundImage]) -> list[str]:
    """The sorted synsets: a label is an index into them."""
    file = next((at / name for name in _SYNSETS for at in beside if os.path.isfile(at / name)), None)
    if file is None:
        labels = [(split, note.label) for split, _, note, _ in images if isinstance(note.label, str)]
        return sorted({label for split, label in labels if split == "train"} or {label for _, label in labels})
    synsets: list[str] = []
    for line, text in numbered_lines(file):
        synset = text.split()[0]
        if not SYNSET.fullmatch(synset) or synset in synsets:
            raise CatalogError(f"{place(file, line)}: expected another synset such as n01440764, got {synset!r}")
        synsets.append(synset)
    return sorted(synsets)
