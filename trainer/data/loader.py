"""Batches of an epoch: the order of rows, the share of each rank, and the loading processes."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ...pipeline.errors import LocLocError
from ...pipeline.io.clean_processes import clean_processes, end_with_parent
from .batches import Batch
from .datasets import NO_AUGMENTATION, Sample


def derive_seed(*numbers: int) -> int:
    """A uniformly distributed 32-bit seed that depends on the numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


class EpochSampler(Sampler[list[Sample]]):
    """The samples of each step of an epoch: every row once, in an order that depends on the seed and the epoch.

    Each rank gets its share of every step; empty shares are skipped (validation only). A last batch of fewer than two
    rows a rank is merged into the one before it, since batch norm needs two values for a variance.

    seed        None: rows in their order, without augmentation
    rank        of this process
    world_size  number of processes
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None, rank: int = 0, world_size: int = 1):
        self.rows, self.batch_size, self.seed, self.rank, self.world_size = rows, batch_size, seed, rank, world_size
        self.epoch, self.skip = 0, 0

    def steps(self, epoch: int) -> list[np.ndarray]:
        """Rows of each step, over all ranks."""
        rows = self.rows if self.seed is None else np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        steps = np.split(rows, range(self.batch_size, len(rows), self.batch_size))
        if len(steps) > 1 and len(steps[-1]) < 2 * self.world_size:
            steps[-2:] = [np.concatenate(steps[-2:])]
        return steps

    def __len__(self) -> int:
        return len(self.steps(0))

    def __iter__(self) -> Iterator[list[Sample]]:
        return (share for share in self.shares() if share)

    def shares(self) -> Iterator[list[Sample]]:
        """This rank's share of each remaining step of the epoch; may be empty."""
        for rows in self.steps(self.epoch)[self.skip :]:
            yield [(row, self._seed_of(row)) for row in rows[self.rank :: self.world_size].tolist()]

    def _seed_of(self, row: int) -> int:
        return NO_AUGMENTATION if self.seed is None else derive_seed(self.seed, self.epoch, row)


class EpochLoader:
    """Loads the batches of a sampler.

    workers  loading processes; 0: load in this one
    pin      pin the memory of tensors, for a GPU
    """

    def __init__(self, dataset: Dataset[Batch], sampler: EpochSampler, workers: int, pin: bool = False):
        self._sampler = sampler
        self._loader = DataLoader(
            _ErrorsAsValues(dataset),
            batch_sampler=sampler,
            collate_fn=_stack,
            pin_memory=pin,
            num_workers=workers,
            **worker_options(workers),
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._sampler)

    @property
    def rows(self) -> np.ndarray:
        """`(n,) int64`: the rows of an epoch, of all ranks."""
        return self._sampler.rows

    def epoch(self, epoch: int = 0, skip: int = 0) -> Iterator[Batch | LocLocError]:
        """Yields this rank's batches of an epoch after its first `skip` steps, or the error of a batch in its place."""
        self._sampler.epoch, self._sampler.skip = epoch, skip
        return iter(self._loader)


class _ErrorsAsValues(Dataset[Any]):
    """Returns LocLocErrors instead of raising them: DataLoader would add the traceback of the loading process."""

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


def worker_options(workers: int) -> dict[str, Any]:
    """What torch.utils.data.DataLoader takes beside `num_workers`; 0: it loads in this process."""
    processes = {"multiprocessing_context": clean_processes(), "persistent_workers": True} if workers else {}
    return {"worker_init_fn": _init_worker, **processes}


def _init_worker(_: int) -> None:
    end_with_parent()
    cv2.setNumThreads(0)
