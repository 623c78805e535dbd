"""Images and masks of a version as a PyTorch data set, for training code outside of locloc."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from ...pipeline.catalogs.paths import parse_location
from ...pipeline.catalogs.split_words import SPLITS
from ...pipeline.errors import TrainError, check_known
from ...pipeline.geometry.boxes import largest_box
from ...pipeline.recipe import Recipe
from ...pipeline.status import usable_rows
from ...pipeline.store import Version, open_version
from .loader import worker_options
from .version_images import VersionImages

Transform = Callable[[Any, dict[str, Any]], Any]


class MaskDataset(Dataset[Any]):
    """`(image, target)` of each row with a mask that is not rejected, both on the square of the masks, S x S pixels.

        image   tv_tensors.Image (3, S, S) uint8
        target  mask   tv_tensors.Mask (S, S) bool
                boxes  tv_tensors.BoundingBoxes (1, 4) float32 xyxy, zeros for an empty mask
                label  int, -1 for none
                id     str
                row    int, of the version

    `loader` gives batches of them. With a DataLoader of your own that has workers, pass
    `multiprocessing_context="forkserver"`: an open store does not survive a fork.

    transform  called with image and target, as those of torchvision.transforms.v2 are
    split      "train", "val" or "test": only these rows; None: all
    images     where the images are now; None: where they were when the masks were made

    Raises StoreError for a version that is not there, TrainError for a split without masks. Items raise TrainError
    where an image is missing, or another file than its mask was made from.
    """

    def __init__(
        self,
        version: str | Version,
        transform: Transform | None = None,
        *,
        split: str | None = None,
        images: str | None = None,
    ):
        self.version = open_version(version) if isinstance(version, str) else version
        self.transform = transform
        catalog, table = self.version.catalog, self.version.catalog.table
        root = parse_location(images) if images else catalog.root
        self._images = VersionImages(
            root,
            table["id"].combine_chunks(),
            table["path"].combine_chunks(),
            self.version.read_column("input_digest"),
            Recipe.model_validate(self.version.provenance["recipe"]),
        )
        self._labels = table["label"].to_numpy()
        usable = usable_rows(self.version.status)
        if split is not None:
            check_known(TrainError, "split", split, SPLITS[1:])
            usable &= table["split"].to_numpy() == SPLITS.index(split)
        self.rows: np.ndarray = np.flatnonzero(usable)
        """`(n,) int64`: the version's row of each item."""
        if not len(self.rows):
            raise TrainError(f"{self.version.name} has no masks{f' in its split {split!r}' if split else ''}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by label; empty where the catalog has none."""
        return self.version.catalog.classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The items of a batch, whose masks are read together: a DataLoader calls it where it can."""
        rows = self.rows[list(indices)]
        return [self._item(row, mask) for row, mask in zip(rows.tolist(), self.version.read_masks(rows), strict=True)]

    def loader(
        self, batch_size: int = 32, *, workers: int = 0, shuffle: bool = False, **options: Any
    ) -> "DataLoader[Any]":
        """A DataLoader whose batches are `(images, targets)`: images `(B, 3, S, S) uint8`, or what the transform makes.

        targets  mask `(B, S, S) bool`, boxes `(B, 1, 4) float32`, label and row `(B,) int64`, id a list of B texts
        workers  loading processes, started by forkserver; a script that has any needs `if __name__ == "__main__":`
        options  of torch.utils.data.DataLoader
        """
        return DataLoader(self, batch_size, shuffle, num_workers=workers, **(worker_options(workers) | options))

    def _item(self, row: int, mask: np.ndarray) -> Any:
        rgb = self._images.square(row, len(mask))
        box = torch.from_numpy(largest_box(mask)[None])
        target = {
            "mask": tv_tensors.Mask(torch.from_numpy(mask)),
            "boxes": tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=mask.shape),
            "label": int(self._labels[row]),
            "id": self._images.ids[row].as_py(),
            "row": row,
        }
        image = tv_tensors.Image(torch.from_numpy(rgb).permute(2, 0, 1))
        return (image, target) if self.transform is None else self.transform(image, target)

    def __repr__(self) -> str:
        return f"MaskDataset({self.version.name!r}, {len(self)} images, {len(self.classes)} classes)"
