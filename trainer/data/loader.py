"""Rows > batches, epoch by epoch: the order of rows, each rank's share, and the processes that load them."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ...pipeline.errors import LocLocError
from .batches import Batch
from .datasets import NO_AUGMENTATION, Sample


def derive_seed(*numbers: int) -> int:
    """32 bits that depend on the numbers alone, and are evenly distributed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


class EpochSampler(Sampler[list[Sample]]):
    """The steps of an epoch, each a list of samples: every row exactly once, in an order of the seed and the epoch.

    Each rank gets its share of every step; steps of which it has nothing are left out (validation only). A last batch
    of fewer than two rows a rank joins the one before it: nothing is dropped, and batch norm has something to take a
    mean of.

    seed         None: rows in their order, without augmentation
    rank, world  this rank, and how many there are
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None, rank: int = 0, world: int = 1):
        self.rows, self.batch_size, self.seed, self.rank, self.world = rows, batch_size, seed, rank, world
        self.epoch, self.skip = 0, 0

    def steps(self, epoch: int) -> list[np.ndarray]:
        """Rows of each step, over all ranks."""
        rows = self.rows if self.seed is None else np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        steps = np.split(rows, range(self.batch_size, len(rows), self.batch_size))
        if len(steps) > 1 and len(steps[-1]) < 2 * self.world:
            steps[-2:] = [np.concatenate(steps[-2:])]
        return steps

    def __len__(self) -> int:
        return len(self.steps(0))

    def __iter__(self) -> Iterator[list[Sample]]:
        return (share for share in self.shares() if share)

    def shares(self) -> Iterator[list[Sample]]:
        """This rank's share of each step that is left of the epoch, maybe empty."""
        for rows in self.steps(self.epoch)[self.skip :]:
            yield [(row, self._seed_of(row)) for row in rows[self.rank :: self.world].tolist()]

    def _seed_of(self, row: int) -> int:
        return NO_AUGMENTATION if self.seed is None else derive_seed(self.seed, self.epoch, row)


class EpochLoader:
    """A data set's batches by the steps of a sampler.

    workers  processes that load; 0: this one
    pin      whether tensors lie in pinned memory, for a GPU
    """

    def __init__(self, dataset: Dataset[Batch], sampler: EpochSampler, workers: int, pin: bool = False):
        self._sampler = sampler
        processes: dict[str, Any] = (
            {"multiprocessing_context": "forkserver", "persistent_workers": True} if workers else {}
        )
        self._loader = DataLoader(
            _ErrorsAsValues(dataset),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_stack,
            worker_init_fn=_begin_worker,
            pin_memory=pin,
            **processes,
        )

    def __len__(self) -> int:
        """Steps an epoch."""
        return len(self._sampler)

    @property
    def rows(self) -> np.ndarray:
        """`(n,) int64`: the rows of an epoch, over all ranks."""
        return self._sampler.rows

    def epoch(self, epoch: int = 0, skip: int = 0) -> Iterator[Batch | LocLocError]:
        """This rank's batches of an epoch without its first `skip` steps. Yields an error instead of its batch."""
        self._sampler.epoch, self._sampler.skip = epoch, skip
        return iter(self._loader)


class _ErrorsAsValues(Dataset[Any]):
    """Returns LocLocErrors: raised in a loading process, one would arrive with that process's traceback."""

    def __init__(self, dataset: Dataset[Batch]):
        self.dataset = dataset

    def __getitem__(self, sample: Sample) -> Any:
        try:
            return self.dataset[sample]
        except LocLocError as error:
            return error


def _stack(samples: list[Any]) -> Any:
    error = next((sample for sample in samples if isinstance(sample, LocLocError)), None)
    return error if error is not None else torch.utils.data.default_collate(samples)


def _begin_worker(_: int) -> None:
    cv2.setNumThreads(0)
