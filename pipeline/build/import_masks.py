"""`locloc masks import`: masks that people drew or corrected, or another tool made, become a version.

Such a version has masks, boxes, sizes and digests as a built one, and no attention: that is zero everywhere. Its
provenance says where the masks come from and how they were read. The same masks of the same images are not imported
twice, and an interrupted import is resumed by the same command.
"""

import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..errors import StoreError, TruthError
from ..store.gc import delete_version
from ..store.repository import check_can_hold_store
from ..store.schema import BLOCK_ROWS, content_crc, pack_masks, write_block
from ..store.versions import check_name_is, name_of_deleted
from ..store.writer import StoreWriter, coverage
from .import_source import ImportRequest, MaskSource

CHECKPOINT_S = 20.0
THREADS = 8


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import. counts: rows by status, and `rows`."""

    version: str
    fingerprint: str
    counts: dict[str, int]
    read_as: str
    already_there: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        return coverage(self.counts)


def import_version(
    request: ImportRequest, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> ImportSummary:
    """Makes and publishes a version of masks, or returns the one that the store has.

    Every image of the catalog is a row. One without a mask has the status missing, one whose mask is empty fallback,
    one whose mask or image cannot be read undecodable; each says why.

    Raises TruthError if no image has a mask, or if too many masks cannot be read: nothing is left in the store then.
    StoreError: the store cannot be written, or the settings do not fit the masks.
    """
    check_can_hold_store(request.store)
    source = MaskSource(request)
    fingerprint, read_as = source.metadata["fingerprint"], source.masks.read_as
    try:
        with StoreWriter(request.store) as writer:
            if (published := writer.published(fingerprint, request.name)) is not None:
                assert published.tag is not None
                check_name_is(published.tag, request.name, writer.store)
                return ImportSummary(published.tag, fingerprint, published.metadata["counts"], read_as, True)
            if request.name is not None:
                writer.check_name(request.name)
            writer.begin(source.metadata, request.catalog, source.attention, source.recipe.mask_px)
            _write_rows(writer, source, on_progress)
            warnings = source.warnings()
            tag = writer.publish(request.name)
            if request.name not in (None, tag):
                warnings = (*warnings, name_of_deleted(request.name))
            return ImportSummary(tag, fingerprint, writer.counts, read_as, False, warnings)
    except TruthError:  # the masks are to be corrected, and are others then
        with suppress(StoreError):
            delete_version(request.store, fingerprint[:16])
        raise


def _write_rows(writer: StoreWriter, source: MaskSource, on_progress: Callable[[int, int], None]) -> None:
    rows, saved = len(source.catalog), time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        for block in np.flatnonzero(writer.block_done == 0).tolist():
            start, stop = block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, rows)
            made = source.rows(start, stop, threads)
            packed = pack_masks(made.masks)
            attention = np.zeros((stop - start, *source.attention), np.float16)  # as it reads where nothing is written
            made.columns["content_crc"] = content_crc(packed, attention)
            fork = pickle.loads(pickle.dumps(writer.fork))
            write_block(fork.store, start, packed, None, made.errors)
            writer.merge(fork, block, made.columns)
            if time.monotonic() - saved > CHECKPOINT_S:
                writer.checkpoint()
                saved = time.monotonic()
            on_progress(stop, rows)
