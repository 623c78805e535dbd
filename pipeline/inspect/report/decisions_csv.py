"""`decisions.csv`: what a person decided about masks, as the report's page exports it and `masks decide` reads it.

    id,decision,note
    cats/1.jpg,rejected,"the ear is missing"
    cats/2.jpg,accepted,

UTF-8, quoted as RFC 4180 says. The column `note` may be missing, and further columns are ignored; columns may be
separated by semicolons or tabs, as spreadsheets save them. `undecided` takes back what a parent version has.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...catalogs.lines import open_text
from ...errors import StoreError, did_you_mean, os_error_reason
from ...status import HAS_MASK, Status
from ...store.decisions import UNDECIDED
from ...store.reader import Version

HEADER = ("id", "decision", "note")
WORDS = ("accepted", "rejected", UNDECIDED)

_FIELD_CHARS = 2**31 - 1  # csv's own limit is 131,072


@dataclass(frozen=True)
class Decision:
    """One line of the file."""

    id: str
    decision: str  # one of WORDS
    note: str
    line: int  # where it begins, from 1
    file: str = ""  # that it stands in

    @property
    def place(self) -> str:
        """What an error line begins with."""
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"


def read_decisions_csv(file: Path) -> dict[str, Decision]:
    """The decisions by id. Equal lines about one id count once; their notes are joined.

    Raises StoreError, with file and line: no such file, no decision in it, a column that is missing, an unknown word,
    two lines that contradict each other.
    """
    decisions: dict[str, Decision] = {}
    for one in _lines(file):
        before = decisions.get(one.id)
        if before is None:
            decisions[one.id] = one
        elif before.decision != one.decision:
            raise StoreError(
                f"{file}:{one.line}: {one.id!r} is {one.decision} here and {before.decision} in line {before.line}; "
                "leave one of the two lines"
            )
        elif one.note and one.note not in before.note.split("; "):
            note = "; ".join(filter(None, (before.note, one.note)))
            decisions[one.id] = replace(before, note=note)
    if not decisions:
        raise StoreError(f"{file} holds no decision; export it from the page of `locloc masks report`")
    return decisions


def rows_of_decisions(version: Version, decisions: Mapping[str, Decision]) -> dict[str, int]:
    """The row of each decision's image, by id.

    Raises StoreError, with file and line, for images that the version does not have, and for a decision about one that
    has no mask.
    """
    row_of = {image_id: row for row, image_id in enumerate(version.ids)}
    unknown = [one for one in decisions.values() if one.id not in row_of]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise StoreError(
            f"{unknown[0].place}: {version.name} holds no image {unknown[0].id!r}{more}; is the file of another store "
            "or version?"
        )
    for one in decisions.values():
        status = Status(version.status[row_of[one.id]])
        if status not in HAS_MASK and one.decision != UNDECIDED:
            raise StoreError(
                f"{one.place}: {one.id!r} has no mask to decide about in {version.name} (status {status.label}); "
                "leave that line out"
            )
    return {image_id: row_of[image_id] for image_id in decisions}


def decisions_csv(decisions: Iterable[tuple[str, str, str]]) -> str:
    """The text of the file. decisions: id, one of WORDS, note."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\r\n")
    lines.writerow(HEADER)
    lines.writerows(decisions)
    return text.getvalue()


def _lines(file: Path) -> Iterator[Decision]:
    limit = csv.field_size_limit(_FIELD_CHARS)
    line = 1
    try:
        with open_text(file) as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = next((one for one in ",;\t" if one in first), ",")
            records = csv.reader(stream, delimiter=delimiter, strict=True)
            header = [name.strip().lower() for name in next(records, [])]
            for name in HEADER[:2]:
                if header.count(name) != 1:
                    found = "no column" if name not in header else "two columns"
                    raise StoreError(f"{file}:1: {found} {name!r}; the first line is `{','.join(HEADER)}`")
            line = records.line_num + 1
            for record in records:
                if record:
                    yield _decision(file, line, header, record)
                line = records.line_num + 1
    except csv.Error as error:
        raise StoreError(f"{file}:{line}: broken CSV ({error}); export it again") from None
    except UnicodeError:
        raise StoreError(f"{file}:{line}: it is not UTF-8; save it as CSV UTF-8") from None
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {os_error_reason(error)}") from None
    finally:
        csv.field_size_limit(limit)


def _decision(file: Path, line: int, header: list[str], record: list[str]) -> Decision:
    if len(record) != len(header):
        raise StoreError(f"{file}:{line}: {len(record)} fields where the first line has {len(header)}")
    fields = dict(zip(header, record, strict=True))
    word = fields["decision"].strip().lower()
    if word not in WORDS:
        raise StoreError(f"{file}:{line}: no decision {fields['decision']!r}{did_you_mean(word, WORDS)}")
    if not fields["id"]:
        raise StoreError(f"{file}:{line}: a decision about no id; name the image")
    return Decision(fields["id"], word, fields.get("note", "").strip(), line, str(file))
