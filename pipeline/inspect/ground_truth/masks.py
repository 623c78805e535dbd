"""The true masks of images: found in a folder of files or in annotations, and read by one rule for all of them.

`pairing.py` says which file belongs to which image, `decide.py` how files are read; `coco.py`, `yolo.py` and
`label_studio.py` what annotations give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import ImageError, TruthError
from ...geometry.resize_crop import ResizeCrop
from ...io.archives.member import file_names
from ...io.image_files import ImagePlace
from .boxes_in import check_boxes_in
from .coco import read_coco
from .decide import SAMPLE, Seen, decide, inverted, reading_of_class, seen, with_void
from .label_studio import read_label_studio
from .pairing import check_truth_folder, pair_masks
from .pixels import read_pixels
from .reading import Reading
from .yolo import read_yolo

FORMATS = ("png", "coco", "yolo", "labelstudio")
"""Of masks; png stands for any image files and NumPy's arrays."""


class TrueMask(NamedTuple):
    """The true mask of an image, at its file's own size."""

    object: np.ndarray  # (H, W) bool, perhaps empty
    void: np.ndarray | None = None  # (H, W) bool, pixels that are neither object nor background; None: there are none


@dataclass(frozen=True)
class TrueMasks:
    """The true masks of N images, some of which may have none."""

    source: str  # the folder or file
    images: int  # N
    files: dict[str, Path]  # the file that holds an image's mask, by the image's path
    read: Callable[[str], TrueMask]  # by an image's path
    read_as: str  # the rule, in words
    warnings: tuple[str, ...] = ()
    named: dict[str, int] = field(default_factory=dict)  # masks by the way their files are named
    unused: int = 0  # masks of the source that are of none of the images

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
    paths: Sequence[str],
    truth: Path,
    truth_class: str | None = None,
    root: Path | str | None = None,
    masks_format: str | None = None,
) -> TrueMasks:
    """The true masks of images by their posix paths; of images inside archives by their members' names.

    truth        folder of mask files or of YOLO's labels, or a .json file of COCO's annotations or Label Studio's tasks
    truth_class  what is object: `any` value, `bright`, `dark`, `alpha`, an index or several with commas, a colour as
                 `#rrggbb`; of COCO, a category's name or id. None: decided by what the masks hold
    root         folder of the images, if it is known
    masks_format one of FORMATS; None: as `format_of` finds

    Raises TruthError if there are no masks of these images, and if it is not clear how they are read.
    """
    names = file_names(paths)
    if names != list(paths):
        path_of, name_of = dict(zip(names, paths, strict=True)), dict(zip(paths, names, strict=True))
        masks = _find(names, truth, truth_class, root, masks_format, path_of)
        files = {path: masks.files[name] for path, name in name_of.items() if name in masks}
        return replace(masks, files=files, read=lambda path: masks.read(name_of[path]))
    return _find(paths, truth, truth_class, root, masks_format, {})


def _find(
    paths: Sequence[str],
    truth: Path,
    truth_class: str | None,
    root: Path | str | None,
    masks_format: str | None,
    addresses: Mapping[str, str],
) -> TrueMasks:
    """addresses: of images inside archives, by the names that `paths` has for them."""
    kind = masks_format or format_of(truth)
    if kind == "coco":
        coco = read_coco(truth, paths, truth_class)
        return TrueMasks(
            str(truth), len(paths), dict.fromkeys(coco.images, truth), _whole(coco), coco.describe(), unused=coco.unused
        )
    if kind == "labelstudio":
        tasks = read_label_studio(truth, paths, truth_class)
        return TrueMasks(
            str(truth),
            len(paths),
            dict.fromkeys(tasks.tasks, truth),
            _whole(tasks),
            tasks.describe(),
            unused=tasks.unused,
        )
    if kind == "yolo":
        labels = read_yolo(truth, paths, truth_class, root, addresses)
        return TrueMasks(str(truth), len(paths), labels.files, _whole(labels), labels.describe(), unused=labels.unused)
    pairs = pair_masks(paths, truth, root)
    sample = _sample(truth, list(pairs.files.values()))
    reading = reading_of_class(truth_class) if truth_class is not None else None
    reading = decide(sample, any_value=truth_class is not None) if reading is None else with_void(reading, sample)
    warning = inverted(sample, reading)
    return TrueMasks(
        str(truth),
        len(paths),
        pairs.files,
        lambda path: _read_file(pairs.files[path], reading),
        reading.describe(),
        () if warning is None else (warning,),
        pairs.named,
        pairs.unused,
    )


def _whole(read: Callable[[str], np.ndarray]) -> Callable[[str], TrueMask]:
    """Masks that were drawn as shapes: they call no pixel void."""
    return lambda path: TrueMask(read(path))


def check_truth(truth: str | Path | None, truth_class: str | None, masks_in: str | None = None) -> None:
    """Raises TruthError for a `--truth` that is not there, and options of it that cannot be read or say nothing.

    It is what can be known before any work. Where boxes are taken too, the word "catalog" stands for them.
    """
    if masks_in is not None:
        check_boxes_in(masks_in, "--masks-in")
    if truth is None or truth == "catalog":
        for option, value in (("--truth-class", truth_class), ("--masks-in", masks_in)):
            if value is not None:
                raise TruthError(f"{option} {value} is of true masks; name them with --truth, or leave it out")
        return
    path = Path(truth)
    if path.suffix.lower() == ".json" and not path.is_dir():
        if not path.is_file():
            raise TruthError(f"--truth {path} is not there; name COCO's annotations, or a folder of masks")
        return
    check_truth_folder(path)
    if truth_class is not None and format_of(path) == "png":
        reading_of_class(truth_class)


def format_of(truth: Path) -> str:
    """One of FORMATS: a .json file that begins as a list holds Label Studio's tasks, else COCO's annotations; a folder
    with a data.yaml holds YOLO's labels, else files of masks."""
    if truth.is_dir():
        return "yolo" if (truth / "data.yaml").is_file() else "png"
    if truth.suffix.lower() != ".json":
        return "png"
    try:
        with truth.open("rb") as file:
            is_list = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except OSError:  # named by who reads it
        return "coco"
    return "labelstudio" if is_list else "coco"


def read_truth(masks: TrueMasks, path: str, image: ImagePlace) -> np.ndarray:
    """The object `(H, W) bool` of the image `path` at its mask's own size; all False where nothing is marked.

    Raises as `read_true_mask`.
    """
    return read_true_mask(masks, path, image).object


def read_true_mask(masks: TrueMasks, path: str, image: ImagePlace) -> TrueMask:
    """The true mask of the image `path`. All true masks come through here.

    Raises TruthError for a file that cannot be a mask or does not fit the rule of the
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


def _read_file(file: Path, reading: Reading) -> TrueMask:
    try:
        pixels = read_pixels(file)
        void = reading.void_of(pixels)
        return TrueMask(reading(pixels), void if void is not None and void.any() else None)
    except ImageError as error:
        raise TruthError(f"True mask {file} {error}") from None


def square_truth(mask: np.ndarray, geometry: ResizeCrop) -> np.ndarray:
    """Resizes a mask `(H, W) bool` to `(S, S) bool` by area; True where more than half of a pixel is object."""
    return geometry.image(mask.astype(np.uint8) * 255, "area") > 127
