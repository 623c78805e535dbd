"""Masks in YOLO's text files: a line for each object, `class x y x y ...` in shares of the upright image's sides.

An image's mask is the union of its polygons, drawn with their border as ultralytics does. A line of five numbers is a
box and no mask. Labels are in the folder `labels`, or in the folder itself. The file of an image has its path, or the
end of it that no other image has, perhaps below a folder train, val or test; else it is the only file of its name.
`a.jpg.txt` is of `a.jpg` where there is no `a.txt`: so exports name it where there is an `a.png` too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ...catalogs.paths import resolve, to_text
from ...catalogs.split_words import split_code
from ...catalogs.unicode_names import normal_form
from ...errors import ImageError, TruthError
from ...geometry.orientation import SWAPPED
from ...geometry.outline import filled_with_border
from ...io.images import read_image_bytes, read_orientation
from .pixels import UnreadableMask


@dataclass(frozen=True)
class YoloMasks:
    """Label files of the images of a data set."""

    root: Path | str  # of the images, whose size the shares are of
    files: dict[str, Path]  # by the image's path
    classes: frozenset[int] | None  # of objects that count; None: all
    addresses: Mapping[str, str]  # of images inside archives
    unused: int  # label files of none of our images

    def describe(self) -> str:
        return "YOLO's polygons, the union of " + (
            "all classes" if self.classes is None else f"class {', '.join(map(str, sorted(self.classes)))}"
        )

    def __call__(self, path: str) -> np.ndarray:
        """The mask `(H, W) bool` of an image in the size of the image; all False without a line."""
        file = self.files[path]
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            orientation, (width, height) = read_orientation(
                read_image_bytes(resolve(self.root, self.addresses.get(path, path)))
            )
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableMask(f"{file}: {error}") from None
        except ImageError as error:
            raise UnreadableMask(f"{file}: the size of its image {path} cannot be read: {error}") from None
        if orientation in SWAPPED:
            width, height = height, width
        mask = np.zeros((height, width), bool)
        for number, line in enumerate(lines, 1):
            if line.strip():
                mask |= self._object(line.split(), width, height, f"{file}, line {number}")
        return mask

    def _object(self, words: list[str], width: int, height: int, where: str) -> np.ndarray:
        try:
            label, numbers = int(words[0]), np.array(words[1:], np.float64)
        except ValueError:
            raise UnreadableMask(f"{where} is not a class and numbers: {' '.join(words)[:60]}") from None
        if len(numbers) == 4:
            raise UnreadableMask(f"{where} is a box (class x y width height), not a mask; give polygons of the objects")
        if len(numbers) < 6 or len(numbers) % 2:
            raise UnreadableMask(f"{where} has {len(numbers)} numbers; a polygon has pairs of x and y, three or more")
        if not np.isfinite(numbers).all() or numbers.min() < -0.01 or numbers.max() > 1.01:
            raise UnreadableMask(f"{where} has coordinates outside of 0 to 1, the shares of width and height")
        if self.classes is not None and label not in self.classes:
            return np.zeros((height, width), bool)
        points = (numbers.reshape(-1, 2) * [width, height]).clip(0, [width - 1, height - 1])
        return filled_with_border(points, width, height)


def read_yolo(
    folder: Path,
    paths: Sequence[str],
    truth_class: str | None,
    root: Path | str | None,
    addresses: Mapping[str, str],
) -> YoloMasks:
    """Finds the label files of images.

    truth_class  numbers of classes with commas; None or "any": all
    addresses    of images inside archives, by their names in `paths`

    Raises TruthError where no image has one.
    """
    labels = folder / "labels" if (folder / "labels").is_dir() else folder
    if root is None or not labels.is_dir():
        raise TruthError(f"{folder} is no folder of YOLO's labels")
    by_key: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for file in sorted(labels.rglob("*.txt")):
        key = normal_form(to_text(file.relative_to(labels).with_suffix("").as_posix()))
        first, _, rest = key.partition("/")
        for one in {key, rest} if rest and split_code(first) is not None else {key}:
            by_key.setdefault(one, []).append(file)
        by_name.setdefault(PurePosixPath(key).name, []).append(file)
    keys = {path: normal_form(str(PurePosixPath(path).with_suffix(""))) for path in paths}
    images_with = Counter(end for key in keys.values() for end in _ends(key))
    own = _named_in_full(keys, by_key)
    owned = {file for found in own.values() for file in found}
    files: dict[str, Path] = {}
    for path, key in keys.items():
        end = next((end for end in _ends(key) if end in by_key and (end == key or images_with[end] == 1)), None)
        name = PurePosixPath(key).name
        found = by_key[end] if end is not None else by_name.get(name, []) if images_with[name] == 1 else []
        found = own.get(path) or [file for file in found if file not in owned]
        if len(found) > 1 and (end is not None or path in own):
            raise TruthError(f"{folder} has two label files of {path}, {found[0]} and {found[1]}; remove one")
        if len(found) == 1:
            files[path] = found[0]
    count = sum(map(len, by_name.values()))
    if not files:
        raise TruthError(
            f"{folder} has labels of none of {len(paths)} images: {count} files *.txt below {labels}, the first image "
            f"is {paths[0]}"
        )
    return YoloMasks(root, files, _numbers(truth_class), addresses, count - len(files))


def _named_in_full(keys: dict[str, str], by_key: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The files of images that have none by their path without suffix, or only another image's by its path with it."""
    own: dict[str, list[Path]] = {}
    owned: set[Path] = set()
    in_full = {path: full for path in keys if (full := normal_form(path)) in by_key}
    while more := {
        path: by_key[full] for path, full in in_full.items() if owned.issuperset(by_key.get(keys[path], ()))
    }:
        own |= more
        owned.update(file for found in more.values() for file in found)
        in_full = {path: full for path, full in in_full.items() if path not in own}
    return own


def _ends(key: str) -> list[str]:
    """`a/b/c`, `b/c` and `c`."""
    parts = key.split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _numbers(truth_class: str | None) -> frozenset[int] | None:
    if truth_class is None or truth_class == "any":
        return None
    try:
        return frozenset(int(word) for word in truth_class.split(","))
    except ValueError:
        raise TruthError(f"--truth-class {truth_class}: classes of YOLO's labels are numbers, as in 0,2") from None
