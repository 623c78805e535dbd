"""`locloc masks verify`: is a version still what was written, and are its images still what it was made from?

Two kinds of finding, since two people mend them. *Damage*: the store contradicts itself (a disk, another program, a
bug), and `locloc masks retry --damaged` makes those rows again. *Changes*: images that have come, gone or been
replaced since; the version is as good as it was, but it is no longer a version of what is there.

Blocks are read one by one, so memory is the catalog and one chunk of the small columns, and a block that cannot be
read is a finding and no end. A network that is down is not damage: the store is looked at again before it is blamed.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogs import Catalog, resolve
from ..catalogs.paths import parse_location
from ..errors import ImageError, StoreError
from ..io.images import read_image_bytes
from ..status import DONE, Status
from ..store.corruption import CORRUPTION_ERRORS, corruption_reason
from ..store.reader import Version, open_version
from ..store.schema import BLOCK_ROWS, COLUMN_ROWS, COLUMNS, block_count, content_crc, input_digest

DAMAGE = {
    "unreadable": "the chunk of mask, attention or reasons cannot be read",
    "altered": "mask or attention is not what was written",
    "columns": "the chunk of a small column cannot be read",
    "unfinished": "the row was never made",
    "status": "the status is none that there is",
    "reason": "a failed row without a reason, or a good one with one",
    "mask": "a row that is ok without a mask, or a failed one with one",
    "box": "the box is not inside the image, or does not go with the mask",
    "counts": "the counts in the provenance are not those of the rows",
    "catalog": "the catalog is not the one in the provenance",
}
"""Kinds of damage of the store."""

CHANGES = {
    "gone": "the image's file was there and cannot be read now",
    "replaced": "the image's file is another one now",
    "come": "the image's file could not be read then and can be now",
}
"""Kinds of changes of the images."""

FIRST = 5  # ids that a finding names
BOX_SLACK_PX = 0.01  # float32 has no finer steps than this at the far side of a very large image
FILE_THREADS = 8  # reading files is waiting, and hashing them lets other threads run

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """One kind of damage or change. Of the version as a whole (counts, catalog) there are no rows."""

    kind: str  # a key of DAMAGE or CHANGES
    rows: int
    blocks: int
    first_rows: list[int]
    first_ids: list[str]  # empty where the catalog cannot be trusted
    detail: str  # of the first one, where there is more to say


@dataclass(frozen=True)
class Verified:
    """What `verify_version` saw."""

    version: str
    rows: int
    rows_checked: int
    files_checked: int
    sample: float
    damage: list[Finding]
    changes: list[Finding]
    damaged: list[tuple[int, int]]  # rows to be made again, as ranges from, up to and without
    mend: str | None  # what to do about damage

    @property
    def ok(self) -> bool:
        """No damage; images may have changed."""
        return not self.damage

    @property
    def damaged_rows(self) -> np.ndarray:
        """`(n,) int64`, ascending: the rows that have to be made again."""
        return np.concatenate([np.arange(0), *(np.arange(*part) for part in self.damaged)])


def verify_version(
    version: Version,
    sample: float = 1.0,
    root: Path | str | None = None,
    on_progress: OnProgress = lambda done, total: None,
    seed: int = 0,
    files: bool = True,
) -> Verified:
    """Reads chunks against their CRCs and images against their digests, and everything against everything.

    sample       share of the blocks whose chunks and images are looked at, 1 for all; statuses, counts and catalog
                 are always looked at whole
    root         where the images are now, if they were moved since
    on_progress  called with the rows that are done, and those there are to do
    seed         of the choice of blocks
    files        False: the images are not looked at

    Raises StoreError where the version cannot be opened, UnreachableError where the images cannot be reached at all.
    """
    if not 0 < sample <= 1:
        raise StoreError(f"A share of {sample:g} of {version.name} cannot be looked at; give one over 0 and up to 1")
    rows, found = len(version), _Findings()
    catalog = _check_catalog(version, found)
    images = None if catalog is None else catalog.root if root is None else parse_location(root)
    blocks = _sampled_blocks(rows, sample, seed)
    rows_to_do = int(np.minimum(BLOCK_ROWS, rows - blocks * BLOCK_ROWS).sum())
    statuses, files_done, done = np.zeros(256, np.int64), 0, 0
    with ThreadPoolExecutor(FILE_THREADS) as threads:
        for start in range(0, rows, COLUMN_ROWS):
            part = range(start, min(start + COLUMN_ROWS, rows))
            inside = blocks[(blocks * BLOCK_ROWS >= part.start) & (blocks * BLOCK_ROWS < part.stop)]
            columns = _check_columns(version, part, found)
            if columns is not None:
                statuses += np.bincount(columns["status"], minlength=256)
            for block in inside.tolist():
                own = range(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, rows))
                if columns is not None:
                    mine = {name: values[own.start - start : own.stop - start] for name, values in columns.items()}
                    _check_block(version, own, mine, found)
                    if files and catalog is not None:
                        _check_files(images, catalog.slice(own.start, own.stop)[1], own, mine, threads, found)
                        files_done += len(own)
                done += len(own)
                on_progress(done, rows_to_do)
    if not found.has("columns"):
        _check_counts(version, statuses, found)
    return found.report(version, catalog, done, files_done, sample)


class _Findings:
    """Rows by kind, as they are found."""

    def __init__(self) -> None:
        self._rows: dict[str, list[np.ndarray]] = {}
        self._detail: dict[str, str] = {}

    def add(self, kind: str, rows: Iterable[int], detail: str = "") -> None:
        """Rows with one kind of finding; none is no finding."""
        rows = np.asarray(rows, np.int64)
        if len(rows):
            self.add_whole(kind, detail, rows)

    def add_whole(self, kind: str, detail: str, rows: np.ndarray = np.arange(0)) -> None:  # noqa: B008
        self._rows.setdefault(kind, []).append(rows)
        self._detail.setdefault(kind, detail)

    def has(self, kind: str) -> bool:
        return kind in self._rows

    def report(self, version: Version, catalog: Catalog | None, checked: int, files: int, sample: float) -> Verified:
        damage = [self._finding(kind, catalog) for kind in DAMAGE if self.has(kind)]
        changes = [self._finding(kind, catalog) for kind in CHANGES if self.has(kind)]
        damaged = np.unique(np.concatenate([np.arange(0), *(r for kind in DAMAGE for r in self._rows.get(kind, []))]))
        mend = None
        if len(damaged):
            mend = f"locloc masks retry {version.name} --damaged"
        elif damage:
            mend = "build this version again in a new store: what is damaged belongs to no row"
        return Verified(version.name, len(version), checked, files, sample, damage, changes, _ranges(damaged), mend)

    def _finding(self, kind: str, catalog: Catalog | None) -> Finding:
        rows = np.unique(np.concatenate(self._rows[kind]))
        first = rows[:FIRST].tolist()
        ids = [] if catalog is None else [catalog.slice(row, row + 1)[0][0] for row in first]
        return Finding(kind, len(rows), len(np.unique(rows // BLOCK_ROWS)), first, ids, self._detail[kind])


class _UnreadableError(Exception):
    pass


def _read(version: Version, name: str, rows: range) -> np.ndarray:
    """A column, or _UnreadableError with the reason; StoreError where it is the whole store that cannot be read."""
    try:
        return version.read_column(name, slice(rows.start, rows.stop))
    except CORRUPTION_ERRORS as error:
        open_version(version.name)  # so that a network that is down, or a disk that is gone, is not taken for damage
        raise _UnreadableError(f"{name}: {corruption_reason(version.name, error)}") from None


def _check_catalog(version: Version, found: _Findings) -> Catalog | None:
    """The catalog, if it is the one that the version was made from."""
    wanted = version.provenance["catalog"]["sha256"]
    try:
        catalog = version.catalog
    except CORRUPTION_ERRORS as error:
        open_version(version.name)
        found.add_whole("catalog", corruption_reason(version.name, error))
        return None
    if len(catalog) == len(version) and catalog.sha256 == wanted:
        return catalog
    found.add_whole("catalog", f"sha256 {catalog.sha256[:12]} instead of {wanted[:12]}")
    return None


def _check_columns(version: Version, rows: range, found: _Findings) -> dict[str, np.ndarray] | None:
    """The small columns of a chunk's rows, or None where one of them cannot be read."""
    try:
        columns = {name: _read(version, name, rows) for name in COLUMNS}
        block_done = _read(version, "block_done", range(rows.start // BLOCK_ROWS, block_count(rows.stop)))
    except _UnreadableError as error:
        found.add("columns", rows, str(error))
        return None
    status = columns["status"]
    unfinished = (status == Status.PENDING) | (np.repeat(block_done, BLOCK_ROWS)[: len(rows)] == 0)
    found.add("unfinished", rows.start + np.flatnonzero(unfinished))
    unknown = np.flatnonzero(status > max(Status))
    found.add("status", rows.start + unknown, f"status {status[unknown[0]]}" if len(unknown) else "")
    return columns


def _check_block(version: Version, rows: range, columns: dict[str, np.ndarray], found: _Findings) -> None:
    try:
        mask, attention, reasons = (_read(version, name, rows) for name in ("mask", "attention", "error"))
    except _UnreadableError as error:
        found.add("unreadable", rows, str(error))
        return
    status, box, size = columns["status"], columns["box"], columns["size"]
    as_written = content_crc(mask, attention) == columns["content_crc"]
    has_mask, has_reason = mask.any((1, 2)), reasons.any(1)
    wrong_mask = np.where(np.isin(status, DONE), (status == Status.OK) & ~has_mask, has_mask)
    fits = (box[:, :2] < box[:, 2:]).all(1) & (box[:, :2] >= -BOX_SLACK_PX).all(1)
    fits &= (box[:, 2:] <= size + BOX_SLACK_PX).all(1)
    wrong_box = np.where(has_mask, ~fits, (box != 0).any(1))

    def add(kind: str, wrong: np.ndarray) -> None:
        found.add(kind, rows.start + np.flatnonzero(wrong))

    add("altered", ~as_written)
    add("reason", has_reason != (status > Status.OK))
    add("mask", as_written & wrong_mask)
    add("box", as_written & wrong_box)


def _check_files(
    root: Path | str,
    paths: list[str],
    rows: range,
    columns: dict[str, np.ndarray],
    threads: ThreadPoolExecutor,
    found: _Findings,
) -> None:
    def digest_now(path: str) -> np.ndarray | str:
        try:
            return input_digest(read_image_bytes(resolve(root, path)))
        except ImageError as error:
            return str(error)

    for row, now in zip(rows, threads.map(digest_now, paths), strict=True):
        then, status = columns["input_digest"][row - rows.start], columns["status"][row - rows.start]
        was_read = then.any()  # of a row whose process was killed nothing is known, whatever its status
        if isinstance(now, str):
            if was_read:
                found.add("gone", [row], now)
        elif was_read:
            if not np.array_equal(now, then):
                found.add("replaced", [row])
        elif status == Status.MISSING:
            found.add("come", [row])


def _check_counts(version: Version, statuses: np.ndarray, found: _Findings) -> None:
    counts: dict[str, Any] = version.provenance["counts"]
    wanted = {status.label: int(statuses[status]) for status in Status}
    wanted |= {"rows": len(version), "blocks": block_count(len(version)), "blocks_done": block_count(len(version))}
    wrong = [
        f"{name} {counts.get(name)} instead of {rows}" for name, rows in wanted.items() if counts.get(name) != rows
    ]
    if wrong:
        found.add_whole("counts", ", ".join(wrong))


def _sampled_blocks(rows: int, sample: float, seed: int) -> np.ndarray:
    """`(n,) int64`, ascending: at least one, and all for a sample of 1."""
    blocks = block_count(rows)
    count = min(blocks, max(1, round(sample * blocks)))
    return np.sort(np.random.default_rng(seed).permutation(blocks)[:count])


def _ranges(rows: np.ndarray) -> list[tuple[int, int]]:
    """Ascending rows > ranges of neighbours, each from, up to and without."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]
