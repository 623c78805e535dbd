"""Ground-truth masks in a folder of image files: pairs them with images, and reads them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...catalogs.paths import resolve
from ...catalogs.walk import walk_images
from ...errors import ImageError, TruthError
from ...geometry.resize_crop import ResizeCrop
from ...io.images import decode_image, read_image_bytes

GREY = 16  # largest difference between the channels of a grey image after JPEG
COLOURED = 0.01  # largest share of bright pixels whose channels differ by more


def pair_masks(paths: Sequence[str], folder: Path) -> dict[str, Path]:
    """Maps posix paths of images to their mask files below `folder`; images without a mask are left out.

    An image's mask has the same path without suffix. If two files have it, the one with the image's own suffix is taken
    for the image itself. Without such a path, the mask is the file with the image's name, if no other image and no
    other mask has that name. Raises TruthError if there is no folder, if an image has two masks, or if none has one.
    """
    if not folder.is_dir():
        raise TruthError(f"--truth {folder} is no folder of masks")
    by_path: defaultdict[str, list[str]] = defaultdict(list)
    for mask in sorted(walk_images(folder)):
        by_path[_without_suffix(mask)].append(mask)
    by_name = {PurePosixPath(path).name: path for path in by_path}
    images_with_name = Counter(PurePosixPath(_without_suffix(path)).name for path in paths)
    masks_with_name = Counter(PurePosixPath(path).name for path in by_path)
    paired = {}
    for image in paths:
        path = _without_suffix(image)
        name = PurePosixPath(path).name
        if path not in by_path and images_with_name[name] == masks_with_name[name] == 1:
            path = by_name[name]
        masks = by_path.get(path, [])
        masks = [mask for mask in masks if mask != image] or masks  # images may lie beside their masks
        if len(masks) > 1:
            raise TruthError(f"--truth {folder} has two masks of {image}, {masks[0]} and {masks[1]}; remove one")
        if masks:
            paired[image] = Path(resolve(folder, masks[0]))
    if not paired:
        raise TruthError(
            f"--truth {folder} has no mask of any of {len(paths)} images; name the folder in which a mask has its "
            "image's path, without suffixes, or a file name that no other image or mask has"
        )
    return paired


def _without_suffix(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def read_truth(file: Path, image: Path | str) -> np.ndarray:
    """A ground-truth mask `(H, W) bool`: True where the file is brighter than half.

    Raises TruthError for a file that cannot be a mask, or that is `image`, the image itself.
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
            f"True mask {file} is empty: its brightest value is {rgb.max()}, and an object is brighter than 127"
        )
    coloured = np.mean(np.ptp(bright, axis=1) > GREY)
    if coloured > COLOURED:
        raise TruthError(
            f"True mask {file} has colours ({coloured:.0%} of what is bright); a mask is grey, white for the object"
        )
    return rgb[..., 0] > 127


def square_truth(mask: np.ndarray, geometry: ResizeCrop) -> np.ndarray:
    """Resizes a mask `(H, W) bool` to `(S, S) bool` by area; True where more than half of a pixel is object."""
    return geometry.image(mask.astype(np.uint8) * 255, "area") > 127
