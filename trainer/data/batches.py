"""Types of batches. A sample of a data set has the same fields, without the dimension B.

B images, S side in pixels, D width of the ViT, h x w token grid.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor


class ImageBatch(NamedTuple):
    """Images, whole or augmented."""

    rgb: Tensor  # (B, S, S, 3) uint8
    target: Tensor  # masks (B, S, S) bool, or labels (B,) int64
    row: Tensor  # (B,) int64, row of the version


class GuidedBatch(NamedTuple):
    """Augmented images for a classifier with guided tokens, which are selected by `places`."""

    rgb: Tensor  # (B, S, S, 3) uint8
    target: Tensor  # (B,) int64
    row: Tensor  # (B,) int64
    places: Tensor  # (B, S, S, 2) uint8: object mask and visible area, 255 inside


class FeatureBatch(NamedTuple):
    """Cached patch features in place of images."""

    features: Tensor  # (B, D, h, w) float16
    target: Tensor  # (B, S, S) bool
    row: Tensor  # (B,) int64


Batch = ImageBatch | GuidedBatch | FeatureBatch
AnyBatch = TypeVar("AnyBatch", bound=Batch)


def map_tensors(batch: AnyBatch, function: Callable[[Tensor], Tensor]) -> AnyBatch:
    """Applies `function` to each tensor of a batch."""
    return type(batch)(*map(function, batch))


def split_batch(batch: AnyBatch, parts: int) -> Iterator[AnyBatch]:
    """Splits a batch into `parts` batches of nearly equal size."""
    for tensors in zip(*(tensor.tensor_split(parts) for tensor in batch), strict=True):
        yield type(batch)(*tensors)


def move_batch(batch: AnyBatch, device: torch.device) -> AnyBatch:
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))
