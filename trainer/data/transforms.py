"""Augmentation of images, with their masks. Random draws happen inside `seeded_randomness`.

S side of the input, s side of the output.
"""

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import AugmentOp, RandAugment, posterize, rand_augment_transform
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2


@functools.cache
def _rand_augment(policy: str) -> RandAugment:
    """timm's RandAugment, filling with black where an image was rotated or moved, as around masked images."""
    transform = rand_augment_transform(policy, {"img_mean": (0, 0, 0)})
    for op in transform.ops:
        if op.aug_fn is posterize:  # timm may ask for 0 bits, which Pillow rejects since release 12
            op.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    return ImageOps.posterize(image, max(1, bits))


@contextmanager
def seeded_randomness(seed: int) -> Iterator[None]:
    """Seeds torch, `random` and NumPy in the `with` block, and restores their states afterwards."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002, timm's RandAugment draws from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def augment_image_and_mask(
    rgb: np.ndarray, mask: np.ndarray, size_px: int, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The same random crop and flip of rgb `(S, S, 3) uint8` and mask `(S, S) bool`, s x s."""
    joint = v2.Compose([v2.RandomCrop(size_px), *([v2.RandomHorizontalFlip()] if flip else [])])
    image, cut = joint(tv_tensors.Image(rgb.transpose(2, 0, 1)), tv_tensors.Mask(mask))
    return image.numpy().transpose(1, 2, 0), cut.numpy()


def visible_area(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The visible area of LFDM's mask-enhanced image: mask `(S, S) bool` > its union with a random box, `(S, S) bool`.

    The box has the share 1 - lambda of the image's area, lambda ~ Beta(1, 1), a uniform centre, and is clipped.
    """
    side = len(mask)
    half = int(side * np.sqrt(1 - rng.beta(1.0, 1.0))) // 2
    x, y = rng.integers(side, size=2)
    visible = mask.copy()
    visible[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = True
    return visible


def augment_image(
    rgb: np.ndarray, size_px: int, policy: str, crop_scale: tuple[float, float], flip: bool
) -> np.ndarray:
    """Rgb `(S, S, 3) uint8` > timm's RandAugment `policy`, random crop and flip > `(s, s, 3) uint8`."""
    image = Image.fromarray(rgb)
    if policy:
        image = _rand_augment(policy)(image)
    return np.array(_crop_and_flip(size_px, crop_scale, flip)(image))


def augment_image_and_places(
    rgb: np.ndarray, places: np.ndarray, size_px: int, policy: str, crop_scale: tuple[float, float], flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`augment_image`, with the same geometric operations on `places` `(S, S, 3) uint8`, and none of those on colours.

    The mask cannot be read off the augmented image: RandAugment may invert, solarise or flatten its black.
    """
    image, moved = Image.fromarray(rgb), Image.fromarray(places)
    if policy:
        augment = _rand_augment(policy)
        weights = augment.choice_weights
        for op in np.random.choice(augment.ops, augment.num_layers, weights is None, weights):  # noqa: NPY002
            image, moved = _apply_to_both(op, image, moved)
    image, moved = _crop_and_flip(size_px, crop_scale, flip)(image, moved)
    return np.array(image), np.array(moved)


def _apply_to_both(op: AugmentOp, image: Image.Image, places: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Applies an operation to an image and, if it is geometric, to places with the same random draws."""
    before = random.getstate()
    image = op(image)
    if op.name.startswith(_GEOMETRIC):
        after = random.getstate()
        random.setstate(before)
        places = op(places)
        random.setstate(after)
    return image, places


_GEOMETRIC = ("Rotate", "Shear", "Translate")


def _crop_and_flip(size_px: int, crop_scale: tuple[float, float], flip: bool) -> v2.Compose:
    crop = v2.RandomResizedCrop(size_px, scale=crop_scale, interpolation=InterpolationMode.BICUBIC)
    return v2.Compose([crop, *([v2.RandomHorizontalFlip()] if flip else [])])
