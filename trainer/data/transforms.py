"""What training does to an image, and to its mask along with it. All randomness is drawn inside `randomness`.

S side of the square that comes in, s of the one that goes out.
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
    """timm's, black where a rotated or moved image leaves nothing: that is what masked images have around them."""
    transform = rand_augment_transform(policy, {"img_mean": (0, 0, 0)})
    for op in transform.ops:
        if op.aug_fn is posterize:  # timm asks for 0 bits at times, which Pillow refuses from release 12 on
            op.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    return ImageOps.posterize(image, max(1, bits))


@contextmanager
def seeded_randomness(seed: int) -> Iterator[None]:
    """In the `with` block, torch, `random` and NumPy give what follows from `draw`; afterwards they are as before."""
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
    """A random crop, maybe flipped, of rgb `(S, S, 3) uint8` and mask `(S, S) bool`, the same of both."""
    joint = v2.Compose([v2.RandomCrop(size_px), *([v2.RandomHorizontalFlip()] if flip else [])])
    image, cut = joint(tv_tensors.Image(rgb.transpose(2, 0, 1)), tv_tensors.Mask(mask))
    return image.numpy().transpose(1, 2, 0), cut.numpy()


def enhanced(rgb: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """LFDM's mask-enhanced image: rgb `(S, S, 3) uint8`, black outside of mask `(S, S) bool` and of one random box."""
    return rgb * visible_area(mask, rng)[..., None]


def visible_area(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mask `(S, S) bool` > it and one random box, `(S, S) bool`.

    The box has a share 1 - lambda of the square's area, lambda ~ Beta(1, 1), a uniform centre, and is cut at the edges.
    """
    side = len(mask)
    half = int(side * np.sqrt(1 - rng.beta(1.0, 1.0))) // 2
    x, y = rng.integers(side, size=2)
    whole = mask.copy()
    whole[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = True
    return whole


def augment_image(
    rgb: np.ndarray, size_px: int, policy: str, crop_scale: tuple[float, float], flip: bool
) -> np.ndarray:
    """Rgb `(S, S, 3) uint8` > by timm's RandAugment `policy`, then randomly cropped and flipped, `(s, s, 3) uint8`."""
    image = Image.fromarray(rgb)
    if policy:
        image = _rand_augment(policy)(image)
    return np.array(_crop_and_flip(size_px, crop_scale, flip)(image))


def augment_image_and_places(
    rgb: np.ndarray, places: np.ndarray, size_px: int, policy: str, crop_scale: tuple[float, float], flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`labelled_view`, and with it `places` `(S, S, 3) uint8` moved as the image is, but never recoloured.

    What was black is not so any more after RandAugment has inverted, solarised or flattened an image: where the object
    is must be told beside it.
    """
    image, moved = Image.fromarray(rgb), Image.fromarray(places)
    if policy:
        augment = _rand_augment(policy)
        weights = augment.choice_weights
        for op in np.random.choice(augment.ops, augment.num_layers, weights is None, weights):  # noqa: NPY002
            image, moved = _both(op, image, moved)
    image, moved = _crop_and_flip(size_px, crop_scale, flip)(image, moved)
    return np.array(image), np.array(moved)


def _both(op: AugmentOp, image: Image.Image, places: Image.Image) -> tuple[Image.Image, Image.Image]:
    """One operation on an image, and on places if it moves pixels, with the same draws."""
    before = random.getstate()
    image = op(image)
    if op.name.startswith(_MOVES):
        after = random.getstate()
        random.setstate(before)
        places = op(places)
        random.setstate(after)
    return image, places


_MOVES = ("Rotate", "Shear", "Translate")


def _crop_and_flip(size_px: int, crop_scale: tuple[float, float], flip: bool) -> v2.Compose:
    crop = v2.RandomResizedCrop(size_px, scale=crop_scale, interpolation=InterpolationMode.BICUBIC)
    return v2.Compose([crop, *([v2.RandomHorizontalFlip()] if flip else [])])
