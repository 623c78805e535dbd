"""COCO's instances: images, classes and boxes in JSON."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CatalogError
from .bad_annotations import box_text, check_share, is_good_box
from .catalog import Catalog, CatalogRows, build_catalog
from .coco_file import CocoFile, CocoImage, CocoObject, read_coco_file
from .left_out import Omissions, counted
from .object_label import ObjectLabels
from .paths import inside, resolve_file, root_prefixes, to_text
from .roots import text_of_root
from .split_words import split_code

SAMPLE = 20  # images that are looked for in a folder
_BESIDE = "_annotations.coco.json"  # as Roboflow names the file that lies among its images


@dataclass(frozen=True)
class _Part:
    """A file of annotations; the folder of its images below the root, "" or with a slash at its end; its split."""

    coco: CocoFile
    folder: str
    split: int


def read_coco(images: Path | str, root: Path | str | None, label: str | None = None) -> Catalog:
    """The images that a JSON file of COCO's instances lists, or those of all such files of a folder.

    images  a file; or a folder with annotations/instances_*.json, with _annotations.coco.json in it or in its folders,
            with instances*.json, or else with *.json
    root    of a file only: the folder or URL that its file_names are relative to; default: as `_folder_of_images` finds
    label   which of an image's classes is its label, see `object_label.Rule`

    id = path: the file_name, where a folder is read after the images' folder (`train2017/1.jpg`). Split: of the word in
    the name of the file, or of its folder. classes: the categories in the order of their ids, also those without an
    image. Boxes: x y width height as corners, in the order of the file, without crowds; a crowd gives no label either.
    Images without annotations stay, without label. A box without area is left out and counted (COCO has some), up to
    `bad_annotations.check_share`.

    Raises CatalogError, naming the file and its entry: what `coco_file` refuses, a box outside of its image, images
    that are in no folder, an image in two files.
    """
    rule = ObjectLabels(label)
    base, parts = _parts_of(images, root)
    classes, label_of = _classes([part.coco for part in parts])
    rows, omissions, places = CatalogRows(), Omissions(), []
    crowds = annotations = 0
    for part in parts:
        coco, prefixes = part.coco, root_prefixes(base)
        for image_id, image in coco.images.items():
            place = coco.at("images", image.number)
            try:
                path = part.folder + inside(image.file_name, prefixes)
            except ValueError as error:
                raise CatalogError(f"{place}: {error}") from error
            objects = [item for item in coco.objects.get(image_id, ()) if not item.is_crowd]
            crowds += len(coco.objects.get(image_id, ())) - len(objects)
            annotations += len(objects)
            boxes = [item.box for item in objects if _is_box(coco, item, image, omissions)]
            own = rule.of([(label_of[item.category], item.area) for item in objects], classes, place)
            rows.add(path, path, own, part.split, boxes, image.size)
            places.append(place)
    check_share(omissions, annotations, text_of_root(base))
    return build_catalog(
        "coco",
        base,
        rows,
        classes,
        where=lambda row, _: places[row],
        looked_for=f"the list images is empty in {', '.join(to_text(str(part.coco.file)) for part in parts)}",
        notes=[*([f"{counted(crowds, 'crowd')} (iscrowd): neither box nor label"] if crowds else []), *rule.notes()],
        left_out=omissions.found(),
    )


def _is_box(coco: CocoFile, item: CocoObject, image: CocoImage, omissions: Omissions) -> bool:
    """False for a box without area, which is counted. Raises CatalogError for one outside of its image."""
    place = coco.at("annotations", item.number)

    def outside() -> str:
        return (
            f"{place}: box {box_text(item.box)} (corners) is outside of its image "
            f"{image.file_name} of {image.size[0]} x {image.size[1]}; bbox is x y width height in pixels"
        )

    return is_good_box(item.box, place, omissions, image.size, outside)


def _parts_of(images: Path | str, root: Path | str | None) -> tuple[Path | str, list[_Part]]:
    if isinstance(images, str):
        raise CatalogError(
            f"A 'coco' catalog is a local file or folder, not {images}; its images may be at a --root URL"
        )
    place = Path(os.path.abspath(images))
    if not place.is_dir():
        coco = read_coco_file(place)
        base = _folder_of_images(coco) if root is None else root
        base = base if isinstance(base, str) else Path(os.path.abspath(base))
        if isinstance(base, Path) and not base.is_dir():
            raise CatalogError(f"The root of COCO's images is a folder, but {to_text(str(base))} is none")
        return base, [_Part(coco, "", _split_of(place))]
    if root is not None:
        raise CatalogError(
            f"A 'coco' catalog takes a root for one file of annotations only, not for a folder (got {root})"
        )
    parts = []
    for file in _files_of(place):
        coco = read_coco_file(file)
        below = os.path.relpath(_folder_of_images(coco, place), place)
        parts.append(_Part(coco, "" if below == "." else f"{to_text(below)}/", _split_of(file)))
    return place, parts


def _files_of(folder: Path) -> list[Path]:
    for pattern in ("annotations/instances_*.json", f"**/{_BESIDE}", "instances*.json", "*.json"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise CatalogError(
        f"No annotations of COCO in {to_text(str(folder))}: looked for annotations/instances_*.json, {_BESIDE}, *.json"
    )


def _split_of(file: Path) -> int:
    """`instances_train2017.json`, `train/_annotations.coco.json`, `labels_val.json`."""
    words = [file.parent.name] if file.name == _BESIDE else file.stem.split("_")
    codes = {code for word in words if (code := split_code(word))}
    return codes.pop() if len(codes) == 1 else 0


def _folder_of_images(coco: CocoFile, within: Path | None = None) -> Path:
    """The first folder that holds one of SAMPLE images of a file.

    Of X.json and instances_X.json: X, images/X, images, data and the folder itself, beside the file and above it.
    Raises CatalogError where none does.
    """
    file = coco.file
    name = file.stem.removeprefix("instances_")
    around = [folder for folder in (file.parent, file.parent.parent) if within is None or folder.is_relative_to(within)]
    folders = [folder / below for folder in around for below in (name, f"images/{name}", "images", "data", "")]
    names = [image.file_name for image in coco.images.values()]
    if not names:
        return file.parent
    sample = [names[at] for at in np.unique(np.linspace(0, len(names) - 1, min(len(names), SAMPLE)).astype(int))]
    for folder in folders:
        if any(os.path.exists(resolve_file(folder, one)) for one in sample):
            return folder
    looked = ", ".join(to_text(str(folder)) for folder in folders)
    mend = "name its images' folder with --root" if within is None else "name the file itself, and --root"
    raise CatalogError(f"{to_text(str(file))}: images such as {sample[0]!r} are in none of {looked}; {mend}")


def _classes(files: Sequence[CocoFile]) -> tuple[list[str], dict[object, int]]:
    """Names of all categories in the order of their ids, and the label of each id."""
    names: dict[object, str] = {}
    for coco in files:
        for number, (own, name) in enumerate(coco.categories.items()):
            if names.setdefault(own, name) != name:
                raise CatalogError(
                    f"{coco.at('categories', number)}: id {own!r} is {name!r}, but {names[own]!r} in another file; "
                    "read the files one by one"
                )
    ids = sorted(names, key=lambda own: (isinstance(own, str), own))
    classes = [names[own] for own in ids]
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise CatalogError(
            f"The category {twice!r} has two ids in {len(files)} files of annotations; read them one by one"
        )
    return classes, {own: label for label, own in enumerate(ids)}
