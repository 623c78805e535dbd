"""Images for the benchmark, with their true masks where there are any: two folders, or made scenes."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..catalogs.folder import walk_images
from ..catalogs.paths import resolve
from ..errors import BenchError, ImageError, TruthError
from ..geometry.resize_crop import ResizeCrop
from ..inspect.ground_truth import pair_masks, read_truth, square_truth
from ..io.images import decode_image, read_image_bytes
from ..synthetic import make_scene

INPUT_PX = 224  # of a backbone
SCENE_PX = (300, 500)  # sides of made scenes, about those of CUB's photographs
JPEG_QUALITY = 90
SAME_SHAPE = 0.05  # by how much the ratios of sides of an image and its mask may differ


@dataclass(frozen=True)
class BenchImage:
    """One image as a build would show it to its backbone and its engine."""

    name: str
    rgb: np.ndarray  # (S, S, 3) uint8
    inputs: np.ndarray  # (INPUT_PX, INPUT_PX, 3) uint8
    truth: np.ndarray | None  # (S, S) bool, with object and background
    decode_s: float  # of the process, from bytes to pixels
    resize_s: float  # and from these to both squares


@dataclass(frozen=True)
class BenchImages:
    found: list[BenchImage]
    skipped: list[str]  # name and reason of each that cannot be measured on


def make_images(count: int, size_px: int) -> BenchImages:
    """The first scenes of seed 0, through a JPEG, with their truth."""
    found = []
    for index in (0, *range(count)):  # the first one twice, for what is set up only once
        scene, file = make_scene(0, index, 10, SCENE_PX), io.BytesIO()
        Image.fromarray(scene.rgb).save(file, "JPEG", quality=JPEG_QUALITY)
        found.append(_image(f"scene {index}", file.getvalue(), scene.mask, size_px))
    return BenchImages(found[1:], [])


def load_images(images: Path, truth: Path | None, count: int, size_px: int) -> BenchImages:
    """`count` images of a folder, evenly over their sorted names; 0 takes all of them.

    truth  a folder of masks, or None: image files, brighter than half is object (truth.py says whose they are).
           Images without one are left out.

    What cannot be decoded, or has no object or no background, is skipped with its reason. Raises BenchError where
    nothing is left, TruthError for a folder without masks of them.
    """
    names = _listed(images)
    masks = {} if truth is None else pair_masks(names, truth)
    if truth is not None:
        names = [name for name in names if name in masks]
    if 0 < count < len(names):
        names = [names[location * len(names) // count] for location in range(count)]
    found, skipped = [], []
    for name in names:
        try:
            data = read_image_bytes(resolve(images, name))
            mask = None if truth is None else read_truth(masks[name], resolve(images, name))
            if not found:
                _image(name, data, mask, size_px)  # for what is set up only once
            found.append(_image(name, data, mask, size_px))
        except (ImageError, TruthError) as error:
            skipped.append(f"{name}: {error}")
    if not found:
        raise BenchError(f"None of {len(skipped)} images of --images {images} can be measured on; {skipped[0]}")
    return BenchImages(found, skipped)


def _listed(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise BenchError(f"--images {folder} is no folder")
    names = sorted(walk_images(folder))
    if not names:
        raise BenchError(f"--images {folder} holds no image")
    return names


def _image(name: str, data: bytes, mask: np.ndarray | None, size_px: int) -> BenchImage:
    """Data `bytes` and mask `(H, W) bool` > both squares, the time they took, and the truth as another."""
    began = time.process_time()
    rgb = decode_image(data)
    decoded = time.process_time()
    shape = rgb.shape[1::-1]
    square, inputs = (ResizeCrop.stretch(shape, side).image(rgb) for side in (size_px, INPUT_PX))
    resized = time.process_time()
    truth = None if mask is None else _truth(mask, shape, size_px)
    return BenchImage(name, square, inputs, truth, decoded - began, resized - decoded)


def _truth(mask: np.ndarray, shape: tuple[int, int], size_px: int) -> np.ndarray:
    (width, height), (mask_width, mask_height) = shape, mask.shape[::-1]
    if abs(width * mask_height / (height * mask_width) - 1) > SAME_SHAPE:
        raise ImageError(f"its mask is {mask_width} x {mask_height}, the image {width} x {height}")
    truth = square_truth(mask, ResizeCrop.stretch((mask_width, mask_height), size_px))
    if truth.all() or not truth.any():
        raise ImageError(f"its mask has no {'background' if truth.any() else 'object'} (brighter than half is object)")
    return truth
