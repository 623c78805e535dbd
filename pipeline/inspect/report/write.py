"""`locloc masks report`: writes the folder of a page that opens from disk.

OUT/index.html    the page; written last
OUT/data.js       columns of all rows
OUT/tiles/        a thumbnail of each image, WebP
OUT/blocks/       outlines, boxes, attention and trimaps of 64 rows each, loaded as one looks
OUT/assets/       stylesheet and scripts

Memory holds the columns and a few blocks, however many rows there are.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...catalogs.paths import parse_location
from ...errors import StoreError, os_error_reason
from ...io.clean_processes import clean_processes
from ...io.interrupts import raise_if_interrupted
from ...io.machine import usable_cores
from ...io.new_folder import replaced_folder
from ...io.output_folder import Results
from ...status import HAS_MASK
from ...store.reader import Version
from .block import ROWS
from .compare import common_rows, compared_metrics
from .escape import packed, script_call
from .neighbours import nearest_rows
from .page import MARKER, MARKER_TEXT, page_json, write_assets, write_index
from .rows import Metric, ReportRows, choose_rows, collect_rows
from .truth import PageTruth
from .work import BlockDone, BlockJob, PageJob, make_block, make_block_of_pool, prepare

OnProgress = Callable[[int, int], None]

BUDGET_BYTES = 100e6
"""Of the folder, for as many rows as DEFAULT_ROWS."""

SMALL_TILE_PX, LARGE_TILE_PX = 224, 384
LARGE_UP_TO = 2_000
"""Rows up to which thumbnails are large, so that an image that cannot be reached from the page is still seen well."""

IN_FLIGHT = 2
"""Blocks a process: one at work and one waiting."""

RESULTS = Results(
    r"locloc-report\.txt|index\.html|data\.js|tiles(/\d+(/\d\d\.webp)?)?|blocks(/\d+\.js)?|assets(/[\w-]+\.(js|css))?",
    MARKER,
    MARKER_TEXT,
)


@dataclass(frozen=True)
class ReportRequest:
    """What a page shows."""

    version: Version
    out: Path
    other: Version | None = None  # compared with `version`, by id
    sample: int | None = None  # rows; None: up to DEFAULT_ROWS
    everything: bool = False  # all rows
    truth: str | None = None  # as `score_version`
    boxes_in: str = "upright"
    truth_class: str | None = None
    root: str | None = None  # where the images are now
    workers: int | None = None  # None: one a core


@dataclass(frozen=True)
class ReportSummary:
    """What was written."""

    out: str
    version: str
    other: str | None
    rows: int
    of: int  # rows of the version, or of both versions
    without_image: int  # images that cannot be read
    lost_images: int  # of these, those that a mask was made from
    bytes: int
    truth: list[str] = field(default_factory=list)  # how ground truth was read, and what was left out


def write_report(request: ReportRequest, on_progress: OnProgress = lambda done, total: None) -> ReportSummary:
    """Writes the page of a version, or of two versions side by side. Replaces an earlier page in the same folder.

    Raises StoreError where the folder cannot be written or holds other things, TruthError for ground truth that cannot
    be used. After an error or an interrupt the folder is as it was.
    """
    version, other = request.version, request.other
    root = parse_location(request.root or version.provenance["catalog"]["root"])
    if other is None:
        rows, other_rows = choose_rows(version, request.sample, request.everything), None
        of = len(version)
    else:
        if (other.store, other.tag) == (version.store, version.tag):
            raise StoreError(f"{version.name} is given twice; name another version to compare it with")
        rows, other_rows, of = common_rows(version, other, request.sample, request.everything)
    shown = collect_rows(version, rows)
    truth = None
    if request.truth is not None:
        truth = PageTruth(version, request.truth, rows, request.boxes_in, request.truth_class, request.root)
    tile_px = LARGE_TILE_PX if len(rows) <= LARGE_UP_TO else SMALL_TILE_PX
    try:
        with replaced_folder(request.out, "--out", StoreError, RESULTS) as out:
            (out / MARKER).write_text(MARKER_TEXT, encoding="ascii")
            job = PageJob(version, other, root, out, tile_px)
            found = _make_blocks(job, shown, other_rows, truth, request.workers or usable_cores(), on_progress)
            lines = list(truth.describe()) if truth is not None else []
            metrics = list(shown.metrics)
            if truth is not None:
                what = "mask" if truth.of_masks else "box"
                about = f"IoU of the {what} with its ground truth"
                metrics.insert(0, Metric("true_iou", "True IoU", about, truth.iou, "low"))
            if other is not None and other_rows is not None and found.iou is not None:
                metrics = compared_metrics(metrics, other, other_rows, found.iou)
            page = page_json(shown, metrics, other, other_rows, root, lines)
            near = nearest_rows(found.colours, found.shapes)
            page |= {
                "readSize": packed(found.size.reshape(-1), "i4"),
                "hasTile": packed(found.has_tile, "u1"),
                "imageNotes": [list(found.notes), list(found.notes.values())],
                "neighbours": None if near is None else packed(near.reshape(-1), "u4"),
                "of": of,
            }
            (out / "data.js").write_text(script_call("onData", page), encoding="ascii")
            write_assets(out)
            write_index(out, version, other, live=False)
    except OSError as error:
        raise StoreError(f"{request.out} cannot be written: {os_error_reason(error)}; name another --out") from None
    size = sum(file.stat().st_size for file in request.out.rglob("*") if file.is_file())
    names = version.name, None if other is None else other.name
    without_image = int(np.count_nonzero(~found.has_tile))
    lost_images = int(np.count_nonzero(~found.has_tile & np.isin(version.status[rows], HAS_MASK)))
    return ReportSummary(str(request.out), *names, len(rows), of, without_image, lost_images, size, lines)


class _Found:
    """What the blocks gave, in the order of the page's rows."""

    def __init__(self, count: int, compares: bool):
        self.size = np.zeros((count, 2), np.int32)
        self.has_tile = np.zeros(count, bool)
        self.colours = np.zeros((count, 8, 8, 3), np.float16)
        self.shapes = np.zeros((count, 8, 8), np.float16)
        self.iou = np.full(count, np.nan, np.float32) if compares else None
        self.notes: dict[int, str] = {}

    def add(self, done: BlockDone) -> None:
        start = done.number * ROWS
        part = slice(start, start + len(done.size))
        self.size[part], self.has_tile[part] = done.size, done.has_tile
        self.colours[part], self.shapes[part] = done.colours, done.shapes
        if self.iou is not None and done.iou is not None:
            self.iou[part] = done.iou
        self.notes |= {start + n: note for n, note in sorted(done.notes.items())}


def _make_blocks(
    job: PageJob,
    shown: ReportRows,
    other_rows: np.ndarray | None,
    truth: PageTruth | None,
    workers: int,
    on_progress: OnProgress,
) -> _Found:
    found, done = _Found(len(shown), job.other is not None), 0

    def block_jobs() -> Iterator[BlockJob]:
        for start in range(0, len(shown), ROWS):
            part = slice(start, start + ROWS)
            number = start // ROWS
            of_truth = truth.block(number) if truth is not None else {}
            theirs = None if other_rows is None else other_rows[part]
            yield BlockJob(number, shown.rows[part], theirs, shown.paths[part], of_truth)

    with closing(_results(job, block_jobs(), min(workers, -(-len(shown) // ROWS)))) as results:
        for result in results:
            raise_if_interrupted()
            found.add(result)
            done += len(result.size)
            on_progress(done, len(shown))
    found.notes = dict(sorted(found.notes.items()))
    return found


def _results(job: PageJob, blocks: Iterator[BlockJob], workers: int) -> Generator[BlockDone]:
    """The results in the order of the blocks, of which a few are at work at a time. Once closed, nothing is written."""
    if workers <= 1:
        for block in blocks:
            yield make_block(job, block, block.number * ROWS)
        return
    context = clean_processes()
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, prepare, (job, stop))
    waiting: list[Future[BlockDone]] = []
    try:
        for block in blocks:
            waiting.append(pool.submit(make_block_of_pool, block, block.number * ROWS))
            if len(waiting) > IN_FLIGHT * workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    except BrokenProcessPool:
        raise StoreError(
            "A process that draws the page ended (out of memory?); try fewer --workers, or a smaller --sample"
        ) from None
    finally:
        stop.set()  # all blocks are done, or none of them will be used
        pool.shutdown(wait=True, cancel_futures=True)
