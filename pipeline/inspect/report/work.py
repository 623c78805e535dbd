"""The work on one block of the page, which a process of the pool does: thumbnails and drawings of 64 rows, to files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...io.clean_processes import end_with_parent
from ...recipe import Recipe, recorded_recipe
from ...store.reader import Version
from ...store.schema import pack_masks
from ..diff import enlarge, packed_mask_iou
from .block import MaskBlock, TruthOf, read_mask_block
from .escape import script_call
from .thumbnail import GRID, make_thumbnail

TILES = "tiles"
BLOCKS = "blocks"


@dataclass(frozen=True)
class PageJob:
    """What is the same for all blocks."""

    version: Version
    other: Version | None
    root: Path | str  # of the images
    out: Path
    tile_px: int


@dataclass(frozen=True)
class BlockJob:
    """Rows of one block of the page."""

    number: int
    rows: np.ndarray  # (n,) of `version`
    other_rows: np.ndarray | None  # (n,) of `other`
    paths: list[str]
    truth: dict[int, TruthOf]  # by row of the block


@dataclass(frozen=True)
class BlockDone:
    """What the page's columns need of a block of n rows."""

    number: int
    size: np.ndarray  # (n, 2) int32; zeros where it is not known
    has_tile: np.ndarray  # (n,) bool
    colours: np.ndarray  # (n, GRID, GRID, 3) float32
    shapes: np.ndarray  # (n, 8, 8) float32
    iou: np.ndarray | None  # (n,) float32 between the two versions' masks; NaN where one has none
    notes: dict[int, str]  # by row of the block: why there is no image, or that it has changed
    bytes: int


def tile_name(row: int) -> str:
    """Path of a row's thumbnail below the page's folder; the page computes the same."""
    return f"{TILES}/{row // 100:04}/{row % 100:02}.webp"


def block_name(block: int) -> str:
    return f"{BLOCKS}/{block:05}.js"


class StoppedError(Exception):
    """The page is not wanted any more."""


def make_block(job: PageJob, block: BlockJob, first: int, stopped: Callable[[], bool] = lambda: False) -> BlockDone:
    """Writes thumbnails and drawings of a block. first: number of its first row on the page.

    Raises StoppedError between two images once `stopped` returns True, FileNotFoundError if the page's folder has gone.
    """
    recipe = _recipe(job.version)
    digests = job.version.read_column("input_digest", block.rows)
    count = len(block.rows)
    size, has_tile = np.zeros((count, 2), np.int32), np.zeros(count, bool)
    colours = np.zeros((count, GRID, GRID, 3), np.float32)
    notes, written = {}, 0
    for n, path in enumerate(block.paths):
        if stopped():
            raise StoppedError
        thumbnail = make_thumbnail(job.root, path, job.tile_px, recipe.images.max_pixels, digests[n])
        size[n], colours[n] = thumbnail.size_px, thumbnail.colours
        if thumbnail.note:
            notes[n] = thumbnail.note
        if thumbnail.webp is not None:
            file = job.out / tile_name(first + n)
            _make_folder(file.parent, job.out)
            file.write_bytes(thumbnail.webp)
            has_tile[n], written = True, written + len(thumbnail.webp)
    mine = read_mask_block(job.version, recipe, block.rows, np.maximum(size, 1))
    versions, iou = [mine.rows], None
    if job.other is not None and block.other_rows is not None:
        theirs = read_mask_block(job.other, _recipe(job.other), block.other_rows, np.maximum(size, 1))
        versions.append(theirs.rows)
        iou = _iou(mine, theirs, recipe.images.fit == _recipe(job.other).images.fit)
    truth = {str(n): {"o": one.path, "b": one.boxes} for n, one in block.truth.items()}
    text = script_call("onBlock", block.number, versions, truth).encode()
    file = job.out / block_name(block.number)
    _make_folder(file.parent, job.out)
    file.write_bytes(text)
    return BlockDone(block.number, size, has_tile, colours, mine.shapes, iou, notes, written + len(text))


def _make_folder(folder: Path, out: Path) -> None:
    """With the folders between it and `out`, but not `out`, which is removed after an interrupt."""
    if folder.parent != out:
        folder.parent.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)


def _iou(one: MaskBlock, other: MaskBlock, comparable: bool) -> np.ndarray:
    if not comparable:
        return np.full(len(one.rows), np.nan, np.float32)
    side = max(one.masks.shape[1], other.masks.shape[1])
    a, b = (enlarge(pack_masks(block.masks), side) for block in (one, other))
    both = one.has_mask & other.has_mask
    return np.where(both, packed_mask_iou(a, b), np.nan).astype(np.float32)


@lru_cache(4)
def _recipe_of(name: str, version: Version) -> Recipe:
    return recorded_recipe(version.provenance, version.name)


def _recipe(version: Version) -> Recipe:
    return _recipe_of(version.name, version)


_job: Any = None
_stop: Any = None


def prepare(job: PageJob, stop: Event) -> None:
    """In each process of the pool, once."""
    import signal

    global _job, _stop
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one ends it
    cv2.setNumThreads(1)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    _job, _stop = job, stop


def make_block_of_pool(block: BlockJob, first: int) -> BlockDone:
    return make_block(_job, block, first, _stop.is_set)
