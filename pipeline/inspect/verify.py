"""`locloc masks verify`: checks a version against its checksums, and its images against the digests it was built from.

There are two kinds of findings. *Damage*: the store contradicts itself (disk, other program, bug); `locloc masks retry
--damaged` redoes those rows. *Changes*: image files that appeared, disappeared or were replaced after the build; the
version itself is intact.

Blocks are read one by one, so memory holds the catalog and one chunk of the small columns, and an unreadable block does
not end the check. A network that is down is not reported as damage: the store is opened again before a block is.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogs.catalog import Catalog
from ..catalogs.paths import parse_location, resolve
from ..errors import ImageError, StoreError
from ..io.images import read_image_bytes
from ..status import HAS_MASK, Status
from ..store.corruption import CORRUPTION_ERRORS, corruption_reason
from ..store.reader import Version, open_version
from ..store.schema import BLOCK_ROWS, COLUMN_ROWS, COLUMNS, block_count, content_crc, input_digest

DAMAGE = {
    "unreadable": "the chunk of mask, attention or reasons cannot be read",
    "altered": "mask or attention is not what was written",
    "columns": "the chunk of a small column cannot be read",
    "unfinished": "the row was never written",
    "status": "the status code is unknown",
    "reason": "a failed row has no reason, or an ok row has one",
    "mask": "an ok row has no mask, or a failed row has one",
    "decisions": "the decisions cannot be read, or are not those of the statuses",
    "box": "the box is outside of the image, or missing, or there without a mask",
    "counts": "the counts in the provenance differ from those of the rows",
    "catalog": "the catalog differs from the one in the provenance",
}
"""Kinds of damage to the store, and their descriptions."""

CHANGES = {
    "gone": "the image's file was read at build time and cannot be read now",
    "replaced": "the image's file has other content now",
    "come": "the image's file was missing at build time and can be read now",
}
"""Kinds of changes of the images, and their descriptions."""

FIRST = 5  # ids listed for each finding
BOX_SLACK_PX = 0.01  # rounding of float32 at the far side of a very large image
FILE_THREADS = 8  # reading waits for storage, and hashing releases the GIL

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """One kind of damage or change, and its rows; no rows if it concerns the whole version (counts, catalog)."""

    kind: str  # a key of DAMAGE or CHANGES
    rows: int
    blocks: int
    first_rows: list[int]
    first_ids: list[str]  # empty if the catalog is damaged
    detail: str  # of the first row, if there is any


@dataclass(frozen=True)
class Verified:
    """Result of `verify_version`."""

    version: str
    rows: int
    rows_checked: int
    files_checked: int
    sample: float
    damage: list[Finding]
    changes: list[Finding]
    damaged: list[tuple[int, int]]  # rows to redo, as ranges [start, stop)
    mend: str | None  # the command that repairs the damage

    @property
    def ok(self) -> bool:
        """True if there is no damage; images may have changed."""
        return not self.damage

    @property
    def damaged_rows(self) -> np.ndarray:
        """`(n,) int64`, ascending: the rows to redo."""
        return np.concatenate([np.arange(0), *(np.arange(*part) for part in self.damaged)])


def verify_version(
    version: Version,
    sample: float = 1.0,
    root: Path | str | None = None,
    on_progress: OnProgress = lambda done, total: None,
    seed: int = 0,
    files: bool = True,
) -> Verified:
    """Checks chunks against their CRCs, image files against their digests, and the columns for contradictions.

    sample       share of the blocks whose chunks and images are read, 1 for all; statuses, counts and catalog are
                 always checked whole
    root         folder or URL of the images, if they were moved after the build
    on_progress  called with the rows checked, and the rows to check
    seed         of the choice of blocks
    files        False: image files are not read

    Raises StoreError if the version cannot be opened, UnreachableError if no image can be reached.
    """
    if not 0 < sample <= 1:
        raise StoreError(f"The sample {sample:g} of {version.name} is not a share; give one over 0 and up to 1")
    rows, findings = len(version), _Findings()
    catalog = _check_catalog(version, findings)
    blocks = _sampled_blocks(rows, sample, seed)
    rows_to_do = int(np.minimum(BLOCK_ROWS, rows - blocks * BLOCK_ROWS).sum())
    statuses, files_done, done = np.zeros(256, np.int64), 0, 0
    with ThreadPoolExecutor(FILE_THREADS) as threads:
        for start in range(0, rows, COLUMN_ROWS):
            part = range(start, min(start + COLUMN_ROWS, rows))
            inside = blocks[(blocks * BLOCK_ROWS >= part.start) & (blocks * BLOCK_ROWS < part.stop)]
            columns = _check_columns(version, part, findings)
            if columns is not None:
                statuses += np.bincount(columns["status"], minlength=256)
            for block in inside.tolist():
                block_rows = range(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, rows))
                if columns is not None:
                    block_columns = {
                        name: values[block_rows.start - start : block_rows.stop - start]
                        for name, values in columns.items()
                    }
                    _check_block(version, block_rows, block_columns, findings)
                    if files and catalog is not None:
                        images = catalog.root if root is None else parse_location(root)
                        paths = catalog.slice(block_rows.start, block_rows.stop)[1]
                        _check_files(images, paths, block_rows, block_columns, threads, findings)
                        files_done += len(block_rows)
                done += len(block_rows)
                on_progress(done, rows_to_do)
    if not findings.has("columns"):
        _check_counts(version, statuses, findings)
        _check_decisions(version, findings)
    return findings.report(version, catalog, done, files_done, sample)


class _Findings:
    """Collects rows by kind of finding."""

    def __init__(self) -> None:
        self._rows: dict[str, list[np.ndarray]] = {}
        self._detail: dict[str, str] = {}

    def add(self, kind: str, rows: Iterable[int], detail: str = "") -> None:
        """Adds rows of a kind; without rows there is no finding."""
        numbers = np.asarray(rows, np.int64)
        if len(numbers):
            self._add(kind, detail, numbers)

    def add_whole(self, kind: str, detail: str) -> None:
        """Adds a finding that concerns the whole version."""
        self._add(kind, detail, np.arange(0))

    def _add(self, kind: str, detail: str, rows: np.ndarray) -> None:
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
            mend = "build this version again in a new store: the damage is not in single rows"
        return Verified(version.name, len(version), checked, files, sample, damage, changes, _ranges(damaged), mend)

    def _finding(self, kind: str, catalog: Catalog | None) -> Finding:
        rows = np.unique(np.concatenate(self._rows[kind]))
        first = rows[:FIRST].tolist()
        ids = [] if catalog is None else [catalog.slice(row, row + 1)[0][0] for row in first]
        return Finding(kind, len(rows), len(np.unique(rows // BLOCK_ROWS)), first, ids, self._detail[kind])


class _UnreadableError(Exception):
    pass


def _read(version: Version, name: str, rows: range) -> np.ndarray:
    """Reads a column. Raises _UnreadableError with the reason, StoreError if the whole store cannot be read."""
    try:
        return version.read_column(name, slice(rows.start, rows.stop))
    except CORRUPTION_ERRORS as error:
        open_version(version.name)  # raises if the network is down or the disk is missing, which is no damage
        raise _UnreadableError(f"{name}: {corruption_reason(version.name, error)}") from None


def _check_catalog(version: Version, findings: _Findings) -> Catalog | None:
    """The catalog, None if it differs from the provenance or cannot be read."""
    expected = version.provenance["catalog"]["sha256"]
    try:
        catalog = version.catalog
    except CORRUPTION_ERRORS as error:
        open_version(version.name)
        findings.add_whole("catalog", corruption_reason(version.name, error))
        return None
    if len(catalog) != len(version) or catalog.sha256 != expected:
        findings.add_whole("catalog", f"sha256 {catalog.sha256[:12]} instead of {expected[:12]}")
        return None
    _check_ids(version, catalog, findings)
    return catalog


def _check_ids(version: Version, catalog: Catalog, findings: _Findings) -> None:
    """Compares the array `id`, which other programs read, with the catalog; versions of older releases lack it."""
    if "id" not in version.group:
        return
    for start in range(0, len(version), COLUMN_ROWS):
        part = range(start, min(start + COLUMN_ROWS, len(version)))
        try:
            same = _read(version, "id", part).tolist() == catalog.slice(part.start, part.stop)[0]
        except _UnreadableError as error:
            findings.add_whole("catalog", str(error))
            return
        if not same:
            findings.add_whole("catalog", f"id: rows {part.start} to {part.stop} are not the catalog's")
            return


def _check_columns(version: Version, rows: range, findings: _Findings) -> dict[str, np.ndarray] | None:
    """The small columns of one chunk's rows, None if one of them cannot be read."""
    try:
        columns = {name: _read(version, name, rows) for name in COLUMNS}
        block_done = _read(version, "block_done", range(rows.start // BLOCK_ROWS, block_count(rows.stop)))
    except _UnreadableError as error:
        findings.add("columns", rows, str(error))
        return None
    status = columns["status"]
    unfinished = (status == Status.PENDING) | (np.repeat(block_done, BLOCK_ROWS)[: len(rows)] == 0)
    findings.add("unfinished", rows.start + np.flatnonzero(unfinished))
    unknown = np.flatnonzero(status > max(Status))
    findings.add("status", rows.start + unknown, f"status {status[unknown[0]]}" if len(unknown) else "")
    return columns


def _check_block(version: Version, rows: range, columns: dict[str, np.ndarray], findings: _Findings) -> None:
    try:
        mask, attention, reasons = (_read(version, name, rows) for name in ("mask", "attention", "error"))
    except _UnreadableError as error:
        findings.add("unreadable", rows, str(error))
        return
    status, box, size = columns["status"], columns["box"], columns["size"]
    intact = content_crc(mask, attention) == columns["content_crc"]
    has_mask, has_reason = mask.any((1, 2)), reasons.any(1)
    rejected = status == Status.REJECTED  # was ok or a fallback
    wrong_mask = np.where(np.isin(status, HAS_MASK), (status == Status.OK) & ~has_mask, has_mask)
    wrong_mask |= rejected & ~has_mask & ~has_reason
    fits = (box[:, :2] < box[:, 2:]).all(1) & (box[:, :2] >= -BOX_SLACK_PX).all(1)
    fits &= (box[:, 2:] <= size + BOX_SLACK_PX).all(1)
    wrong_box = np.where(has_mask, ~fits, (box != 0).any(1))

    def add(kind: str, wrong: np.ndarray) -> None:
        findings.add(kind, rows.start + np.flatnonzero(wrong))

    add("altered", ~intact)
    add("reason", (has_reason != (status > Status.OK)) & ~rejected)
    add("mask", intact & wrong_mask)
    add("box", intact & wrong_box)


def _check_files(
    root: Path | str,
    paths: list[str],
    rows: range,
    columns: dict[str, np.ndarray],
    threads: ThreadPoolExecutor,
    findings: _Findings,
) -> None:
    def current_digest(path: str) -> np.ndarray | str:
        """The file's digest, or why it cannot be read."""
        try:
            return input_digest(read_image_bytes(resolve(root, path)))
        except ImageError as error:
            return str(error)

    for row, current in zip(rows, threads.map(current_digest, paths), strict=True):
        stored, status = columns["input_digest"][row - rows.start], columns["status"][row - rows.start]
        was_read = stored.any()  # zeros if the process of the row was killed, whatever its status
        if isinstance(current, str):
            if was_read:
                findings.add("gone", [row], current)
        elif was_read:
            if not np.array_equal(current, stored):
                findings.add("replaced", [row])
        elif status == Status.MISSING:
            findings.add("come", [row])


def _check_counts(version: Version, statuses: np.ndarray, findings: _Findings) -> None:
    counts: dict[str, Any] = version.provenance["counts"]
    expected = {status.label: int(statuses[status]) for status in Status}
    expected |= {"rows": len(version), "blocks": block_count(len(version)), "blocks_done": block_count(len(version))}
    wrong = [
        f"{name} {counts.get(name)} instead of {rows}"
        for name, rows in expected.items()
        if counts.get(name, 0) != rows  # versions of older releases do not count statuses that there were not yet
    ]
    if wrong:
        findings.add_whole("counts", ", ".join(wrong))


def _check_decisions(version: Version, findings: _Findings) -> None:
    try:
        rejected = version.decisions.rejected
    except CORRUPTION_ERRORS as error:
        open_version(version.name)
        findings.add_whole("decisions", corruption_reason(version.name, error))
        return
    findings.add("decisions", np.setxor1d(rejected, np.flatnonzero(version.status == Status.REJECTED)))


def _sampled_blocks(rows: int, sample: float, seed: int) -> np.ndarray:
    """Block numbers `(n,) int64`, ascending; at least one."""
    blocks = block_count(rows)
    count = min(blocks, max(1, round(sample * blocks)))
    return np.sort(np.random.default_rng(seed).permutation(blocks)[:count])


def _ranges(rows: np.ndarray) -> list[tuple[int, int]]:
    """Ascending rows > ranges [start, stop) without gaps."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]
