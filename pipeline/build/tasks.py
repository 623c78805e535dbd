"""The tasks of a block of 64 images: bytes > pixels > attention > trimap > mask > store.

On CPU workers they are two, `attend` (decode, ViT) and `refine_and_write`. Where there are GPU workers they are three,
since they need different machines: `decode` (decode.py) and `join_refine_and_write` on CPU workers, and between them
`attend_decoded` on a GPU worker: the ViT, and the cut of an engine that makes it there. This module imports no dask:
coordinator.py submits these functions.

Shapes: n rows of a block, H heads, h x w token grid, S side of a mask.

A mask depends on its recipe and its image alone. On the CPU images go through the ViT one by one, since the last bits
of a matrix product change with the size of the batch (docs/decisions/0003). Masks are made from the attention as it is
stored, in float16.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..geometry.boxes import largest_box
from ..io.timing import timed
from ..masks.grabcut import refines_on_gpu
from ..masks.pseudo_mask import cut_masks, make_mask, rate_mask, working_geometry
from ..masks.quality import PARTS
from ..masks.saliency import GENERATOR_SCALE
from ..status import Status
from ..store.reader import Version
from ..store.schema import COLUMNS, STATS, content_crc, pack_masks, write_block
from .block import Attended, AttentionBatch, Block, BlockResult, DecodedBatch, TaskContext
from .decode import decode, decode_left
from .watchdog import watchdog

if TYPE_CHECKING:
    import torch
    from icechunk import ForkSession

    from ..backbones.vit import Backbone

CUDA_BATCH = 64  # a block


def attend(block: Block, context: TaskContext) -> AttentionBatch:
    """Decodes and resizes the images of a block, and computes their CLS attention. A bad image becomes a status."""
    decoded = decode(block, context)
    return AttentionBatch.of(decoded, attend_decoded(decoded, context))


def attend_decoded(decoded: DecodedBatch, context: TaskContext) -> Attended:
    """What of a block's work runs on a device: attention, cuts of an engine that makes them there, JPEGs for nvJPEG."""
    seconds: Counter[str] = Counter()
    with watchdog(context.image_limit_s) as feed:
        left, decoded = bool(decoded.jpegs), decode_left(decoded, context, feed, seconds)
        not_finite: list[int] = []
        if (attention := decoded.attention) is None:
            attention, not_finite = _attention_of(decoded, context, feed, seconds)
        rows = np.setdiff1d(np.flatnonzero(_refined_rows(decoded.block, decoded.status, context)), not_finite)
        side = context.recipe.mask_px if refines_on_gpu(context.recipe.refine) else 0
        cuts, is_cut = (
            np.zeros((len(decoded.block) if side else 0, side, side), bool),
            np.zeros(len(decoded.block), bool),
        )
        batch_size = 1 if context.device == "cpu" else CUDA_BATCH
        for start in range(0, len(rows) if side else 0, batch_size):
            feed()
            part = rows[start : start + batch_size]
            images = decoded.images[part]
            cuts[part], is_cut[part] = cut_masks(attention[part], images, context.recipe, context.device, seconds)
    seen = replace(decoded, inputs=decoded.inputs[:0], attention=None) if left else None
    return Attended(attention, not_finite, cuts, is_cut, seconds, seen)


def _attention_of(
    decoded: DecodedBatch, context: TaskContext, feed: Callable[[], None], seconds: Counter[str]
) -> tuple[np.ndarray, list[int]]:
    """Attention `(n, H, h, w) float16` of the images that are decoded, and the rows where it is not finite."""
    from ..backbones.vit import load_backbone

    assert context.backbone is not None
    backbone = load_backbone(context.backbone, context.device)
    maps_of = _maps_of(backbone, context)
    block = decoded.block
    attention = np.zeros((len(block), context.map_count(backbone.heads), *backbone.grid), np.float16)
    rows = np.flatnonzero((decoded.status == Status.OK) & block.new)
    batch_size = CUDA_BATCH if backbone.device.type == "cuda" else 1
    launched: list[tuple[np.ndarray, torch.Tensor]] = []
    with timed(seconds, "vit"):
        for start in range(0, len(rows), batch_size):
            feed()
            part = rows[start : start + batch_size]
            launched.append((part, maps_of(decoded.inputs[part]).half()))
        for part, maps in launched:  # CUDA runs the forward passes asynchronously: wait for their results
            feed()
            attention[part] = maps.cpu().numpy()
    not_finite = np.flatnonzero(~np.isfinite(attention).all((1, 2, 3))).tolist()
    attention[not_finite] = 0
    return attention, not_finite


def _refined_rows(block: Block, status: np.ndarray, context: TaskContext) -> np.ndarray:
    """`(n,) bool`: rows whose masks are made here, not taken over."""
    return (status == Status.OK) & (block.new | (context.reuse == "attention"))


def _maps_of(backbone: "Backbone", context: TaskContext) -> "Callable[[np.ndarray], torch.Tensor]":
    """The function that gives images `(B, S, S, 3) uint8` their maps `(B, M, h, w) float32`."""
    if context.maps is None:
        settings = context.recipe.backbone
        return backbone.attention_and_contrast if settings.contrast_maps else backbone.cls_attention
    import torch
    from torch.nn import functional as F

    from ..backbones.tf32 import float32_products

    draw = context.maps.load(context.device)

    def with_drawn(rgb: np.ndarray) -> torch.Tensor:
        maps, features = backbone.maps_and_features(rgb)
        with float32_products(backbone.precision):
            drawn = F.pixel_unshuffle(draw(features)[:, None], GENERATOR_SCALE)  # as `pack_map`
        return torch.cat([maps, drawn], dim=1)

    return with_drawn


def refine(batch: AttentionBatch, context: TaskContext) -> tuple[np.ndarray, BlockResult]:
    """The masks of a block, packed `(n, S, S // 8) uint8`, and its columns. Does not change `batch`."""
    block, recipe = batch.block, context.recipe
    batch = replace(batch, status=batch.status.copy(), errors=dict(batch.errors), seconds=Counter(batch.seconds))
    masks = np.zeros((len(block), recipe.mask_px, recipe.mask_px), bool)
    boxes = np.zeros((len(block), 4), np.float32)
    stats = np.zeros((len(block), len(STATS)), np.float32)
    quality, parts = np.zeros(len(block), np.float32), np.zeros((len(block), len(PARTS)), np.float32)
    engine = recipe.refine.exact if refines_on_gpu(recipe.refine) else recipe.refine
    with watchdog(context.image_limit_s) as feed:
        for row in np.flatnonzero(_refined_rows(block, batch.status, context)).tolist():
            feed()
            cut = batch.cuts[row] if batch.is_cut[row] else None
            pseudo_mask = make_mask(
                batch.attention[row], batch.images[row], recipe, block.ids[row], batch.seconds, cut, engine
            )
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
    """The last task: makes the masks, and writes them and the attention through `fork`.

    Returns the fork only on success: after an error, merging it would add the chunks it had written.
    """
    packed, result = refine(batch, context)
    write(batch.block, context, packed, batch.attention, result, fork)
    return fork, result


def join_refine_and_write(
    decoded: DecodedBatch, attended: Attended, context: TaskContext, fork: "ForkSession"
) -> tuple["ForkSession", BlockResult]:
    """`refine_and_write` of what `decode` and `attend_decoded` made on other workers."""
    return refine_and_write(AttentionBatch.of(decoded, attended), context, fork)


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
