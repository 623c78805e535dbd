"""`locloc masks decide`: a version with a person's decisions, which shares everything else with its parent."""

import hashlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..inspect.report.decisions_csv import Decision, rows_of_decisions
from ..status import HAS_MASK, Status
from ..store.decisions import ACCEPTED, DECISIONS, REJECTED, UNDECIDED, Decisions
from ..store.reader import Version, open_version
from ..store.versions import check_name_is, list_versions, name_of_deleted
from ..store.writer import SharedParent, StoreWriter, timestamp


@dataclass(frozen=True)
class DecideSummary:
    """The result of `decide_version`. Rows of the new version, with what its parent had decided already."""

    version: str
    parent: str
    rows: int
    accepted: int
    rejected: int
    changed: int  # rows whose decision or note differs from the parent's
    already_there: bool = False
    warnings: tuple[str, ...] = ()


def decide_version(version: Version, decided: Mapping[str, Decision], name: str | None = None) -> DecideSummary:
    """Publishes a version in which rejected rows have the status `rejected`, and accepted ones are marked.

    decided  by id; they come on top of the decisions that the version has. `undecided` takes one back
    name     of the new version; None: the next v1, v2, ...

    Nothing is published where the decisions change nothing, or where a version of the same decisions is there. Raises
    StoreError where that is there by another name, and for unknown ids and rows without a mask, with file and line.
    """
    decisions = _merge(version, decided)
    before = version.decisions
    changed = _changed(len(version), before, decisions)
    if not changed:
        check_name_is(version.tag, name, version.store)
        return _summary(version.tag, version, decisions, 0, True)
    metadata = _metadata(version, decisions)
    with StoreWriter(version.store) as writer:
        for info in list_versions(version.store):
            if info.tag is not None and info.build_id == metadata["build_id"]:
                check_name_is(info.tag, name, version.store)
                return _summary(info.tag, version, decisions, changed, True)
        if name is not None:
            writer.check_name(name)
        mask_px = version.mask_px
        shared = SharedParent(version.tag, np.zeros(0, np.int64))
        writer.begin(metadata | {"name": name}, version.catalog, version.attention_shape, mask_px, shared, decisions)
        writer.set_status(_statuses(version, decisions))
        tag = writer.publish(name)
    summary = _summary(tag, version, decisions, changed, False)
    return summary if name in (None, tag) else replace(summary, warnings=(name_of_deleted(name),))


def take_decisions_over(version: Version, other: Version, name: str | None = None) -> Version:
    """`version` itself, or a version of it with what was decided about the same images' masks in `other`.

    For versions whose masks of these images are the same. Where both decided, `other` counts.
    """
    decisions, with_mask = other.decisions, set(np.flatnonzero(np.isin(version.status, HAS_MASK)).tolist())
    own = version.decisions.codes(len(version))
    row_of = {image_id: row for row, image_id in enumerate(version.ids)}
    decided = {}
    for row, code in zip(decisions.rows.tolist(), decisions.code.tolist(), strict=True):
        image_id = other.ids[row]
        here = row_of.get(image_id)
        # A note needs no mask, and does not undo what was decided here.
        if here is not None and (here in with_mask if code else not own[here]):
            decided[image_id] = Decision(image_id, DECISIONS[code] or UNDECIDED, decisions.notes.get(row, ""), 0)
    made = decide_version(version, decided, name).version
    return version if made == version.tag else open_version(f"{version.store}@{made}")


def _merge(version: Version, decided: Mapping[str, Decision]) -> Decisions:
    """The version's decisions, with those of `decided` in their place."""
    row_of = rows_of_decisions(version, decided)
    codes, notes = version.decisions.codes(len(version)), dict(version.decisions.notes)
    for one in decided.values():
        row = row_of[one.id]
        codes[row] = 0 if one.decision == UNDECIDED else DECISIONS.index(one.decision)
        notes[row] = one.note
    notes = {row: note for row, note in sorted(notes.items()) if note}
    rows = np.union1d(np.flatnonzero(codes), np.array([*notes], np.int64))
    return Decisions(rows, codes[rows], notes)


def _changed(count: int, one: Decisions, other: Decisions) -> int:
    rows = set(np.flatnonzero(one.codes(count) != other.codes(count)).tolist())
    return len(rows | {row for row in {*one.notes, *other.notes} if one.notes.get(row) != other.notes.get(row)})


def _statuses(version: Version, decisions: Decisions) -> np.ndarray:
    """`(N,) uint8`. A rejection that is taken back gives the status of before: a fallback has a reason, ok has none."""
    status = version.status.copy()
    freed = np.setdiff1d(np.flatnonzero(status == Status.REJECTED), decisions.rejected)
    for row, (_, reason) in zip(freed.tolist(), version.reasons(freed), strict=True):
        status[row] = Status.FALLBACK if reason else Status.OK
    status[decisions.rejected] = Status.REJECTED
    return status


def _metadata(version: Version, decisions: Decisions) -> dict[str, object]:
    """The parent's provenance, for it made the masks, and what was decided."""
    parent = version.provenance
    digest = hashlib.sha256()
    for row, code in zip(decisions.rows.tolist(), decisions.code.tolist(), strict=True):
        digest.update(json.dumps([version.ids[row], code, decisions.notes.get(row, "")]).encode())
    operation = {
        "kind": "decide",
        "accepted": int((decisions.code == ACCEPTED).sum()),
        "rejected": int((decisions.code == REJECTED).sum()),
        "sha256": digest.hexdigest(),
    }
    identity = [parent["fingerprint"], operation, version.tag, parent["published_at"]]
    left_out = ("schema", "counts", "sequence", "published_at", "resumed", "name")
    return {name: value for name, value in parent.items() if name not in left_out} | {
        "build_id": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        "operation": operation,
        "parent": version.tag,
        "created_at": timestamp(),
        "host": socket.gethostname(),
    }


def _summary(tag: str, parent: Version, decisions: Decisions, changed: int, already_there: bool) -> DecideSummary:
    accepted, rejected = len(decisions.accepted), len(decisions.rejected)
    return DecideSummary(tag, parent.tag, len(parent), accepted, rejected, changed, already_there)
