"""Which mask file belongs to which image: by path, by name, and by the names that people give to masks.

An image `a/cat.jpg` has the mask `a/cat.png` below the folder of masks: the same path without suffix. Without such a
file it is the one named `cat`, if no other image and no other mask has that name. Where neither is there, the same two
rules are tried with the mask's name freed of what marks it as a mask:

    cat_mask.png cat-seg.png cat.gt.png cat_segmentation.png   a word of WORDS after `_`, `-`, `.` or a blank
    mask_cat.png seg-cat.png                                   such a word before it
    cat.jpg.png                                                the image's own suffix, before cat.png.png

A file is the mask of one image. Of two that could have it by these rules it is that of the one whose name it has with
its suffix, `cat.jpg` for `cat.jpg.png`; else it is an error.

Names are compared in the Unicode normal form NFC, because macOS writes `é` as two characters. If two files have an
image's path, the one whose name differs from the image's is the mask: images may lie beside their masks.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...catalogs.folders.walk import folder_left_out, walk_images
from ...catalogs.paths import resolve_file, to_text
from ...catalogs.unicode_names import normal_form
from ...errors import TruthError
from ...io.formats import EXTRA_SUFFIXES, SUFFIXES

WORDS = (
    "mask",
    "masks",
    "seg",
    "segm",
    "segmentation",
    "gt",
    "groundtruth",
    "ground_truth",
    "label",
    "labels",
    "matte",
)
"""What marks a file as a mask, in any letter case."""

ARRAY_SUFFIXES = (".npy", ".npz")
"""Masks may be NumPy's arrays too."""

_WORD = "|".join(sorted(WORDS, key=len, reverse=True))
_AFTER = re.compile(rf"(?P<name>.+)(?P<mark>[-_. ](?:{_WORD}))", re.IGNORECASE | re.DOTALL)
_BEFORE = re.compile(rf"(?P<mark>(?:{_WORD})[-_. ])(?P<name>.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Pairs:
    """The mask files of images."""

    files: dict[str, Path]  # by the image's path; images without a mask are left out
    named: dict[str, int]  # masks by the way they are named: "NAME", "NAME_mask", ...
    unused: int  # files below the folder that are neither an image nor its mask


class _Index:
    """Mask files by path and by name, each freed of what `key` leaves out."""

    def __init__(self) -> None:
        self.by_path: defaultdict[str, list[str]] = defaultdict(list)
        self.by_name: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, key: str, mask: str) -> None:
        self.by_path[key].append(mask)
        self.by_name[PurePosixPath(key).name].add(key)

    def find(self, key: str, images_with_name: Counter[str]) -> list[str]:
        """The masks of an image's path, or of its name if that is unique."""
        if key in self.by_path:
            return self.by_path[key]
        name = PurePosixPath(key).name
        keys = self.by_name.get(name, set())
        return self.by_path[next(iter(keys))] if len(keys) == images_with_name[name] == 1 else []


def check_truth_folder(folder: Path) -> None:
    """Raises TruthError if there is no such folder."""
    if not folder.is_dir():
        raise TruthError(f"--truth {folder} is no folder of masks, and no .json file of COCO's annotations")


def pair_masks(paths: Sequence[str], folder: Path, root: Path | str | None = None) -> Pairs:
    """Pairs posix paths of images with the mask files below `folder`, by the rules at the top of this file.

    root  folder of the images, if it is known: a file below `folder` that is an image itself is then no mask of it

    Raises TruthError if there is no folder, if an image has two masks, or if none has one.
    """
    check_truth_folder(folder)
    exact, marked = _Index(), _Index()
    masks = sorted(_walk_masks(folder))
    for mask in masks:
        key = _key(mask)
        exact.add(key, mask)
        bare, _ = _bare(PurePosixPath(key).name)
        if bare is not None:
            marked.add(str(PurePosixPath(key).with_name(bare)), mask)
    images_with_name = Counter(PurePosixPath(_key(path)).name for path in paths)
    beside = _share_files(folder, root)
    mask_of: dict[str, str] = {}
    itself = 0

    def by_mark(image: str, taken: Collection[str] = ()) -> list[str]:
        found = [mask for mask in marked.find(_key(image), images_with_name) if mask != image and mask not in taken]
        if len(found) > 1:  # `cat.jpg.png` and `cat.png.png`, of two images
            found = [mask for mask in found if _key(mask) == normal_form(image)] or found
        return found

    for image in paths:
        found = _without_image(exact.find(_key(image), images_with_name), image, folder, root if beside else None)
        itself += bool(found is None)
        found = found or by_mark(image)
        if len(found) > 1:
            raise TruthError(f"--truth {folder} has two masks of {image}, {found[0]} and {found[1]}; remove one")
        if found:
            mask_of[image] = found[0]
    taken = set(mask_of.values())
    for mask, images in _claimed_twice(mask_of).items():
        owners = [image for image in images if _key(mask) == normal_form(image)]
        if len(owners) != 1:
            raise TruthError(
                f"--truth {folder} has one mask for both {images[0]} and {images[1]}, {mask}; name the masks of images "
                f"whose names differ by their suffix {PurePosixPath(images[0]).name}.png and so on"
            )
        for image in images:
            if image not in owners:
                del mask_of[image]
                if len(others := by_mark(image, taken)) == 1:
                    mask_of[image] = others[0]
                    taken.add(others[0])
    files = {image: _file(folder, mask) for image, mask in mask_of.items()}
    named = Counter(_naming(mask, image) for image, mask in mask_of.items())
    if not files and itself:
        raise TruthError(f"--truth {folder} holds the images themselves, not their masks; name the folder of masks")
    if not files:
        raise TruthError(
            f"--truth {folder} has no mask of any of {len(paths)} images; name the folder in which a mask has its "
            "image's path, without suffixes, or a file name that no other image or mask has"
            + (f" (the first of its {len(masks)} masks is {masks[0]}, the first image {paths[0]})" if masks else "")
        )
    used = {*paths, *mask_of.values()}
    return Pairs(files, dict(named.most_common()), sum(mask not in used for mask in masks))


def _claimed_twice(mask_of: dict[str, str]) -> dict[str, list[str]]:
    """By mask that several images have: these images."""
    if len(set(mask_of.values())) == len(mask_of):
        return {}
    images: defaultdict[str, list[str]] = defaultdict(list)
    for image, mask in mask_of.items():
        images[mask].append(image)
    return {mask: these for mask, these in images.items() if len(these) > 1}


def _without_image(found: list[str], image: str, folder: Path, root: Path | str | None) -> list[str] | None:
    """Without the image itself; None if it was the only file."""
    others = [mask for mask in found if mask != image]
    exactly = [mask for mask in others if _without_suffix(mask) == _without_suffix(image)]
    if len(others) > 1 and exactly:  # two names that differ in their Unicode form only
        others = exactly
    if others or not found:
        return others
    # A mask with its image's path and suffix is the image itself only if both folders share files.
    if isinstance(root, Path) and _is_same_file(_file(folder, image), resolve_file(root, image)):
        return None
    return found


def _share_files(folder: Path, root: Path | str | None) -> bool:
    """Whether a file below `folder` can be a file below `root`."""
    if not isinstance(root, Path):
        return False
    one, other = Path(os.path.realpath(folder)), Path(os.path.realpath(root))
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_same_file(file: Path, other: Path | str) -> bool:
    try:
        return isinstance(other, Path) and file.samefile(other)
    except OSError:
        return False


def _bare(name: str) -> tuple[str | None, str]:
    """A mask's name without suffix > the image's name, None if nothing marks it as a mask; and `"NAME_mask"`."""
    for pattern in (_AFTER, _BEFORE):
        if match := pattern.fullmatch(name):
            inner, suffix = _image_suffix(match["name"])
            mark = match["mark"]
            return inner, f"NAME{suffix}{mark}" if pattern is _AFTER else f"{mark}NAME{suffix}"
    inner, suffix = _image_suffix(name)
    return (inner, f"NAME{suffix}") if suffix else (None, "NAME")


def _image_suffix(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    return (path.stem, path.suffix) if path.suffix.lower() in SUFFIXES | EXTRA_SUFFIXES.keys() else (name, "")


def _naming(mask: str, image: str) -> str:
    name = PurePosixPath(_key(mask)).name
    return "NAME" if name == PurePosixPath(_key(image)).name else _bare(name)[1]


def _walk_masks(folder: Path) -> list[str]:
    """Posix paths below `folder`, as text, of image files and NumPy's arrays."""
    arrays = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if folder_left_out(name) is None]
        below = Path(above).relative_to(folder)
        arrays += [
            to_text((below / name).as_posix())
            for name in names
            if name.lower().endswith(ARRAY_SUFFIXES) and not name.startswith(".")
        ]
    return walk_images(folder) + arrays


def _file(folder: Path, mask: str) -> Path:
    return Path(resolve_file(folder, mask))


def _without_suffix(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _key(path: str) -> str:
    return normal_form(_without_suffix(path))
