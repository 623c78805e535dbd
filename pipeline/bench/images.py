"""Images for the benchmark, with or without ground-truth masks: from folders, or synthetic scenes."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..catalogs.folders.walk import walk_images
from ..catalogs.paths import resolve
from ..errors import BenchError, ImageError, TruthError
from ..geometry.resize_crop import ResizeCrop
from ..inspect.ground_truth.masks import TrueMask, find_truth, read_true_mask, square_truth
from ..io.images import decode_image, read_image_bytes
from ..synthetic import make_scene

INPUT_PX = 224  # of a backbone
SCENE_PX = (300, 500)  # sides of synthetic scenes, about those of CUB's photographs
JPEG_QUALITY = 90
MAX_ASPECT_DIFFERENCE = 0.05  # largest relative difference between the aspect ratios of an image and its mask


@dataclass(frozen=True)
class BenchImage:
    """One image, resized as a build does for its backbone and its engine."""

    name: str
    rgb: np.ndarray  # (S, S, 3) uint8
    inputs: np.ndarray  # (INPUT_PX, INPUT_PX, 3) uint8
    truth: np.ndarray | None  # (S, S) bool, with object and background
    decode_s: float  # process time from bytes to pixels
    resize_s: float  # process time from pixels to both squares
    void: np.ndarray | None = None  # (S, S) bool, what the truth calls neither object nor background


@dataclass(frozen=True)
class BenchImages:
    images: list[BenchImage]
    skipped: list[str]  # name and reason of each image that cannot be used
    truth: str = ""  # how many images have a mask and how masks are read, and warnings; in words


def make_images(count: int, size_px: int) -> BenchImages:
    """The first scenes of seed 0, through a JPEG, with their truth."""
    images = []
    for index in (0, *range(count)):  # the first scene twice: the first run is a warm-up
        scene, file = make_scene(0, index, 10, SCENE_PX), io.BytesIO()
        Image.fromarray(scene.rgb).save(file, "JPEG", quality=JPEG_QUALITY)
        images.append(_image(f"scene {index}", file.getvalue(), TrueMask(scene.mask), size_px))
    return BenchImages(images[1:], [])


def load_images(
    folder: Path, truth: Path | None, count: int, size_px: int, truth_class: str | None = None
) -> BenchImages:
    """`count` images of a folder, evenly spaced in their sorted names; 0 takes all of them.

    truth        a folder of masks or a file of COCO's annotations, or None (see inspect/ground_truth/masks.py). Images
                 without a mask are left out.
    truth_class  what is object in them; None: decided by what they hold

    An image that cannot be decoded, or has no object or no background, is skipped with its reason. Raises BenchError if
    no image is left, TruthError for a folder without masks of these images.
    """
    names = _image_names(folder)
    masks = None if truth is None else find_truth(names, truth, truth_class, folder.absolute())
    if masks is not None:
        names = [name for name in names if name in masks]
    if 0 < count < len(names):
        names = [names[position * len(names) // count] for position in range(count)]
    images: list[BenchImage] = []
    skipped: list[str] = []
    for name in names:
        try:
            data = read_image_bytes(resolve(folder, name))
            mask = None if masks is None else read_true_mask(masks, name, resolve(folder, name))
            if not images:
                _image(name, data, mask, size_px)  # warm-up
            images.append(_image(name, data, mask, size_px))
        except (ImageError, TruthError) as error:
            skipped.append(f"{name}: {error}")
    if not images:
        raise BenchError(f"None of {len(skipped)} images of --images {folder} can be measured on; {skipped[0]}")
    described = "" if masks is None else "; ".join([masks.describe(), *masks.warnings])
    return BenchImages(images, skipped, described)


def _image_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise BenchError(f"--images {folder} is no folder")
    names = sorted(walk_images(folder))
    if not names:
        raise BenchError(f"--images {folder} holds no image")
    return names


def _image(name: str, data: bytes, mask: TrueMask | None, size_px: int) -> BenchImage:
    """Encoded image and its true mask > both squares with their times, and the truth as a square."""
    began = time.process_time()
    rgb = decode_image(data)
    decoded = time.process_time()
    source_px = (rgb.shape[1], rgb.shape[0])
    square, inputs = (ResizeCrop.stretch(source_px, side).image(rgb) for side in (size_px, INPUT_PX))
    resized = time.process_time()
    truth = None if mask is None else _truth_square(mask.object, source_px, size_px)
    void = None
    if mask is not None and mask.void is not None:
        void = square_truth(mask.void, ResizeCrop.stretch((mask.void.shape[1], mask.void.shape[0]), size_px))
    return BenchImage(name, square, inputs, truth, decoded - began, resized - decoded, void)


def _truth_square(mask: np.ndarray, source_px: tuple[int, int], size_px: int) -> np.ndarray:
    (width, height), (mask_height, mask_width) = source_px, mask.shape
    if abs(width * mask_height / (height * mask_width) - 1) > MAX_ASPECT_DIFFERENCE:
        raise ImageError(f"its mask is {mask_width} x {mask_height}, the image {width} x {height}")
    truth = square_truth(mask, ResizeCrop.stretch((mask_width, mask_height), size_px))
    if truth.all() or not truth.any():
        raise ImageError(f"its mask has no {'background' if truth.any() else 'object'}")
    return truth
