"""True masks, kept as images in a folder: which image each belongs to, and what it says."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..catalogs.folder import walk_images
from ..catalogs.paths import resolve
from ..errors import ImageError, TruthError
from ..geometry.resize_crop import ResizeCrop
from ..io.images import decode_image, read_image_bytes

GREY = 16  # by how much channels of a grey image may differ after JPEG
COLOURED = 0.01  # share of bright pixels that may differ by more


def pair_masks(paths: Sequence[str], folder: Path) -> dict[str, Path]:
    """Posix paths of images > the file of each one's mask below `folder`, of those that have one.

    It is the mask of the same path, suffixes aside, or where there are two the one that has not the image's own
    suffix; else that of the same file name, where no other image and no other mask has that name. Raises TruthError
    for what is no folder, where an image has two masks, and where none has any.
    """
    if not folder.is_dir():
        raise TruthError(f"--truth {folder} is no folder of masks")
    by_path: defaultdict[str, list[str]] = defaultdict(list)
    for mask in sorted(walk_images(folder)):
        by_path[_bare(mask)].append(mask)
    by_name = {PurePosixPath(path).name: path for path in by_path}
    images, masks = (Counter(PurePosixPath(path).name for path in some) for some in (map(_bare, paths), by_path))
    paired = {}
    for image in paths:
        path = _bare(image)
        name = PurePosixPath(path).name
        if path not in by_path and images[name] == masks[name] == 1:
            path = by_name[name]
        found = by_path.get(path, [])
        found = [mask for mask in found if mask != image] or found  # photographs may lie beside their masks
        if len(found) > 1:
            raise TruthError(f"--truth {folder} has two masks of {image}, {found[0]} and {found[1]}; remove one")
        if found:
            paired[image] = resolve(folder, found[0])
    if not paired:
        raise TruthError(
            f"--truth {folder} has no mask of any of {len(paths)} images; name the folder in which a mask has its "
            "image's path, suffixes aside, or a file name that no other image or mask has"
        )
    return paired


def _bare(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def read_truth(file: Path, image: Path | str) -> np.ndarray:
    """The true mask `(H, W) bool`: what is brighter than half. Raises TruthError for what cannot be a mask.

    image  the one it belongs to, which it must not be itself
    """
    if isinstance(image, Path) and image.exists() and file.samefile(image):
        raise TruthError(f"{file} is the image itself, not its mask; name the folder of masks with --truth")
    try:
        rgb = decode_image(read_image_bytes(file))
    except ImageError as error:
        raise TruthError(f"True mask {file}: {error}") from None
    bright = rgb[rgb.max(2) > 127]  # (n, 3)
    if not len(bright):
        raise TruthError(
            f"True mask {file} is empty: its brightest value is {rgb.max()}, and object is what is over 127"
        )
    coloured = np.mean(np.ptp(bright, axis=1) > GREY)
    if coloured > COLOURED:
        raise TruthError(
            f"True mask {file} has colours ({coloured:.0%} of what is bright); a mask is grey, white for the object"
        )
    return rgb[..., 0] > 127


def square_truth(mask: np.ndarray, geometry: ResizeCrop) -> np.ndarray:
    """A true mask `(H, W) bool` > `(S, S) bool`, in the square of a geometry: what is object for more than half."""
    return geometry.image(mask.astype(np.uint8) * 255, "area") > 127
