"""Data sets of a training run, whose samples are a pure function of a row and a seed.

The seed is derived from the run's seed, the epoch and the row (`loader.py`), or is NO_AUGMENTATION. So a run gets the
same samples with any number of loading processes, and after it was resumed at any step.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...pipeline.geometry.resize_crop import ResizeCrop
from ..models import is_guided
from ..recipe import ClassifierSettings, GeneratorSettings, LinearSettings
from .batches import GuidedBatch, ImageBatch
from .mask_cache import Masks
from .transforms import augment_image, augment_image_and_mask, augment_image_and_places, seeded_randomness, visible_area
from .version_images import VersionImages

NO_AUGMENTATION = -1
"""The seed of an image that is not augmented."""

Sample = tuple[int, int]  # row, seed


class MaskPairs(Dataset[ImageBatch]):
    """Images with their masks. Without augmentation: the whole square, S x S."""

    def __init__(self, images: VersionImages, masks: Masks, settings: GeneratorSettings, size_px: int):
        self.images, self.masks, self.settings, self.size_px = images, masks, settings, size_px

    def __getitem__(self, sample: Sample) -> ImageBatch:
        row, seed = sample
        side = self.size_px if seed == NO_AUGMENTATION else self.settings.resize_px
        rgb, mask = self.images.square(row, side), resized(self.masks.read(row), side)
        if seed != NO_AUGMENTATION:
            with seeded_randomness(seed):
                rgb, mask = augment_image_and_mask(rgb, mask, self.size_px, self.settings.flip)
        return ImageBatch(_tensor(rgb), _tensor(mask), torch.tensor(row))


class LabelledImages(Dataset[ImageBatch | GuidedBatch]):
    """Images with their labels. Without augmentation: short side to `resize_px`, then the central S x S, as at test.

    Augmented images for guided tokens come as GuidedBatch.

    masks  for mask-enhanced images and for guided tokens, else None
    """

    def __init__(
        self,
        images: VersionImages,
        labels: np.ndarray,
        masks: Masks | None,
        settings: ClassifierSettings | LinearSettings,
        size_px: int,
    ):
        self.images, self.labels, self.masks, self.settings = images, labels, masks, settings
        self.size_px = size_px

    def __getitem__(self, sample: Sample) -> ImageBatch | GuidedBatch:
        row, seed = sample
        label, settings = torch.tensor(int(self.labels[row])), self.settings
        image = self.images.read(row)
        if seed == NO_AUGMENTATION:
            rgb = ResizeCrop.centre_crop(image.shape[1::-1], self.size_px, settings.resize_px).image(image)
            return ImageBatch(_tensor(rgb), label, torch.tensor(row))
        square = self.images.square(row, settings.resize_px, image)
        rgb, places = self._augmented(square, row, seed)
        if places is None:
            return ImageBatch(_tensor(rgb), label, torch.tensor(row))
        return GuidedBatch(_tensor(rgb), label, torch.tensor(row), _tensor(places))

    def _augmented(self, rgb: np.ndarray, row: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Square `(side, side, 3) uint8` > rgb `(S, S, 3) uint8` and, for guided tokens, places `(S, S, 2) uint8`."""
        settings, side = self.settings, self.settings.resize_px
        mask = visible = np.ones((side, side), bool)
        if self.masks is not None and (stored_mask := self.masks.read(row)).any():
            mask = resized(stored_mask, side)
            if getattr(settings, "enhance", False):
                visible = visible_area(mask, np.random.default_rng(seed))
                rgb = rgb * visible[..., None]
        augmentation = (self.size_px, getattr(settings, "randaugment", ""), settings.crop_scale, settings.flip)
        with seeded_randomness(seed):
            if not is_guided(getattr(settings, "keep_tokens", 1.0)):
                return augment_image(rgb, *augmentation), None
            places = np.stack([mask, visible, visible], axis=2).astype(np.uint8) * 255
            rgb, places = augment_image_and_places(rgb, places, *augmentation)
            return rgb, places[..., :2]


def resized(mask: np.ndarray, side_px: int) -> np.ndarray:
    """`(S, S) bool` > `(side, side) bool`, by nearest neighbour."""
    if mask.shape == (side_px, side_px):
        return mask
    return cv2.resize(mask.astype(np.uint8), (side_px, side_px), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
