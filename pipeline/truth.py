"""True masks, kept as pictures in a folder: which picture each belongs to, and what it says."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from .catalogs.folder import walk_images
from .catalogs.names import resolve
from .errors import ImageError, TruthError
from .images import decode_image, read_image_bytes

GREY = 16  # by how much channels of a grey picture may differ after JPEG
COLOURED = 0.01  # share of pixels that may differ by more


def pair_masks(paths: Sequence[str], folder: Path) -> dict[str, Path]:
    """Posix paths of pictures > the file of each one's mask below `folder`, of those that have one.

    It is the mask of the same path, suffixes aside; else that of the same file name, where no other picture and no
    other mask has that name. Raises TruthError for what is no folder, and where two masks have one path.
    """
    if not folder.is_dir():
        raise TruthError(f"--truth {folder} is no folder of masks")
    by_path: dict[str, str] = {}
    for mask in sorted(walk_images(folder)):
        path = _bare(mask)
        if path in by_path:
            raise TruthError(f"--truth {folder} has two masks of one name, {by_path[path]} and {mask}; remove one")
        by_path[path] = mask
    by_name = {PurePosixPath(path).name: mask for path, mask in by_path.items()}
    pictures, masks = (Counter(PurePosixPath(path).name for path in some) for some in (map(_bare, paths), by_path))
    paired = {}
    for picture in paths:
        path = _bare(picture)
        name = PurePosixPath(path).name
        if path in by_path:
            paired[picture] = resolve(folder, by_path[path])
        elif pictures[name] == masks[name] == 1:
            paired[picture] = resolve(folder, by_name[name])
    return paired


def _bare(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def read_truth(file: Path, picture: Path | str) -> np.ndarray:
    """The true mask `(H, W) bool`: what is brighter than half. Raises TruthError for what cannot be a mask.

    picture  the one it belongs to, which it must not be itself
    """
    if isinstance(picture, Path) and picture.exists() and file.samefile(picture):
        raise TruthError(f"{file} is the picture itself, not its mask; name the folder of masks with --truth")
    try:
        rgb = decode_image(read_image_bytes(file))
    except ImageError as error:
        raise TruthError(f"True mask {file}: {error}") from None
    coloured = np.mean(np.ptp(rgb, axis=2) > GREY)
    if coloured > COLOURED:
        raise TruthError(
            f"True mask {file} has colours ({coloured:.0%} of its pixels); a mask is grey, white where the object is"
        )
    grey = rgb[..., 0]
    if grey.max() <= 127:
        raise TruthError(
            f"True mask {file} is empty: its brightest value is {grey.max()}, and object is what is over 127"
        )
    return grey > 127
