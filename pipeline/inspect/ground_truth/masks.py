"""The true masks of images: found in a folder of files or in COCO's annotations, and read by one rule for all of them.

`pairing.py` says which file belongs to which image, `decide.py` how files are read, `coco.py` what annotations give.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import ImageError, TruthError
from ...geometry.resize_crop import ResizeCrop
from ...io.archives.member import file_names
from ...io.image_files import ImagePlace
from .coco import read_coco
from .decide import SAMPLE, Seen, decide, inverted, reading_of_class, seen
from .pairing import pair_masks
from .pixels import read_pixels
from .reading import Reading


@dataclass(frozen=True)
class TrueMasks:
    """The true masks of N images, some of which may have none."""

    source: str  # the folder or file
    images: int  # N
    files: dict[str, Path]  # the file that holds an image's mask, by the image's path
    read: Callable[[str], np.ndarray]  # an image's path > mask (H, W) bool at the file's own size, perhaps empty
    read_as: str  # the rule, in words
    warnings: tuple[str, ...] = ()
    named: dict[str, int] = field(default_factory=dict)  # masks by the way their files are named

    def __contains__(self, path: str) -> bool:
        return path in self.files

    def __len__(self) -> int:
        return len(self.files)

    def name(self, path: str) -> str:
        """The mask of an image, for messages."""
        file = self.files[path]
        return f"{file}: {path}" if file.suffix.lower() == ".json" else str(file)

    def describe(self) -> str:
        """How many images have a mask, and how masks are read, in one line."""
        other = ", ".join(f"{count} named {naming}" for naming, count in self.named.items() if naming != "NAME")
        named = f" ({other})" if other else ""
        return f"{len(self)} of {self.images} images have a true mask{named}; masks read as: {self.read_as}"


def find_truth(
    paths: Sequence[str], truth: Path, truth_class: str | None = None, root: Path | str | None = None
) -> TrueMasks:
    """The true masks of images by their posix paths; of images inside archives by their members' names.

    truth        folder of mask files, or a .json file of COCO's annotations
    truth_class  what is object: `any` value, `bright`, `dark`, `alpha`, an index or several with commas, a colour as
                 `#rrggbb`; of COCO, a category's name or id. None: decided by what the masks hold
    root         folder of the images, if it is known

    Raises TruthError if there are no masks of these images, and if it is not clear how they are read.
    """
    names = file_names(paths)
    if names != list(paths):
        masks, name_of = find_truth(names, truth, truth_class, root), dict(zip(paths, names, strict=True))
        files = {path: masks.files[name] for path, name in name_of.items() if name in masks}
        return replace(masks, files=files, read=lambda path: masks.read(name_of[path]))
    if truth.suffix.lower() == ".json" and not truth.is_dir():
        coco = read_coco(truth, paths, truth_class)
        return TrueMasks(str(truth), len(paths), dict.fromkeys(coco.images, truth), coco, coco.describe())
    pairs = pair_masks(paths, truth, root)
    sample = _sample(truth, list(pairs.files.values()))
    reading = reading_of_class(truth_class) if truth_class is not None else None
    if reading is None:
        reading = decide(sample, any_value=truth_class is not None)
    warning = inverted(sample, reading)
    return TrueMasks(
        str(truth),
        len(paths),
        pairs.files,
        lambda path: _read_file(pairs.files[path], reading),
        reading.describe(),
        () if warning is None else (warning,),
        pairs.named,
    )


def read_truth(masks: TrueMasks, path: str, image: ImagePlace) -> np.ndarray:
    """The true mask `(H, W) bool` of the image `path` at its file's own size; all False where nothing is marked.

    All true masks come through here. Raises TruthError for a file that cannot be a mask or does not fit the rule of the
    others, and for `image`, the image itself.
    """
    file = masks.files[path]
    if isinstance(image, Path) and image.exists() and file.samefile(image):
        raise TruthError(f"{file} is the image itself, not its mask; name the folder of masks with --truth")
    return masks.read(path)


def _sample(folder: Path, files: list[Path]) -> list[Seen]:
    """A file that cannot be read decides nothing; it is named when its image's turn comes."""
    count = min(SAMPLE, len(files))
    sample: list[Seen] = []
    errors: list[TruthError] = []
    for file in (files[number * len(files) // count] for number in range(count)):
        try:
            sample.append(seen(file.relative_to(folder).as_posix(), read_pixels(file)))
        except TruthError as error:
            errors.append(error)
    if not sample:
        raise errors[0]
    return sample


def _read_file(file: Path, reading: Reading) -> np.ndarray:
    try:
        return reading(read_pixels(file))
    except ImageError as error:
        raise TruthError(f"True mask {file} {error}") from None


def square_truth(mask: np.ndarray, geometry: ResizeCrop) -> np.ndarray:
    """Resizes a mask `(H, W) bool` to `(S, S) bool` by area; True where more than half of a pixel is object."""
    return geometry.image(mask.astype(np.uint8) * 255, "area") > 127
