"""The first part of a block's work: bytes > pixels of two sizes, for the backbone and for the mask.

It needs neither a model nor a device. Where there are GPU workers it is a task of CPU workers (coordinator.py), else
the beginning of `attend`. With `images.decoder = "nvjpeg"` it leaves plain JPEGs to a GPU worker (`decode_left`).

Shapes: n rows of a block, P side of the backbone's input, S side of a mask.
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..catalogs.paths import resolve
from ..errors import ImageError, UnreachableError
from ..io.decoding import nvjpeg
from ..io.images import Decoded, MissingImageError, decode_reduced, read_image_bytes
from ..io.timing import timed
from ..masks.pseudo_mask import working_geometry
from ..status import HAS_MASK, Status
from ..store.schema import input_digest
from .block import Block, DecodedBatch, TaskContext
from .watchdog import watchdog


def decode(block: Block, context: TaskContext) -> DecodedBatch:
    """Decodes and resizes the images of a block that need it. A bad image becomes a status."""
    if context.reuse == "attention":
        return _parent_rows(block, context)
    assert context.backbone is not None
    batch = _empty_batch(block, context, context.backbone.size_px)
    with watchdog(context.image_limit_s) as feed:

        def decode_row(row: int, seconds: Counter[str]) -> None:
            _decode_row(row, context, batch, seconds)

        for _ in _in_order(decode_row, np.flatnonzero(block.new).tolist(), context, batch.seconds):
            feed()
    return batch


def decode_left(
    decoded: DecodedBatch, context: TaskContext, feed: Callable[[], None], seconds: Counter[str]
) -> DecodedBatch:
    """The batch with the JPEGs that `decode` has left, which this process decodes on its device.

    Those that the device refuses are Pillow's. Does not change `decoded`.
    """
    if not decoded.jpegs:
        return decoded
    batch, rows = replace(decoded.copy(), jpegs={}), sorted(decoded.jpegs)
    with timed(seconds, "decode"):
        pixels = nvjpeg.decode([decoded.jpegs[row] for row in rows], context.device)
    by_row = dict(zip(rows, pixels, strict=True))

    def place_row(row: int, seconds: Counter[str]) -> None:
        rgb = by_row[row]
        if rgb is None:
            _decode_with_pillow(row, decoded.jpegs[row], context, batch, seconds)
        else:
            height, width = rgb.shape[:2]
            window = (0.0, 0.0, float(width), float(height))
            _resize_row(row, Decoded(rgb, (width, height), window), context, batch, seconds)

    for _ in _in_order(place_row, rows, context, seconds):
        feed()
    return batch


def _parent_rows(block: Block, context: TaskContext) -> DecodedBatch:
    """The attention of the parent's rows, and the images where the engine uses their pixels."""
    parent, rows = context.parent, block.parent_rows
    assert parent is not None and rows is not None
    batch = _empty_batch(block, context, None)
    batch.attention = parent.read_attention(rows)
    batch.size[:] = parent.read_column("size", rows)
    batch.orientation[:] = parent.read_column("orientation", rows)
    batch.digest[:] = parent.read_column("input_digest", rows)
    for row, (status, error) in enumerate(parent.reasons(rows)):
        if status not in HAS_MASK:
            batch.fail(row, status, error or "")
    readable = np.flatnonzero(batch.status == Status.OK).tolist() if context.recipe.refine.uses_pixels else []
    with watchdog(context.image_limit_s) as feed:

        def decode_row(row: int, seconds: Counter[str]) -> None:
            before = batch.digest[row].copy()
            _decode_row(row, context, batch, seconds)
            if batch.status[row] == Status.OK and not np.array_equal(before, batch.digest[row]):
                batch.fail(row, Status.MISSING, "the file was changed since its attention was taken")

        for _ in _in_order(decode_row, readable, context, batch.seconds):
            feed()
    return batch


def _empty_batch(block: Block, context: TaskContext, input_px: int | None) -> DecodedBatch:
    rows, mask_px = len(block), context.recipe.mask_px
    inputs = (0, 0, 0, 3) if input_px is None else (rows, input_px, input_px, 3)
    return DecodedBatch(
        block=block,
        inputs=np.zeros(inputs, np.uint8),
        images=np.zeros((rows, mask_px, mask_px, 3), np.uint8),
        size=np.zeros((rows, 2), np.int32),
        orientation=np.zeros(rows, np.uint8),
        digest=np.zeros((rows, 16), np.uint8),
        status=np.full(rows, Status.OK, np.uint8),
    )


def _in_order(
    decode: Callable[[int, Counter[str]], None], rows: list[int], context: TaskContext, seconds: Counter[str]
) -> Iterator[int]:
    """Calls `decode(row, seconds)` for each row, and yields the rows in order. Threads, if any, decode ahead."""

    def decoded(row: int) -> tuple[int, Counter[str]]:
        of_row: Counter[str] = Counter()  # additions of several threads to one Counter would be lost
        decode(row, of_row)
        return row, of_row

    with ThreadPoolExecutor(context.decode_threads) if context.decode_threads > 1 else nullcontext() as threads:
        for row, of_row in (threads.map if threads else map)(decoded, rows):
            seconds.update(of_row)
            yield row


def _decode_row(row: int, context: TaskContext, batch: DecodedBatch, seconds: Counter[str]) -> None:
    """Reads one image into its row of `batch`, or leaves it to a GPU worker."""
    try:
        with timed(seconds, "decode"):
            data = read_image_bytes(resolve(context.root, batch.block.paths[row]))
            batch.digest[row] = input_digest(data)
    except MissingImageError as error:
        if isinstance(context.root, Path) and not context.root.is_dir():
            raise UnreachableError(f"{context.root} is no folder on {socket.gethostname()}; mount it there") from None
        batch.fail(row, Status.MISSING, str(error))
        return
    except ImageError as error:
        batch.fail(row, Status.UNDECODABLE, str(error))
        return
    settings = context.recipe.images
    if settings.decoder == "nvjpeg" and nvjpeg.is_plain(data, settings.max_pixels):
        batch.jpegs[row] = data
    else:
        _decode_with_pillow(row, data, context, batch, seconds)


def _decode_with_pillow(
    row: int, data: bytes, context: TaskContext, batch: DecodedBatch, seconds: Counter[str]
) -> None:
    covers_px = context.recipe.covers_px(context.revisions["decode"])
    try:
        with timed(seconds, "decode"):
            image = decode_reduced(data, covers_px, context.recipe.images.max_pixels)
    except ImageError as error:
        batch.fail(row, Status.UNDECODABLE, str(error))
        return
    _resize_row(row, image, context, batch, seconds)


def _resize_row(row: int, image: Decoded, context: TaskContext, batch: DecodedBatch, seconds: Counter[str]) -> None:
    with timed(seconds, "resize"):
        batch.size[row], batch.orientation[row] = image.size_px, image.orientation

        def square(side_px: int) -> np.ndarray:
            geometry = working_geometry(batch.size[row], context.recipe, side_px)
            return geometry.image(image.rgb, shown=image.window, revision=context.revisions["geometry"])

        batch.images[row] = square(context.recipe.mask_px)
        if len(batch.inputs):
            same = batch.inputs.shape == batch.images.shape
            batch.inputs[row] = batch.images[row] if same else square(batch.inputs.shape[1])
