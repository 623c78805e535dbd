"""What the tasks of a build are given and give back: a block of 64 images, its settings, pixels, attention, columns.

Schedulers unpickle these, so this module imports neither torch nor dask.

Shapes: n rows of a block, H maps, h x w token grid, P side of the backbone's input, S side of a mask.
"""

import os
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..backbones.spec import BackboneSpec
from ..masks.grabcut import kernels_of
from ..masks.map_source import MapSource
from ..masks.quality.kernels import KERNELS
from ..recipe import REVISIONS, Recipe
from ..status import Status
from ..store.reader import Version


@dataclass(frozen=True)
class TaskContext:
    """The settings that all blocks of a build share; sent to the workers with every task.

    root            folder or URL of the images
    backbone        None where no task computes attention
    parent          the version that rows with a number in `Block.parent_rows` come from, if any
    reuse           "rows": such rows are copied; "attention": only their attention is, and the mask is made again
    image_limit_s   an image that takes longer kills its process; None: no limit
    maps            the generator whose maps the recipe wants, if it does
    revisions       of the stages: a version that is derived from an older one has that one's pixels
    """

    root: Path | str
    recipe: Recipe
    backbone: BackboneSpec | None
    parent: Version | None = None
    reuse: Literal["rows", "attention"] | None = None
    device: str = "cpu"
    decode_threads: int = 1
    image_limit_s: float | None = None
    maps: MapSource | None = None
    revisions: Mapping[str, int] = field(default_factory=lambda: dict(REVISIONS))

    @property
    def kernels(self) -> tuple[str, ...]:
        """Modules that are imported before the time limit of the first image starts, since that compiles kernels."""
        return kernels_of_recipe(self.recipe)

    @property
    def decodes_on_gpu(self) -> bool:
        """Whether a task leaves images to GPU workers."""
        reads = self.backbone is not None or self.recipe.refine.uses_pixels
        return reads and self.recipe.images.decoder == "nvjpeg"

    def map_count(self, heads: int) -> int:
        """Maps of an image that are kept, for a backbone of so many heads."""
        settings = self.recipe.backbone
        return heads + settings.contrast_maps + settings.generator_maps


def kernels_of_recipe(recipe: Recipe) -> tuple[str, ...]:
    """As `TaskContext.kernels`."""
    return tuple(dict.fromkeys((*kernels_of(recipe.refine), *KERNELS)))


@dataclass(frozen=True)
class Block:
    """Rows `start` to `start + len(ids) - 1` of the catalog."""

    index: int
    start: int
    ids: list[str]
    paths: list[str]
    parent_rows: np.ndarray | None = None  # (n,) int64: rows of the parent version, -1 for none

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, row: int) -> "Block":
        """A block of one row of this one."""
        part = slice(row, row + 1)
        parent_rows = None if self.parent_rows is None else self.parent_rows[part]
        return Block(self.index, self.start + row, self.ids[part], self.paths[part], parent_rows)

    @property
    def new(self) -> np.ndarray:
        """`(n,) bool`: rows without a parent row."""
        return np.ones(len(self), bool) if self.parent_rows is None else self.parent_rows < 0


@dataclass(kw_only=True)
class _Rows:
    """The rows of a block, of which some may fail, and what is known of their images."""

    block: Block
    images: np.ndarray  # (n, S, S, 3) uint8, for `refine`
    size: np.ndarray  # (n, 2) int32, width and height in pixels
    orientation: np.ndarray  # (n,) uint8, EXIF's
    digest: np.ndarray  # (n, 16) uint8, blake2b of the file
    status: np.ndarray  # (n,) uint8
    errors: dict[int, str] = field(default_factory=dict)  # by row of the block
    seconds: Counter[str] = field(default_factory=Counter)  # by stage

    def fail(self, row: int, status: Status, reason: str) -> None:
        self.status[row] = status
        self.errors[row] = reason


@dataclass(kw_only=True)
class DecodedBatch(_Rows):
    """The result of `decode`. Rows that failed, and those of `jpegs`, are zero in all arrays of pixels."""

    inputs: np.ndarray  # (n, P, P, 3) uint8, for the backbone; no rows where no attention is computed
    attention: np.ndarray | None = None  # (n, H, h, w) float16, of the parent where it is used
    jpegs: dict[int, bytes] = field(default_factory=dict)  # by row: files that a GPU worker is to decode

    def copy(self) -> "DecodedBatch":
        """With pixels and statuses of its own."""
        arrays = {name: getattr(self, name).copy() for name in ("inputs", "images", "size", "orientation", "status")}
        return replace(self, **arrays, errors=dict(self.errors))


@dataclass
class Attended:
    """What a device computes of a DecodedBatch: small beside its images, which stay where they were decoded."""

    attention: np.ndarray  # (n, H, h, w) float16: heads, and the contrast map if the recipe keeps it
    not_finite: list[int]  # rows whose attention is not finite; it is zero here
    cuts: np.ndarray  # (n, S, S) bool, of an engine that cuts batches; no rows for other engines
    is_cut: np.ndarray  # (n,) bool: rows of `cuts` that are masks
    seconds: Counter[str]  # by stage
    decoded: DecodedBatch | None = None  # the batch with the files that were decoded there, if any; without `inputs`


@dataclass(kw_only=True)
class AttentionBatch(_Rows):
    """The result of `attend`: a block that only has to be refined. Rows that failed are zero in all but `status`."""

    attention: np.ndarray  # (n, H, h, w) float16, as in Attended
    cuts: np.ndarray  # (n, S, S) bool, as in Attended
    is_cut: np.ndarray  # (n,) bool

    @classmethod
    def of(cls, decoded: DecodedBatch, attended: Attended) -> "AttentionBatch":
        """Joins the two. Changes neither: Dask may compute with them again."""
        decoded = attended.decoded or decoded
        batch = cls(
            block=decoded.block,
            images=decoded.images,
            size=decoded.size,
            orientation=decoded.orientation,
            digest=decoded.digest,
            status=decoded.status.copy(),
            errors=dict(decoded.errors),
            seconds=decoded.seconds + attended.seconds,
            attention=attended.attention,
            cuts=attended.cuts,
            is_cut=attended.is_cut,
        )
        for row in attended.not_finite:
            batch.fail(row, Status.NON_FINITE, "the backbone's attention is not finite")
        return batch


@dataclass
class BlockResult:
    """The small columns of a block, for the coordinator to write; masks and attention are in its fork of the store."""

    index: int
    columns: dict[str, np.ndarray]
    errors: dict[int, str]  # by row of the block
    seconds: Counter[str]  # by stage
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
