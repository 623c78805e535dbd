"""What a data set yields and a loader stacks. One sample has the same fields as a batch, without B.

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
    row: Tensor  # (B,) int64, of the version


class GuidedBatch(NamedTuple):
    """Augmented images for a classifier with guided tokens: `places` says where the object is."""

    rgb: Tensor  # (B, S, S, 3) uint8
    target: Tensor  # (B,) int64
    row: Tensor  # (B,) int64
    places: Tensor  # (B, S, S, 2) uint8: 255 on the object; 255 where nothing is blackened


class FeatureBatch(NamedTuple):
    """Cached patch features in place of images."""

    features: Tensor  # (B, D, h, w) float16
    target: Tensor  # (B, S, S) bool
    row: Tensor  # (B,) int64


Batch = ImageBatch | GuidedBatch | FeatureBatch
_Batch = TypeVar("_Batch", ImageBatch, GuidedBatch, FeatureBatch)


def map_tensors(batch: _Batch, function: Callable[[Tensor], Tensor]) -> _Batch:
    """The same batch with `function` of each tensor."""
    return type(batch)(*map(function, batch))


def split_batch(batch: _Batch, parts: int) -> Iterator[_Batch]:
    """The batch in so many parts of nearly equal size."""
    for tensors in zip(*(tensor.tensor_split(parts) for tensor in batch), strict=True):
        yield type(batch)(*tensors)


def move_batch(batch: _Batch, device: torch.device) -> _Batch:
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))
