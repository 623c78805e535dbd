"""Which rows of a version are exported, why others are not, and the classes that they have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import StoreError, check_known
from ..inspect.true_objects import NO_SPLIT, rows_of_split
from ..status import DONE, Status
from ..store.reader import Version
from .options import ExportOptions

OBJECT = "object"
"""The class of images without label."""


@dataclass(frozen=True)
class ChosenRows:
    """The rows to export.

    rows      (n,) int64, ascending
    table     n rows: the columns of `Version.table`
    classes   names by number; an image without label has the last one, `object`
    left_out  other rows, counted by why
    """

    rows: np.ndarray
    table: pa.Table
    classes: tuple[str, ...]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_quality(self) -> bool:
        """Whether the quality of any row is known."""
        return self.table["quality"].null_count < len(self)

    def class_number(self, label: int) -> int:
        """A row's label > the number of its class."""
        return label if label >= 0 else len(self.classes) - 1


def choose_rows(version: Version, options: ExportOptions) -> ChosenRows:
    """The rows with a mask that the options ask for.

    Raises StoreError where none is left, for a class or split that the version does not have, and for `min_quality`
    where it has no quality.
    """
    table, status = version.table, version.status
    names = tuple(version.provenance["catalog"]["classes"])
    labels = table["label"].to_numpy()
    kept = np.ones(len(table), bool)
    left_out: dict[str, int] = {}

    def leave(out: np.ndarray, why: str) -> None:
        if count := int(np.count_nonzero(kept & out)):
            left_out[why] = count
        kept[out] = False

    for one in Status:
        if one not in DONE:
            leave(status == one, one.label)
    if options.split is not None:
        rows = rows_of_split(version, options.split)
        leave(~np.isin(np.arange(len(table)), rows), f"not in split {options.split}")
    if options.classes:
        wanted = _labels_of(options.classes, names, labels)
        leave(~np.isin(labels, wanted), "of other classes")
    if options.min_quality is not None:
        quality = pc.fill_null(table["quality"].cast(pa.float64()), 0.0).to_numpy()
        if not quality[kept].any():
            raise StoreError(
                f"{version.name} has no quality of its masks, by which --min-quality {options.min_quality:g} could "
                "choose: an older release made it, or they were imported; leave it out"
            )
        leave(quality == 0, "of unknown quality")
        leave(quality < options.min_quality, f"below quality {options.min_quality:g}")
    chosen = np.flatnonzero(kept)
    if not len(chosen):
        reasons = ", ".join(f"{count} {why}" for why, count in left_out.items())
        raise StoreError(
            f"{version.name} has no row to export: {reasons}; `locloc masks show {version.name}` counts them"
        )
    return ChosenRows(chosen, table.take(pa.array(chosen)), _class_names(names, labels[chosen]), left_out)


def _class_names(names: tuple[str, ...], labels: np.ndarray) -> tuple[str, ...]:
    numbered = names or tuple(map(str, range(int(labels.max()) + 1)))
    return (*numbered, OBJECT) if (labels < 0).any() else numbered


def _labels_of(wanted: Sequence[str], names: tuple[str, ...], labels: np.ndarray) -> list[int]:
    """Names of classes, alone or several with commas, > labels. Raises StoreError for an unknown one."""
    known = {name: number for number, name in enumerate(names)}
    known = known or {str(label): label for label in np.unique(labels[labels >= 0]).tolist()}
    found = []
    for given in wanted:
        for name in [given] if given in known else given.split(","):
            check_known(StoreError, "class", name.strip(), known)
            found.append(known[name.strip()])
    return found


def split_name(text: str) -> str:
    """A split for names of files: `none` where there is none."""
    return text or NO_SPLIT
