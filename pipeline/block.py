"""One block of pictures, from top to bottom: bytes > attention > trimap > mask > store.

Two tasks, because they want different machines: `attend` (decode, ViT) runs where a GPU is, `refine` (GrabCut, write)
on CPUs. No dask in here: build.py sends these functions to workers.

Shapes: n rows of a block, H heads, h x w token grid, S side of a mask.

A mask depends on its recipe and its picture alone: on the CPU every picture goes through the ViT by itself, since a
matrix product's last bits change with the size of the batch (docs/decisions/0003), and masks are made from the
attention as it is stored, in float16.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .backbone import BackboneSpec, load_backbone
from .boxes import largest_box, mask_iou
from .catalogs.names import resolve
from .errors import ImageError
from .geometry import Geometry
from .images import MissingImageError, decode_image, read_image_bytes
from .recipe import Recipe
from .saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, make_trimap, saliency_map
from .status import Status
from .store.layout import STATS, content_crc, pack_masks, write_block

CUDA_BATCH = 32  # half a block: the device works on one half while threads decode the other


@dataclass(frozen=True)
class Job:
    """What every block of a build has in common."""

    root: Path
    recipe: Recipe
    backbone: BackboneSpec
    device: str = "cpu"
    decode_threads: int = 1


@dataclass(frozen=True)
class Block:
    """Rows `start` to `start + len(ids)` of the catalog."""

    index: int
    start: int
    ids: list[str]
    paths: list[str]

    def __len__(self) -> int:
        return len(self.ids)


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


def attend(block: Block, job: Job) -> Attended:
    """Decodes and resizes the block's pictures, and takes their CLS attention. A bad picture becomes a status."""
    backbone = load_backbone(job.backbone, job.device)
    rows, mask_px = len(block), job.recipe.mask_px
    found = Attended(
        block,
        np.zeros((rows, backbone.heads, *backbone.grid), np.float16),
        np.zeros((rows, mask_px, mask_px, 3), np.uint8),
        np.zeros((rows, 2), np.int32),
        np.zeros((rows, 16), np.uint8),
        np.full(rows, Status.OK, np.uint8),
    )
    inputs = np.zeros((rows, backbone.size_px, backbone.size_px, 3), np.uint8)
    batch = CUDA_BATCH if backbone.device.type == "cuda" else 1
    attentions, waiting = [], []
    for row in _decoded(block, job, found, inputs):
        if found.status[row] == Status.OK:
            waiting.append(row)
        if len(waiting) == batch or (waiting and row == rows - 1):
            with _timed(found.seconds, "vit"):
                attentions.append((waiting, backbone.cls_attention(inputs[waiting]).half()))
            waiting = []
    with _timed(found.seconds, "vit"):  # on CUDA the forward passes above were only queued
        for members, attention in attentions:
            found.attention[members] = attention.cpu().numpy()
    for row in np.flatnonzero(~np.isfinite(found.attention).all((1, 2, 3))):
        found.attention[row] = 0
        found.fail(row, Status.NON_FINITE, "the backbone's attention is not finite")
    return found


def _decoded(block: Block, job: Job, found: Attended, inputs: np.ndarray) -> Iterator[int]:
    """Fills `found` and `inputs` row by row, and says which row has come. Threads run ahead where there are some."""

    def one(row: int) -> tuple[int, Counter]:
        seconds = Counter()  # of its own, since threads would lose each other's additions
        _decode_row(row, block, job, found, inputs[row], seconds)
        return row, seconds

    with ThreadPoolExecutor(job.decode_threads) if job.decode_threads > 1 else nullcontext() as threads:
        for row, seconds in (threads.map if threads else map)(one, range(len(block))):
            found.seconds.update(seconds)
            yield row


def _decode_row(
    row: int, block: Block, job: Job, found: Attended, backbone_input: np.ndarray, seconds: Counter
) -> None:
    images = job.recipe.images
    try:
        with _timed(seconds, "decode"):
            data = read_image_bytes(resolve(job.root, block.paths[row]))
            found.digest[row] = input_digest(data)
            rgb = decode_image(data, images.max_pixels)
            del data
    except MissingImageError as error:
        found.fail(row, Status.MISSING, str(error))
        return
    except ImageError as error:
        found.fail(row, Status.UNDECODABLE, str(error))
        return
    with _timed(seconds, "resize"):
        found.size[row] = rgb.shape[1], rgb.shape[0]
        backbone_input[:] = working_geometry(found.size[row], job.recipe, len(backbone_input)).image(rgb)
        found.pictures[row] = working_geometry(found.size[row], job.recipe, job.recipe.mask_px).image(rgb)


def working_geometry(source_px: np.ndarray, recipe: Recipe, target_px: int) -> Geometry:
    """How the recipe shows a picture of `source_px` (width, height) as a square, the same for backbone and mask."""
    make = Geometry.centre_crop if recipe.images.fit == "centre_crop" else Geometry.stretch
    return make((int(source_px[0]), int(source_px[1])), target_px)


def refine(attended: Attended, job: Job) -> tuple[np.ndarray, BlockResult]:
    """Masks of the block, packed `(n, S, S // 8) uint8`, and their columns. Leaves `attended` as it was."""
    block, recipe = attended.block, job.recipe
    attended = replace(
        attended, status=attended.status.copy(), errors=dict(attended.errors), seconds=Counter(attended.seconds)
    )
    masks = np.zeros((len(block), recipe.mask_px, recipe.mask_px), bool)
    boxes = np.zeros((len(block), 4), np.float32)
    stats = np.zeros((len(block), len(STATS)), np.float32)
    for row in np.flatnonzero(attended.status == Status.OK):
        made = make_mask(attended.attention[row], attended.pictures[row], recipe, block.ids[row], attended.seconds)
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
    return packed, BlockResult(block.index, columns, attended.errors, attended.seconds)


def refine_and_write(attended: Attended, job: Job, fork):
    """The task: refines, writes masks and attention through `fork` (an Icechunk ForkSession), and hands it back.

    The fork comes back only on success: one that failed half way would still merge the chunks that it wrote.
    """
    packed, result = refine(attended, job)
    with _timed(result.seconds, "write"):
        write_block(fork.store, attended.block.start, packed, attended.attention)
    return fork, result


@dataclass(frozen=True)
class MadeMask:
    """A mask with the steps that led to it; `reason` says why it is empty or a fallback."""

    mask: np.ndarray  # (S, S) bool
    saliency: np.ndarray  # (S, S) float32 in [0, 1]
    trimap: np.ndarray  # (S, S) uint8, OpenCV's codes
    reason: str | None
    stats: tuple[float, ...]  # in the order of STATS


def make_mask(
    attention: np.ndarray, rgb: np.ndarray, recipe: Recipe, image_id: str, seconds: Counter | None = None
) -> MadeMask:
    """Attention `(H, h, w) float16` and rgb `(S, S, 3) uint8` > mask: empty or the fallback at worst."""
    seconds = Counter() if seconds is None else seconds
    with _timed(seconds, "saliency"):
        saliency = saliency_map(attention, recipe.saliency, recipe.mask_px)
        if saliency is None:
            empty = np.zeros((recipe.mask_px, recipe.mask_px), np.float32)
            return MadeMask(empty > 0, empty, empty.astype(np.uint8), "flat attention: empty mask", (0.0, 0.0, 1.0))
        trimap = make_trimap(saliency, recipe.saliency)
        thresholded = saliency >= recipe.saliency.threshold
        reason = recipe.refine.unusable(trimap)
    if reason:
        mask, reason = thresholded, f"{reason}: thresholded attention instead"
    else:
        with _timed(seconds, "refine"):
            mask = recipe.refine(rgb, trimap, seed=image_seed(image_id, recipe.seed))
        if not mask.any():
            reason = "refinement left no foreground: empty mask"
    with _timed(seconds, "saliency"):
        unknown = (trimap == PROBABLE_FOREGROUND) | (trimap == PROBABLE_BACKGROUND)
        stats = (float(mask.mean()), float(unknown.mean()), mask_iou(mask, thresholded))
    return MadeMask(mask, saliency, trimap, reason, stats)


def input_digest(data: bytes) -> np.ndarray:
    """A picture's file > `(16,) uint8`, blake2b."""
    return np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint8)


def image_seed(image_id: str, seed: int) -> int:
    """31 bits that depend on the picture's id and the recipe's seed alone."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=4, salt=seed.to_bytes(16, "little")).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


@contextmanager
def _timed(seconds: Counter, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - start
