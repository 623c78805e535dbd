"""One block of pictures, from top to bottom: bytes > attention > trimap > mask > store.

Two tasks, because they want different machines: `attend` (decode, ViT) runs where a GPU is, `refine` (GrabCut, write)
on CPUs, or where a GPU is too if its engine takes pictures together. No dask in here: run.py sends these functions to
workers.

Shapes: n rows of a block, H heads, h x w token grid, S side of a mask.

A mask depends on its recipe and its picture alone: on the CPU every picture goes through the ViT by itself, since a
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
from typing import Literal

import numpy as np

from ..backbones.spec import BackboneSpec
from ..geometry.boxes import largest_box
from ..catalogs.paths import resolve
from .watchdog import killed_unless_fed
from ..errors import ImageError, UnreachableError
from ..io.images import MissingImageError, decode_reduced, read_image_bytes
from ..masks.pseudo_mask import MadeMask, make_mask, make_masks, timed, working_geometry
from ..recipe import Recipe
from ..masks.grabcut import refines_on_gpu
from ..status import DONE, Status
from ..store.schema import COLUMNS, STATS, content_crc, input_digest, pack_masks, write_block
from ..store.reader import Version

CUDA_BATCH = 32  # half a block: the device works on one half while threads decode the other


@dataclass(frozen=True)
class Job:
    """What every block of a build has in common.

    Rows with a row of `parent` in `Block.kept` take that row over: `reuse` is "rows" (all of it, as it is) or
    "attention" (the mask is made again, with this recipe).
    """

    root: Path | str
    recipe: Recipe
    backbone: BackboneSpec | None  # None where no attention has to be computed
    device: str = "cpu"
    decode_threads: int = 1
    image_limit_s: float | None = None  # a picture that takes longer kills the process
    parent: Version | None = None
    reuse: Literal["rows", "attention"] | None = None


@dataclass(frozen=True)
class Block:
    """Rows `start` to `start + len(ids)` of the catalog."""

    index: int
    start: int
    ids: list[str]
    paths: list[str]
    kept: np.ndarray | None = None  # (n,) int64: rows of the job's parent to take over, -1 for none

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, number: int) -> "Block":
        """One row of it, as a block of its own."""
        part = slice(number, number + 1)
        kept = None if self.kept is None else self.kept[part]
        return Block(self.index, self.start + number, self.ids[part], self.paths[part], kept)

    @property
    def todo(self) -> np.ndarray:
        """`(n,) bool`: rows that nothing is known of yet."""
        return np.ones(len(self), bool) if self.kept is None else self.kept < 0


@dataclass
class Attended:
    """What `attend` found; rows that failed are zero everywhere but in `status` and `errors`."""

    block: Block
    attention: np.ndarray  # (n, H, h, w) float16
    pictures: np.ndarray  # (n, S, S, 3) uint8, so that nothing is decoded twice
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


def attend(block: Block, job: Job) -> Attended:
    """Decodes and resizes the block's pictures, and takes their CLS attention. A bad picture becomes a status."""
    if job.reuse == "attention":
        return _attend_again(block, job)
    from ..backbones.vit import load_backbone  # torch: not above, since schedulers import this module to unpickle its tasks

    backbone = load_backbone(job.backbone, job.device)
    found = _nothing_yet(block, job, (backbone.heads, *backbone.grid))
    inputs = np.zeros((len(block), backbone.size_px, backbone.size_px, 3), np.uint8)
    batch = CUDA_BATCH if backbone.device.type == "cuda" else 1
    attentions, waiting = [], []
    rows = np.flatnonzero(block.todo).tolist()
    with killed_unless_fed(job.image_limit_s) as feed:

        def one(row: int, seconds: Counter) -> None:
            _decode_row(row, block, job, found, inputs[row], seconds)

        for row in _in_order(one, rows, job, found):
            feed()
            if found.status[row] == Status.OK:
                waiting.append(row)
            if len(waiting) == batch or (waiting and row == rows[-1]):
                with timed(found.seconds, "vit"):
                    attentions.append((waiting, backbone.cls_attention(inputs[waiting]).half()))
                waiting = []
        with timed(found.seconds, "vit"):  # on CUDA the forward passes above were only queued
            for members, attention in attentions:
                feed()
                found.attention[members] = attention.cpu().numpy()
    for row in np.flatnonzero(~np.isfinite(found.attention).all((1, 2, 3))):
        found.attention[row] = 0
        found.fail(row, Status.NON_FINITE, "the backbone's attention is not finite")
    return found


def _attend_again(block: Block, job: Job) -> Attended:
    """The parent's attention instead of the ViT's, and the pictures, if the engine looks at them."""
    attention = job.parent.read_attention(block.kept)
    found = _nothing_yet(block, job, attention.shape[1:])
    found.attention[:] = attention
    found.size[:] = job.parent.read_column("size", block.kept)
    found.digest[:] = job.parent.read_column("input_digest", block.kept)
    for row, (status, error) in enumerate(job.parent.reasons(block.kept)):
        if status not in DONE:
            found.fail(row, status, error)
    rows = np.flatnonzero(found.status == Status.OK).tolist() if job.recipe.refine.uses_pixels else []
    with killed_unless_fed(job.image_limit_s) as feed:

        def one(row: int, seconds: Counter) -> None:
            before = found.digest[row].copy()
            _decode_row(row, block, job, found, None, seconds)
            if found.status[row] == Status.OK and not np.array_equal(before, found.digest[row]):
                found.fail(row, Status.MISSING, "the file was changed since its attention was taken")

        for _ in _in_order(one, rows, job, found):
            feed()
    return found


def _nothing_yet(block: Block, job: Job, attention: tuple[int, ...]) -> Attended:
    rows, mask_px = len(block), job.recipe.mask_px
    return Attended(
        block,
        np.zeros((rows, *attention), np.float16),
        np.zeros((rows, mask_px, mask_px, 3), np.uint8),
        np.zeros((rows, 2), np.int32),
        np.zeros((rows, 16), np.uint8),
        np.full(rows, Status.OK, np.uint8),
    )


def _in_order(one: Callable[[int, Counter], None], rows: list[int], job: Job, found: Attended) -> Iterator[int]:
    """Calls `one(row, seconds)` for each row, and says which row is done. Threads run ahead where there are some."""

    def timed_apart(row: int) -> tuple[int, Counter]:
        seconds = Counter()  # of its own, since threads would lose each other's additions
        one(row, seconds)
        return row, seconds

    with ThreadPoolExecutor(job.decode_threads) if job.decode_threads > 1 else nullcontext() as threads:
        for row, seconds in (threads.map if threads else map)(timed_apart, rows):
            found.seconds.update(seconds)
            yield row


def _decode_row(
    row: int, block: Block, job: Job, found: Attended, backbone_input: np.ndarray | None, seconds: Counter
) -> None:
    images = job.recipe.images
    try:
        with timed(seconds, "decode"):
            data = read_image_bytes(resolve(job.root, block.paths[row]))
            found.digest[row] = input_digest(data)
            picture = decode_reduced(data, job.recipe.covers_px, images.max_pixels)
            del data
    except MissingImageError as error:
        if isinstance(job.root, Path) and not job.root.is_dir():
            raise UnreachableError(f"{job.root} is no folder on {socket.gethostname()}; mount it there") from None
        found.fail(row, Status.MISSING, str(error))
        return
    except ImageError as error:
        found.fail(row, Status.UNDECODABLE, str(error))
        return
    with timed(seconds, "resize"):
        found.size[row] = picture.size_px

        def square(side_px: int) -> np.ndarray:
            geometry = working_geometry(found.size[row], job.recipe, side_px)
            return geometry.image(picture.rgb, shown=picture.window)

        if backbone_input is not None:
            backbone_input[:] = square(len(backbone_input))
        found.pictures[row] = square(job.recipe.mask_px)


def refine(attended: Attended, job: Job) -> tuple[np.ndarray, BlockResult]:
    """Masks of the block, packed `(n, S, S // 8) uint8`, and their columns. Leaves `attended.status` as it was."""
    block, recipe = attended.block, job.recipe
    attended = replace(
        attended, status=attended.status.copy(), errors=dict(attended.errors), seconds=Counter(attended.seconds)
    )
    masks = np.zeros((len(block), recipe.mask_px, recipe.mask_px), bool)
    boxes = np.zeros((len(block), 4), np.float32)
    stats = np.zeros((len(block), len(STATS)), np.float32)
    rows = (attended.status == Status.OK) & (block.todo | (job.reuse == "attention"))
    with killed_unless_fed(job.image_limit_s) as feed:
        for row, made in _made(np.flatnonzero(rows), attended, job, feed):
            masks[row], stats[row] = made.mask, made.stats
            if made.reason:
                attended.fail(row, Status.FALLBACK, made.reason)
            if made.mask.any():
                geometry = working_geometry(attended.size[row], recipe, recipe.mask_px)
                boxes[row] = geometry.boxes_back(largest_box(made.mask))
    packed = pack_masks(masks)
    columns = {
        "box": boxes,
        "stats": stats,
        "status": attended.status,
        "size": attended.size,
        "input_digest": attended.digest,
        "content_crc": content_crc(packed, attended.attention),
    }
    result = BlockResult(block.index, columns, attended.errors, attended.seconds)
    if job.reuse == "rows":
        _take_over(block, job.parent, packed, attended.attention, result)
    return packed, result


def _made(rows: np.ndarray, attended: Attended, job: Job, feed: Callable[[], None]) -> Iterator[tuple[int, MadeMask]]:
    """Each row with its mask: one after the other, or CUDA_BATCH together where engine and device allow it."""
    recipe, ids, seconds = job.recipe, attended.block.ids, attended.seconds
    if job.device == "cpu" or not refines_on_gpu(recipe.refine):
        for row in rows:
            feed()
            yield row, make_mask(attended.attention[row], attended.pictures[row], recipe, ids[row], seconds)
        return
    for start in range(0, len(rows), CUDA_BATCH):
        feed()
        here = rows[start : start + CUDA_BATCH]
        some = [ids[row] for row in here]
        yield from zip(
            here,
            make_masks(attended.attention[here], attended.pictures[here], recipe, some, job.device, seconds),
            strict=True,
        )


def _take_over(block: Block, parent: Version, packed: np.ndarray, attention: np.ndarray, result: BlockResult) -> None:
    """Fills in, as they are, the rows of the block that are rows of the parent."""
    here = np.flatnonzero(~block.todo)
    if not len(here):
        return
    there = block.kept[here]
    with timed(result.seconds, "take over"):
        packed[here] = parent.read_column("mask", there)
        attention[here] = parent.read_attention(there)
        for name in COLUMNS:
            result.columns[name][here] = parent.read_column(name, there)
        for row, (_, error) in zip(here.tolist(), parent.reasons(there), strict=True):
            if error:
                result.errors[row] = error


def refine_and_write(attended: Attended, job: Job, fork):
    """The task: refines, writes masks and attention through `fork` (an Icechunk ForkSession), and hands it back.

    The fork comes back only on success: one that failed half way would still merge the chunks that it wrote.
    """
    packed, result = refine(attended, job)
    write(attended.block, job, packed, attended.attention, result, fork)
    return fork, result


def write(block: Block, job: Job, packed: np.ndarray, attention: np.ndarray, result: BlockResult, fork) -> None:
    """Through a fork; attention that is the parent's is there already."""
    with timed(result.seconds, "write"):
        kept = job.reuse == "attention"
        write_block(fork.store, block.start, packed, None if kept else attention, result.errors)
