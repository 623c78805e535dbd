"""Pictures for the benchmark, with their true masks where there are any: two folders, or made scenes."""

import io
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..catalogs.folder import walk_images
from ..catalogs.names import resolve
from ..errors import BenchError, ImageError
from ..geometry import Geometry
from ..images import decode_image, read_image_bytes
from ..synthetic import make_scene

INPUT_PX = 224  # of a backbone
SCENE_PX = (300, 500)  # sides of made scenes, about those of CUB's photographs
JPEG_QUALITY = 90
SAME_SHAPE = 0.05  # by how much the ratios of sides of a picture and its mask may differ


@dataclass(frozen=True)
class Picture:
    """One picture as a build would show it to its backbone and its engine."""

    name: str
    rgb: np.ndarray  # (S, S, 3) uint8
    inputs: np.ndarray  # (INPUT_PX, INPUT_PX, 3) uint8
    truth: np.ndarray | None  # (S, S) bool, with object and background
    decode_s: float  # of the process, from bytes to pixels
    resize_s: float  # and from these to both squares


@dataclass(frozen=True)
class Pictures:
    found: list[Picture]
    skipped: list[str]  # name and reason of each that cannot be measured on


def make_pictures(count: int, size_px: int) -> Pictures:
    """The first scenes of seed 0, through a JPEG, with their truth."""
    found = []
    for index in (0, *range(count)):  # the first one twice, for what is set up only once
        scene, file = make_scene(0, index, 10, SCENE_PX), io.BytesIO()
        Image.fromarray(scene.rgb).save(file, "JPEG", quality=JPEG_QUALITY)
        found.append(_picture(f"scene {index}", file.getvalue(), scene.mask.astype(np.uint8) * 255, size_px))
    return Pictures(found[1:], [])


def load_pictures(images: Path, truth: Path | None, count: int, size_px: int) -> Pictures:
    """`count` pictures of a folder, evenly over their sorted names; 0 takes all of them.

    truth  a folder of masks, or None: image files, brighter than half is object. A picture's mask is the file of the
           same path below the folder, whatever its suffix; else of the same name, where no other picture or mask has
           that name. Pictures without one are left out.

    What cannot be decoded, or has no object or no background, is skipped with its reason. Raises BenchError where
    nothing is left.
    """
    names = _listed(images, "--images")
    masks = {} if truth is None else _pair(names, _listed(truth, "--truth"))
    if truth is not None:
        names = [name for name in names if name in masks]
        if not names:
            raise BenchError(
                f"No picture of --images {images} has a mask of its name in --truth {truth} (a.jpg: a.png, any suffix)"
            )
    if 0 < count < len(names):
        names = [names[place * len(names) // count] for place in range(count)]
    found, skipped = [], []
    for name in names:
        try:
            data = read_image_bytes(resolve(images, name))
            mask = None if truth is None else _decoded(truth, masks[name])
            if not found:
                _picture(name, data, mask, size_px)  # for what is set up only once
            found.append(_picture(name, data, mask, size_px))
        except ImageError as error:
            skipped.append(f"{name}: {error}")
    if not found:
        raise BenchError(f"None of {len(skipped)} pictures of --images {images} can be measured on; {skipped[0]}")
    return Pictures(found, skipped)


def _listed(folder: Path, option: str) -> list[str]:
    if not folder.is_dir():
        raise BenchError(f"{option} {folder} is no folder")
    names = sorted(walk_images(folder))
    if not names:
        raise BenchError(f"{option} {folder} holds no picture")
    return names


def _pair(names: list[str], masks: list[str]) -> dict[str, str]:
    """The mask's path of each picture's that has one. Raises BenchError where a path has two masks."""
    by_path: dict[str, str] = {}
    for mask in masks:
        path = _bare(mask)
        if path in by_path:
            raise BenchError(f"--truth has two masks of one name, {by_path[path]} and {mask}; remove one")
        by_path[path] = mask
    by_name = {PurePosixPath(path).name: mask for path, mask in by_path.items()}
    times = [Counter(PurePosixPath(_bare(name)).name for name in listed) for listed in (names, masks)]
    paired = {}
    for name in names:
        path = _bare(name)
        alone = PurePosixPath(path).name
        if path in by_path:
            paired[name] = by_path[path]
        elif all(counted[alone] == 1 for counted in times):
            paired[name] = by_name[alone]
    return paired


def _bare(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _decoded(folder: Path, name: str) -> np.ndarray:
    """The first channel of a mask, `(H, W) uint8`."""
    try:
        return decode_image(read_image_bytes(resolve(folder, name)))[..., 0]
    except ImageError as error:
        raise ImageError(f"its mask {name}: {error}") from None


def _picture(name: str, data: bytes, mask: np.ndarray | None, size_px: int) -> Picture:
    """Data `bytes` and mask `(H, W) uint8` > both squares, the time they took, and the truth as another."""
    began = time.process_time()
    rgb = decode_image(data)
    decoded = time.process_time()
    shape = rgb.shape[1::-1]
    square, inputs = (Geometry.stretch(shape, side).image(rgb) for side in (size_px, INPUT_PX))
    resized = time.process_time()
    truth = None if mask is None else _truth(mask, shape, size_px)
    return Picture(name, square, inputs, truth, decoded - began, resized - decoded)


def _truth(mask: np.ndarray, shape: tuple[int, int], size_px: int) -> np.ndarray:
    (width, height), (mask_width, mask_height) = shape, mask.shape[::-1]
    if abs(width * mask_height / (height * mask_width) - 1) > SAME_SHAPE:
        raise ImageError(f"its mask is {mask_width} x {mask_height}, the picture {width} x {height}")
    truth = Geometry.stretch((mask_width, mask_height), size_px).image(mask, "area") > 127
    if truth.all() or not truth.any():
        raise ImageError(f"its mask has no {'background' if truth.any() else 'object'} (brighter than half is object)")
    return truth
