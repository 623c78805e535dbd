"""The two tasks of a block of 64 images: bytes > attention, then attention > trimap > mask > store.

They are two because they need different machines: `attend` (decode, ViT) runs on GPU workers where there are any,
`refine_and_write` on CPU workers, or on GPU workers for an engine that refines batches there. This module imports no
dask: coordinator.py submits these functions.

Shapes: n rows of a block, H heads, h x w token grid, S side of a mask.

A mask depends on its recipe and its image alone. On the CPU images go through the ViT one by one, since the last bits
of a matrix product change with the size of the batch (docs/decisions/0003). Masks are made from the attention as it is
stored, in float16.
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..catalogs.paths import resolve
from ..errors import ImageError, UnreachableError
from ..geometry.boxes import largest_box
from ..io.images import MissingImageError, decode_reduced, read_image_bytes
from ..io.timing import timed
from ..masks.grabcut import refines_on_gpu
from ..masks.pseudo_mask import PseudoMask, make_mask, make_masks, rate_mask, working_geometry
from ..masks.quality import PARTS
from ..masks.saliency import GENERATOR_SCALE
from ..status import HAS_MASK, Status
from ..store.reader import Version
from ..store.schema import COLUMNS, STATS, content_crc, input_digest, pack_masks, write_block
from .block import AttentionBatch, Block, BlockResult, TaskContext
from .watchdog import watchdog

if TYPE_CHECKING:
    import torch
    from icechunk import ForkSession

    from ..backbones.vit import Backbone

CUDA_BATCH = 32  # half a block: the device computes one half while threads decode the other


def attend(block: Block, context: TaskContext) -> AttentionBatch:
    """Decodes and resizes the images of a block, and computes their CLS attention. A bad image becomes a status."""
    if context.reuse == "attention":
        return _parent_attention(block, context)
    from ..backbones.vit import load_backbone  # torch: not above, since schedulers import this module to unpickle tasks

    assert context.backbone is not None
    backbone = load_backbone(context.backbone, context.device)
    maps_of = _maps_of(backbone, context)
    batch = _empty_batch(block, context, (context.map_count(backbone.heads), *backbone.grid))
    inputs = np.zeros((len(block), backbone.size_px, backbone.size_px, 3), np.uint8)
    batch_size = CUDA_BATCH if backbone.device.type == "cuda" else 1
    attentions: list[tuple[list[int], torch.Tensor]] = []
    waiting: list[int] = []
    rows = np.flatnonzero(block.new).tolist()
    with watchdog(context.image_limit_s) as feed:

        def decode(row: int, seconds: Counter[str]) -> None:
            _decode_row(row, block, context, batch, inputs[row], seconds)

        for row in _in_order(decode, rows, context, batch):
            feed()
            if batch.status[row] == Status.OK:
                waiting.append(row)
            if len(waiting) == batch_size or (waiting and row == rows[-1]):
                with timed(batch.seconds, "vit"):
                    attentions.append((waiting, maps_of(inputs[waiting]).half()))
                waiting = []
        with timed(batch.seconds, "vit"):  # CUDA runs the forward passes asynchronously: wait for their results
            for decoded, attention in attentions:
                feed()
                batch.attention[decoded] = attention.cpu().numpy()
    for row in np.flatnonzero(~np.isfinite(batch.attention).all((1, 2, 3))).tolist():
        batch.attention[row] = 0
        batch.fail(row, Status.NON_FINITE, "the backbone's attention is not finite")
    return batch


def _maps_of(backbone: "Backbone", context: TaskContext) -> "Callable[[np.ndarray], torch.Tensor]":
    """The function that gives images `(B, S, S, 3) uint8` their maps `(B, M, h, w) float32`."""
    if context.maps is None:
        settings = context.recipe.backbone
        return backbone.attention_and_contrast if settings.contrast_maps else backbone.cls_attention
    import torch
    from torch.nn import functional as F

    draw = context.maps.load(context.device)

    def with_drawn(rgb: np.ndarray) -> torch.Tensor:
        maps, features = backbone.maps_and_features(rgb)
        drawn = F.pixel_unshuffle(draw(features)[:, None], GENERATOR_SCALE)  # as `pack_map`
        return torch.cat([maps, drawn], dim=1)

    return with_drawn


def _parent_attention(block: Block, context: TaskContext) -> AttentionBatch:
    """The attention of the parent's rows, and the images where the engine uses their pixels."""
    parent, rows = context.parent, block.parent_rows
    assert parent is not None and rows is not None
    attention = parent.read_attention(rows)
    batch = _empty_batch(block, context, attention.shape[1:])
    batch.attention[:] = attention
    batch.size[:] = parent.read_column("size", rows)
    batch.orientation[:] = parent.read_column("orientation", rows)
    batch.digest[:] = parent.read_column("input_digest", rows)
    for row, (status, error) in enumerate(parent.reasons(rows)):
        if status not in HAS_MASK:
            batch.fail(row, status, error or "")
    readable = np.flatnonzero(batch.status == Status.OK).tolist() if context.recipe.refine.uses_pixels else []
    with watchdog(context.image_limit_s) as feed:

        def decode(row: int, seconds: Counter[str]) -> None:
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
        np.zeros(rows, np.uint8),
        np.zeros((rows, 16), np.uint8),
        np.full(rows, Status.OK, np.uint8),
    )


def _in_order(
    decode: Callable[[int, Counter[str]], None], rows: list[int], context: TaskContext, batch: AttentionBatch
) -> Iterator[int]:
    """Calls `decode(row, seconds)` for each row, and yields the rows in order. Threads, if any, decode ahead."""

    def decoded(row: int) -> tuple[int, Counter[str]]:
        seconds: Counter[str] = Counter()  # one a row: additions of several threads to one Counter would be lost
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
    seconds: Counter[str],
) -> None:
    """Reads one image into its row of `batch` and, resized, into `backbone_input` `(size_px, size_px, 3) uint8`."""
    try:
        with timed(seconds, "decode"):
            data = read_image_bytes(resolve(context.root, block.paths[row]))
            batch.digest[row] = input_digest(data)
            image = decode_reduced(data, context.recipe.covers_px, context.recipe.images.max_pixels)
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
        batch.size[row], batch.orientation[row] = image.size_px, image.orientation

        def square(side_px: int) -> np.ndarray:
            geometry = working_geometry(batch.size[row], context.recipe, side_px)
            return geometry.image(image.rgb, shown=image.window)

        if backbone_input is not None:
            backbone_input[:] = square(len(backbone_input))
        batch.images[row] = square(context.recipe.mask_px)


def refine(batch: AttentionBatch, context: TaskContext) -> tuple[np.ndarray, BlockResult]:
    """The masks of a block, packed `(n, S, S // 8) uint8`, and its columns. Does not change `batch`."""
    block, recipe = batch.block, context.recipe
    batch = replace(batch, status=batch.status.copy(), errors=dict(batch.errors), seconds=Counter(batch.seconds))
    masks = np.zeros((len(block), recipe.mask_px, recipe.mask_px), bool)
    boxes = np.zeros((len(block), 4), np.float32)
    stats = np.zeros((len(block), len(STATS)), np.float32)
    quality, parts = np.zeros(len(block), np.float32), np.zeros((len(block), len(PARTS)), np.float32)
    rows = (batch.status == Status.OK) & (block.new | (context.reuse == "attention"))
    with watchdog(context.image_limit_s) as feed:
        for row, pseudo_mask in _make_pseudo_masks(np.flatnonzero(rows).tolist(), batch, context, feed):
            masks[row], stats[row] = pseudo_mask.mask, pseudo_mask.stats
            with timed(batch.seconds, "quality"):
                quality[row], parts[row] = rate_mask(pseudo_mask, batch.attention[row], batch.images[row], recipe)
            if pseudo_mask.reason:
                batch.fail(row, Status.FALLBACK, pseudo_mask.reason)
            if pseudo_mask.mask.any():
                geometry = working_geometry(batch.size[row], recipe, recipe.mask_px)
                boxes[row] = geometry.boxes_back(largest_box(pseudo_mask.mask))
    packed = pack_masks(masks)
    columns = {
        "box": boxes,
        "stats": stats,
        "quality": quality,
        "quality_parts": parts,
        "seen": _parent_seen(block, context),
        "status": batch.status,
        "size": batch.size,
        "orientation": batch.orientation,
        "input_digest": batch.digest,
        "content_crc": content_crc(packed, batch.attention),
    }
    result = BlockResult(block.index, columns, batch.errors, batch.seconds)
    if context.reuse == "rows":
        assert context.parent is not None
        _copy_parent_rows(block, context.parent, packed, batch.attention, result)
    return packed, result


def _parent_seen(block: Block, context: TaskContext) -> np.ndarray:
    """The column `seen`: the parent's where its attention is used; else zeros, which the coordinator replaces."""
    if context.reuse != "attention":
        return np.zeros(len(block), np.uint8)
    assert context.parent is not None and block.parent_rows is not None
    return context.parent.read_column("seen", block.parent_rows)


def _make_pseudo_masks(
    rows: list[int], batch: AttentionBatch, context: TaskContext, feed: Callable[[], None]
) -> Iterator[tuple[int, PseudoMask]]:
    """Yields each row with its mask: one by one, or in batches of CUDA_BATCH where the engine runs on the device."""
    recipe, ids, seconds = context.recipe, batch.block.ids, batch.seconds
    if context.device == "cpu" or not refines_on_gpu(recipe.refine):
        for row in rows:
            feed()
            yield row, make_mask(batch.attention[row], batch.images[row], recipe, ids[row], seconds)
        return
    for start in range(0, len(rows), CUDA_BATCH):
        feed()
        part = rows[start : start + CUDA_BATCH]
        part_ids = [ids[row] for row in part]
        yield from zip(
            part,
            make_masks(batch.attention[part], batch.images[part], recipe, part_ids, context.device, seconds),
            strict=True,
        )


def _copy_parent_rows(
    block: Block, parent: Version, packed: np.ndarray, attention: np.ndarray, result: BlockResult
) -> None:
    """Copies the rows of the block that have a parent row."""
    rows = np.flatnonzero(~block.new)
    if block.parent_rows is None or not len(rows):
        return
    parent_rows = block.parent_rows[rows]
    with timed(result.seconds, "take over"):
        packed[rows] = parent.read_column("mask", parent_rows)
        attention[rows] = parent.read_attention(parent_rows)
        for name in COLUMNS:
            result.columns[name][rows] = parent.read_column(name, parent_rows)
        for row, (_, error) in zip(rows.tolist(), parent.reasons(parent_rows), strict=True):
            if error:
                result.errors[row] = error


def refine_and_write(
    batch: AttentionBatch, context: TaskContext, fork: "ForkSession"
) -> tuple["ForkSession", BlockResult]:
    """The second task: makes the masks, and writes them and the attention through `fork`.

    Returns the fork only on success: after an error, merging it would add the chunks it had written.
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
    """Writes a block through a fork, without attention that the version shares with its parent."""
    with timed(result.seconds, "write"):
        shared = context.reuse == "attention"
        write_block(fork.store, block.start, packed, None if shared else attention, result.errors)
