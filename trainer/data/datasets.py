"""Rows > batches of tensors. What an image looks like at an epoch depends on the seed, the epoch and its row alone.

So a run gives the same batches with any number of loading processes, and resumed at any step.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ...pipeline.errors import LocLocError
from ...pipeline.geometry.resize_crop import ResizeCrop
from ..models.token_selection import is_guided
from ..recipe import ClassifierSettings, GeneratorSettings, LinearSettings
from .splits import MaskCache, VersionImages
from .transforms import augment_image, augment_image_and_mask, augment_image_and_places, seeded_randomness, visible_area

NO_AUGMENTATION = -1
"""The draw of an image that is not augmented."""

Sample = tuple[int, int]  # row, draw


def derive_seed(*numbers: int) -> int:
    """32 bits that follow from some numbers, and look like chance."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


class MaskPairs(Dataset):
    """`(rgb (S, S, 3) uint8, mask (S, S) bool, row)`. Plain: the whole square at S."""

    def __init__(self, images: VersionImages, masks: MaskCache, settings: GeneratorSettings, size_px: int):
        self.images, self.masks, self.settings, self.size_px = images, masks, settings, size_px

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Tensor, int]:
        row, number = sample
        side = self.size_px if number == NO_AUGMENTATION else self.settings.resize_px
        rgb, mask = self.images.square(row, side), resized(self.masks.read(row), side)
        if number != NO_AUGMENTATION:
            with seeded_randomness(number):
                rgb, mask = augment_image_and_mask(rgb, mask, self.size_px, self.settings.flip)
        return torch.from_numpy(np.ascontiguousarray(rgb)), torch.from_numpy(np.ascontiguousarray(mask)), row


class LabelledImages(Dataset):
    """`(rgb (S, S, 3) uint8, label, row)`. Plain: short side to `resize_px`, central square of S, as at test time.

    With guided tokens an augmented image has two channels more: where its object is, and what of it is shown at all.

    masks  for mask-enhanced images and for guided tokens, None without either
    """

    def __init__(
        self,
        images: VersionImages,
        labels: np.ndarray,
        masks: MaskCache | None,
        settings: ClassifierSettings | LinearSettings,
        size_px: int,
    ):
        self.images, self.labels, self.masks, self.settings = images, labels, masks, settings
        self.size_px = size_px

    def __getitem__(self, sample: Sample) -> tuple[Tensor, int, int]:
        row, number = sample
        image, settings = self.images.read(row), self.settings
        if number == NO_AUGMENTATION:
            rgb = ResizeCrop.centre_crop(image.shape[1::-1], self.size_px, settings.resize_px).image(image)
        else:
            rgb = self._augmented(self.images.square(row, settings.resize_px, image), row, number)
        return torch.from_numpy(np.ascontiguousarray(rgb)), int(self.labels[row]), row

    def _augmented(self, rgb: np.ndarray, row: int, number: int) -> np.ndarray:
        settings, side = self.settings, self.settings.resize_px
        mask = visible = np.ones((side, side), bool)
        if self.masks is not None and (own := self.masks.read(row)).any():
            mask = resized(own, side)
            if settings.enhance:
                visible = visible_area(mask, np.random.default_rng(number))
                rgb = rgb * visible[..., None]
        how = (self.size_px, getattr(settings, "randaugment", ""), settings.crop_scale, settings.flip)
        with seeded_randomness(number):
            if not is_guided(getattr(settings, "keep_tokens", 1.0)):
                return augment_image(rgb, *how)
            places = np.stack([mask, visible, visible], axis=2).astype(np.uint8) * 255
            rgb, places = augment_image_and_places(rgb, places, *how)
            return np.concatenate([rgb, places[..., :2]], axis=2)


class Batches(Sampler):
    """The steps of an epoch, each a list of samples: every row exactly once, in an order of the seed and the epoch.

    Each rank gets its share of every step. A last batch of fewer than two rows a rank joins the one before it: nothing
    is dropped, and batch norm has something to take a mean of.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None, rank: int = 0, world: int = 1):
        """`seed`: None for plain images in their order."""
        self.rows, self.batch_size, self.seed, self.rank, self.world = rows, batch_size, seed, rank, world
        self.epoch, self.skip = 0, 0

    def whole(self, epoch: int) -> list[np.ndarray]:
        """Rows of each step, over all ranks."""
        rows = self.rows if self.seed is None else np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        steps = np.split(rows, range(self.batch_size, len(rows), self.batch_size))
        if len(steps) > 1 and len(steps[-1]) < 2 * self.world:
            steps[-2:] = [np.concatenate(steps[-2:])]
        return steps

    def __len__(self) -> int:
        return len(self.whole(0))

    def __iter__(self) -> Iterator[list[Sample]]:
        for rows in self.whole(self.epoch)[self.skip :]:
            yield [(row, self._draw(row)) for row in rows[self.rank :: self.world].tolist()]

    def _draw(self, row: int) -> int:
        if self.seed is None:
            return NO_AUGMENTATION
        return derive_seed(self.seed, self.epoch, row)


def load(dataset: Dataset, batches: Batches, workers: int, pin: bool = False) -> DataLoader:
    """Yields what the dataset does, stacked, a rank's share of a step at a time; in place of a batch, the LocLocError
    that befell it. Empty shares (validation only) are left out. `workers` processes, 0: in this one.
    """
    context = {"multiprocessing_context": "forkserver", "persistent_workers": True} if workers else {}
    return DataLoader(
        _Caught(dataset),
        batch_sampler=_Shares(batches),
        num_workers=workers,
        collate_fn=_stack,
        worker_init_fn=_begin_worker,
        pin_memory=pin,
        **context,
    )


class _Shares(Sampler):
    """What torch's loader asks for steps; without those of which a rank has nothing."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Sample]]:
        return (share for share in self.batches if share)


class _Caught(Dataset):
    """An error of ours travels as a value: out of a worker process it would come as that process's traceback."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, sample: Sample) -> Any:
        try:
            return self.dataset[sample]
        except LocLocError as error:
            return error


def _stack(samples: list[Any]) -> Any:
    broken = next((sample for sample in samples if isinstance(sample, LocLocError)), None)
    return broken if broken is not None else torch.utils.data.default_collate(samples)


def _begin_worker(_: int) -> None:
    cv2.setNumThreads(0)


def resized(mask: np.ndarray, side_px: int) -> np.ndarray:
    """`(S, S) bool` > `(side, side) bool`, by the nearest pixel."""
    if mask.shape == (side_px, side_px):
        return mask
    return cv2.resize(mask.astype(np.uint8), (side_px, side_px), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
