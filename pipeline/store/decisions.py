"""What a person decided about the masks of a version: rows accepted or rejected, each with a note.

Stored sparsely, in the group `decisions` (schema.py), which only versions of `masks decide` and those derived from them
have. The rejected rows have the status `rejected` too, so that readers which know nothing of decisions leave them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from .arrays import Array, open_subgroup, read_array
from .axes import ARRAYS
from .schema import read_text

GROUP = "decisions"

DECISIONS = (None, "accepted", "rejected")
"""By code. Stored as numbers, whose meaning must never change; rows with 0, undecided, are stored only with a note."""

ACCEPTED, REJECTED = 1, 2

UNDECIDED = "undecided"


@dataclass(frozen=True)
class Decisions:
    """D rows of a version that are decided, or have a note."""

    rows: Array = field(default_factory=lambda: np.zeros(0, np.int64))  # (D,) ascending
    code: Array = field(default_factory=lambda: np.zeros(0, np.uint8))  # (D,) of DECISIONS
    notes: Mapping[int, str] = field(default_factory=dict)  # by row, of the rows that have one

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def decided(self) -> int:
        """How many rows are accepted or rejected."""
        return int(np.count_nonzero(self.code))

    @property
    def accepted(self) -> Array:
        """Row numbers, ascending."""
        return np.asarray(self.rows[self.code == ACCEPTED])

    @property
    def rejected(self) -> Array:
        """Row numbers, ascending."""
        return np.asarray(self.rows[self.code == REJECTED])

    def codes(self, count: int) -> Array:
        """`(count,) uint8`: the code of every row of the version, 0 for undecided."""
        codes = np.zeros(count, np.uint8)
        codes[self.rows] = self.code
        return codes

    def derived(self, parent_rows: Array) -> "Decisions":
        """The decisions of a version derived from this one.

        parent_rows  `(N,)` for each row of that version its row in this one, -1 for none
        """
        codes = dict(zip(self.rows.tolist(), self.code.tolist(), strict=True))
        kept = [(row, parent) for row, parent in enumerate(parent_rows.tolist()) if parent in codes]
        rows = np.array([row for row, _ in kept], np.int64)
        code = np.array([codes[parent] for _, parent in kept], np.uint8)
        return Decisions(rows, code, {row: self.notes[parent] for row, parent in kept if parent in self.notes})


def read_decisions(root: zarr.Group) -> Decisions:
    """The decisions of a version. Raises StoreError if the notes are damaged."""
    if GROUP not in root:
        return Decisions()
    rows, code = (read_array(root, f"{GROUP}/{name}") for name in ("row", "code"))
    notes = read_text(open_subgroup(root, GROUP), "note").to_pylist()
    noted = {row: note for row, note in zip(rows.tolist(), notes, strict=True) if note}
    return Decisions(rows, code, noted)


def write_decisions(root: zarr.Group, decisions: Decisions | None) -> None:
    """Replaces the decisions of a version that is being written; without any there is no group."""
    if GROUP in root:
        del root[GROUP]
    if decisions is None or not len(decisions):
        return
    group = root.create_group(GROUP)
    notes = [decisions.notes.get(row, "").encode() for row in decisions.rows.tolist()]
    arrays: dict[str, Array] = {
        "row": decisions.rows.astype(np.int64),
        "code": decisions.code.astype(np.uint8),
        "note/offsets": np.cumsum([0, *map(len, notes)], dtype=np.int64),
        "note/bytes": np.frombuffer(b"".join(notes), np.uint8),
    }
    for name, values in arrays.items():
        axes, description = ARRAYS[f"{GROUP}/{name}"]
        array = group.create_array(
            name,
            dimension_names=axes,
            attributes={"description": description},
            shape=values.shape,
            dtype=values.dtype,
            chunks=(max(1, len(values)),),
            compressors=ZstdCodec(level=3),
            fill_value=0,
        )
        array[:] = values
