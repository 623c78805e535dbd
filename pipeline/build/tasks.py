"""The two tasks of a block of 64 images, from top to bottom: bytes > attention > trimap > mask > store.

Two tasks, because they want different machines: `attend` (decode, ViT) runs where a GPU is, `refine_and_write` (cut,
write) on CPUs, or where a GPU is too if the engine cuts batches there. No dask in here: coordinator.py sends these
functions to workers.

Shapes: n rows of a block, H heads, h x w token grid, S side of a mask.

A mask depends on its recipe and its image alone: on the CPU every image goes through the ViT by itself, since a
matrix product's last bits change with the size of the batch (docs/decisions/0003), and masks are made from the
attention as it is stored, in float16.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..backbones.spec import BackboneSpec
from ..catalogs.paths import resolve
from ..errors import ImageError, UnreachableError
from ..geometry.boxes import largest_box
from ..io.images import MissingImageError, decode_reduced, read_image_bytes
from ..io.timing import timed
from ..masks.grabcut import refines_on_gpu
from ..masks.pseudo_mask import PseudoMask, make_mask, make_masks, working_geometry
from ..recipe import Recipe
from ..status import DONE, Status
from ..store.reader import Version
from ..store.schema import COLUMNS, STATS, content_crc, input_digest, pack_masks, write_block
from .watchdog import watchdog

if TYPE_CHECKING:
    from icechunk import ForkSession

CUDA_BATCH = 32  # half a block: the device works on one half while threads decode the other


@dataclass(frozen=True)
class TaskContext:
    """What all blocks of a build are made from, and how; sent to the workers with every task.

    root            folder or URL of the images
    backbone        None where no attention has to be computed
    parent, reuse   rows with a parent row in `Block.parent_rows` take it over: "rows", all of it as it is; "attention",
                    and the mask is made again with this recipe
    image_limit_s   an image that takes longer kills its process; None: no limit
    """

    root: Path | str
    recipe: Recipe
    backbone: BackboneSpec | None
    parent: Version | None = None
    reuse: Literal["rows", "attention"] | None = None
    device: str = "cpu"
    decode_threads: int = 1
    image_limit_s: float | None = None


@dataclass(frozen=True)
class Block:
    """Rows `start` to `start + len(ids)` of the catalog."""

    index: int
    start: int
    ids: list[str]
    paths: list[str]
    parent_rows: np.ndarray | None = None  # (n,) int64: rows of the parent to take over, -1 for none

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, number: int) -> "Block":
        """One row of it, as a block of its own."""
        part = slice(number, number + 1)
        parent_rows = None if self.parent_rows is None else self.parent_rows[part]
        return Block(self.index, self.start + number, self.ids[part], self.paths[part], parent_rows)

    @property
    def new(self) -> np.ndarray:
        """`(n,) bool`: rows without a parent row."""
        return np.ones(len(self), bool) if self.parent_rows is None else self.parent_rows < 0


@dataclass
class AttentionBatch:
    """What `attend` gives. Rows that failed are zero everywhere but in `status` and `errors`."""

    block: Block
    attention: np.ndarray  # (n, H, h, w) float16
    images: np.ndarray  # (n, S, S, 3) uint8, so that nothing is decoded twice
    size: np.ndarray  # (n, 2) int32, width and height in pixels
    digest: np.ndarray  # (n, 16) uint8, blake2b of the file
    status: np.ndarray  # (n,) uint8
    errors: dict[int, str] = field(default_factory=dict)  # by row of the block
    seconds: Counter = field(default_factory=Counter)

    def fail(self, row: int, status: Status, reason: str) -> None:
        self.status[row] = status
        self.errors[row] = reason


@dataclass
class BlockResult:
    """A block that is in the store (through its fork), and its small columns for the coordinator to write."""

    index: int
    columns: dict[str, np.ndarray]
    errors: dict[int, str]
    seconds: Counter
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")


def attend(block: Block, context: TaskContext) -> AttentionBatch:
    """Decodes and resizes the block's images, and takes their CLS attention. A bad image becomes a status."""
    if context.reuse == "attention":
        return _parent_attention(block, context)
    from ..backbones.vit import load_backbone  # torch: not above, since schedulers import this module to unpickle tasks

    backbone = load_backbone(context.backbone, context.device)
    batch = _empty_batch(block, context, (backbone.heads, *backbone.grid))
    inputs = np.zeros((len(block), backbone.size_px, backbone.size_px, 3), np.uint8)
    together = CUDA_BATCH if backbone.device.type == "cuda" else 1
    attentions, waiting = [], []
    rows = np.flatnonzero(block.new).tolist()
    with watchdog(context.image_limit_s) as feed:

        def decode(row: int, seconds: Counter) -> None:
            _decode_row(row, block, context, batch, inputs[row], seconds)

        for row in _in_order(decode, rows, context, batch):
            feed()
            if batch.status[row] == Status.OK:
                waiting.append(row)
            if len(waiting) == together or (waiting and row == rows[-1]):
                with timed(batch.seconds, "vit"):
                    attentions.append((waiting, backbone.cls_attention(inputs[waiting]).half()))
                waiting = []
        with timed(batch.seconds, "vit"):  # on CUDA the forward passes above were only queued
            for members, attention in attentions:
                feed()
                batch.attention[members] = attention.cpu().numpy()
    for row in np.flatnonzero(~np.isfinite(batch.attention).all((1, 2, 3))):
        batch.attention[row] = 0
        batch.fail(row, Status.NON_FINITE, "the backbone's attention is not finite")
    return batch


def _parent_attention(block: Block, context: TaskContext) -> AttentionBatch:
    """The parent's attention instead of the ViT's, and the images, if the engine looks at them."""
    parent, rows = context.parent, block.parent_rows
    attention = parent.read_attention(rows)
    batch = _empty_batch(block, context, attention.shape[1:])
    batch.attention[:] = attention
    batch.size[:] = parent.read_column("size", rows)
    batch.digest[:] = parent.read_column("input_digest", rows)
    for row, (status, error) in enumerate(parent.reasons(rows)):
        if status not in DONE:
            batch.fail(row, status, error)
    readable = np.flatnonzero(batch.status == Status.OK).tolist() if context.recipe.refine.uses_pixels else []
    with watchdog(context.image_limit_s) as feed:

        def decode(row: int, seconds: Counter) -> None:
            before = batch.digest[row].copy()
            _decode_row(row, block, context, batch, None, seconds)
            if batch.status[row] == Status.OK and not np.array_equal(before, batch.digest[row]):
                batch.fail(row, Status.MISSING, "the file was changed since its attention was taken")

        for _ in _in_order(decode, readable, context, batch):
            feed()
    return batch


def _empty_batch(block: Block, context: TaskContext, attention: tuple[int, ...]) -> AttentionBatch:
    rows, mask_px = len(block), context.recipe.mask_px
    return AttentionBatch(
        block,
        np.zeros((rows, *attention), np.float16),
        np.zeros((rows, mask_px, mask_px, 3), np.uint8),
        np.zeros((rows, 2), np.int32),
        np.zeros((rows, 16), np.uint8),
        np.full(rows, Status.OK, np.uint8),
    )


def _in_order(
    decode: Callable[[int, Counter], None], rows: list[int], context: TaskContext, batch: AttentionBatch
) -> Iterator[int]:
    """Calls `decode(row, seconds)` for each row, and yields the row that is done. Threads, if any, run ahead."""

    def decoded(row: int) -> tuple[int, Counter]:
        seconds = Counter()  # of its own, since threads would lose each other's additions
        decode(row, seconds)
        return row, seconds

    with ThreadPoolExecutor(context.decode_threads) if context.decode_threads > 1 else nullcontext() as threads:
        for row, seconds in (threads.map if threads else map)(decoded, rows):
            batch.seconds.update(seconds)
            yield row


def _decode_row(
    row: int,
    block: Block,
    context: TaskContext,
    batch: AttentionBatch,
    backbone_input: np.ndarray | None,
    seconds: Counter,
) -> None:
    settings = context.recipe.images
    try:
        with timed(seconds, "decode"):
            data = read_image_bytes(resolve(context.root, block.paths[row]))
            batch.digest[row] = input_digest(data)
            image = decode_reduced(data, context.recipe.covers_px, settings.max_pixels)
            del data
    except MissingImageError as error:
        if isinstance(context.root, Path) and not context.root.is_dir():
            raise UnreachableError(f"{context.root} is no folder on {socket.gethostname()}; mount it there") from None
        batch.fail(row, Status.MISSING, str(error))
        return
    except ImageError as error:
        batch.fail(row, Status.UNDECODABLE, str(error))
        return
    with timed(seconds, "resize"):
        batch.size[row] = image.size_px

        def square(side_px: int) -> np.ndarray:
            geometry = working_geometry(batch.size[row], context.recipe, side_px)
            return geometry.image(image.rgb, shown=image.window)

        if backbone_input is not None:
            backbone_input[:] = square(len(backbone_input))
        batch.images[row] = square(context.recipe.mask_px)


def refine(batch: AttentionBatch, context: TaskContext) -> tuple[np.ndarray, BlockResult]:
    """Masks of the block, packed `(n, S, S // 8) uint8`, and their columns. Leaves `batch.status` as it was."""
    block, recipe = batch.block, context.recipe
    batch = replace(batch, status=batch.status.copy(), errors=dict(batch.errors), seconds=Counter(batch.seconds))
    masks = np.zeros((len(block), recipe.mask_px, recipe.mask_px), bool)
    boxes = np.zeros((len(block), 4), np.float32)
    stats = np.zeros((len(block), len(STATS)), np.float32)
    rows = (batch.status == Status.OK) & (block.new | (context.reuse == "attention"))
    with watchdog(context.image_limit_s) as feed:
        for row, made in _pseudo_masks(np.flatnonzero(rows), batch, context, feed):
            masks[row], stats[row] = made.mask, made.stats
            if made.reason:
                batch.fail(row, Status.FALLBACK, made.reason)
            if made.mask.any():
                geometry = working_geometry(batch.size[row], recipe, recipe.mask_px)
                boxes[row] = geometry.boxes_back(largest_box(made.mask))
    packed = pack_masks(masks)
    columns = {
        "box": boxes,
        "stats": stats,
        "status": batch.status,
        "size": batch.size,
        "input_digest": batch.digest,
        "content_crc": content_crc(packed, batch.attention),
    }
    result = BlockResult(block.index, columns, batch.errors, batch.seconds)
    if context.reuse == "rows":
        _copy_parent_rows(block, context.parent, packed, batch.attention, result)
    return packed, result


def _pseudo_masks(
    rows: np.ndarray, batch: AttentionBatch, context: TaskContext, feed: Callable[[], None]
) -> Iterator[tuple[int, PseudoMask]]:
    """Each row with its mask: one after the other, or CUDA_BATCH together where engine and device allow it."""
    recipe, ids, seconds = context.recipe, batch.block.ids, batch.seconds
    if context.device == "cpu" or not refines_on_gpu(recipe.refine):
        for row in rows:
            feed()
            yield row, make_mask(batch.attention[row], batch.images[row], recipe, ids[row], seconds)
        return
    for start in range(0, len(rows), CUDA_BATCH):
        feed()
        here = rows[start : start + CUDA_BATCH]
        some = [ids[row] for row in here]
        yield from zip(
            here,
            make_masks(batch.attention[here], batch.images[here], recipe, some, context.device, seconds),
            strict=True,
        )


def _copy_parent_rows(
    block: Block, parent: Version, packed: np.ndarray, attention: np.ndarray, result: BlockResult
) -> None:
    """Copies the rows of the block that have a parent row, as they are."""
    here = np.flatnonzero(~block.new)
    if not len(here):
        return
    there = block.parent_rows[here]
    with timed(result.seconds, "take over"):
        packed[here] = parent.read_column("mask", there)
        attention[here] = parent.read_attention(there)
        for name in COLUMNS:
            result.columns[name][here] = parent.read_column(name, there)
        for row, (_, error) in zip(here.tolist(), parent.reasons(there), strict=True):
            if error:
                result.errors[row] = error


def refine_and_write(
    batch: AttentionBatch, context: TaskContext, fork: "ForkSession"
) -> tuple["ForkSession", BlockResult]:
    """The second task: refines, writes masks and attention through `fork`, and hands it back.

    The fork comes back only on success: one that failed half way would still merge the chunks that it wrote.
    """
    packed, result = refine(batch, context)
    write(batch.block, context, packed, batch.attention, result, fork)
    return fork, result


def write(
    block: Block,
    context: TaskContext,
    packed: np.ndarray,
    attention: np.ndarray,
    result: BlockResult,
    fork: "ForkSession",
) -> None:
    """Writes through a fork; attention that is the parent's is in the store already."""
    with timed(result.seconds, "write"):
        stored = context.reuse == "attention"
        write_block(fork.store, block.start, packed, None if stored else attention, result.errors)
