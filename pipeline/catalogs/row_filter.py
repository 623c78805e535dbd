"""A choice of rows, `split=train and class in (cat, dog)`, or a file of ids: `--only`.

    choice      = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" choice ")" | comparison
    comparison  = field ( "=" | "!=" ) value | field [ "not" ] "in" "(" value { "," value } ")"
    field       = "id" | "split" | "class" | "label" | "status"
    value       = a word, or any text in quotes, ' or ", within which a backslash quotes the next character

id      with the wildcards * ? [...], of which * also stands for a slash
split   train, val, test or none, in every spelling that lists may use
class   by its name; label by its number, -1 for none
status  ok, fallback, undecodable, ...; only of rows that have one, those of a store

Names are also found that are the same text in another Unicode normal form, where none is exactly as written.

"and", "or", "not" and "in" may be in capitals. Lists and chains may be of any length, brackets 100 deep.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CatalogError, did_you_mean, os_error_reason
from ..status import Status
from .catalog import SPLITS, Catalog, split_code
from .unicode_names import name_among, normal_form

FIELDS = ("id", "split", "class", "label", "status")

MAX_DEPTH = 100
"""Of brackets and `not`; far below what Python's stack holds."""

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
      | (?P<sign> != | == | = | , | \( | \) )
      | (?P<word> [^\s'"=!,()]+ )
    )""",
    re.VERBOSE | re.DOTALL,
)

Select = Callable[[Catalog, np.ndarray | None], np.ndarray]


@dataclass(frozen=True)
class RowFilter:
    """Chooses rows of a catalog. `text` is what was written; `ids` those of a file, else None."""

    text: str
    ids: tuple[str, ...] | None
    _select: Select

    def rows(self, catalog: Catalog, status: np.ndarray | None = None) -> np.ndarray:
        """`(N,) bool`: the rows that are chosen.

        status  (N,) uint8 of the rows, where they have one

        Raises CatalogError for a class, split or id that the catalog does not have, and where no row is chosen.
        """
        chosen = self._select(catalog, status)
        if not chosen.any():
            raise CatalogError(
                f"--only {_shown(self.text)}: none of {len(catalog)} images; `locloc masks show` lists them"
            )
        return chosen


def read_row_filter(only: str) -> RowFilter:
    """A choice, or the name of a file with an id a line. Raises CatalogError that says where a choice is wrong."""
    file = Path(only)
    if not only.strip():
        raise CatalogError("--only is empty; write a choice, such as split=train, or name a file with an id a line")
    if not re.search(r"[=([<>]", only) or (len(only) < 4096 and _is_file(file)):
        return _read_ids(file)
    return RowFilter(only, None, _Parser(only).parse())


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:160]} ..."


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a choice that is too long for a name
        return False


def _read_ids(file: Path) -> RowFilter:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = os_error_reason(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise CatalogError(
            f"--only {file} cannot be read: {reason}; name a file with an id a line, or a choice such as split=train"
        ) from None
    numbered = {line.rstrip("\r"): number for number, line in reversed(list(enumerate(lines, 1))) if line.strip()}
    ids = tuple(sorted(numbered))
    if not ids:
        raise CatalogError(f"--only {file} is empty; write an id a line")

    def select(catalog: Catalog, _: np.ndarray | None) -> np.ndarray:
        row_of = _rows_of(ids, catalog.table["id"].to_pylist())
        unknown = [image_id for image_id in ids if image_id not in row_of]
        if unknown:
            first = min(unknown, key=numbered.__getitem__)
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise CatalogError(f"{file}:{numbered[first]}: no image has the id {first!r}{more}")
        chosen = np.zeros(len(catalog), bool)
        chosen[[row_of[image_id] for image_id in ids]] = True
        return chosen

    return RowFilter(str(file), ids, select)


def _rows_of(wanted: tuple[str, ...], ids: list[str]) -> dict[str, int]:
    """The row of each wanted id that is there, or the only one that is the same text in another normal form."""
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    if not all(map(row_of.__contains__, wanted)):
        alike = Counter(map(normal_form, ids))
        in_form = {normal_form(image_id): row for image_id, row in row_of.items()}
        others = {one: normal_form(one) for one in wanted if one not in row_of}
        row_of |= {one: in_form[form] for one, form in others.items() if alike[form] == 1}
    return row_of


class _Parser:
    """Recursive descent, a method a rule of the grammar."""

    def __init__(self, text: str):
        self.text, self.at, self.depth = text, 0, 0
        self.tokens: list[tuple[str, str, int]] = []  # kind, value, position
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                self._fail(position + len(text[position:]) - len(text[position:].lstrip()), "cannot be read")
            assert match is not None and match.lastgroup is not None
            value = match[match.lastgroup]
            if match.lastgroup == "quoted":
                value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
            self.tokens.append((match.lastgroup, value, match.start(match.lastgroup)))
            position = match.end()

    def parse(self) -> Select:
        select = self._choice()
        if self.at < len(self.tokens):
            self._unexpected("`and` or `or`")
        return select

    def _choice(self) -> Select:
        parts = [self._conjunction()]
        while self._take("word", "or"):
            parts.append(self._conjunction())
        return _any(parts)

    def _conjunction(self) -> Select:
        parts = [self._negation()]
        while self._take("word", "and"):
            parts.append(self._negation())
        return _neither(_any([_neither(part) for part in parts])) if len(parts) > 1 else parts[0]

    def _negation(self) -> Select:
        position = self._peek()[2]
        if self._take("word", "not"):
            self._deeper(position)
            select = _neither(self._negation())
        elif self._take("sign", "("):
            self._deeper(position)
            select = self._choice()
            self._expect(")")
        else:
            return self._comparison()
        self.depth -= 1
        return select

    def _deeper(self, position: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self._fail(position, f"more than {MAX_DEPTH} brackets or `not` within each other")

    def _comparison(self) -> Select:
        kind, field, position = self._peek()
        if kind != "word" or field not in FIELDS:
            known = did_you_mean(field, FIELDS) if kind == "word" else f"; known: {', '.join(FIELDS)}"
            self._fail(position, f"no field {field!r}{known}" if field else "it ends where a field should follow")
        self.at += 1
        if self._take("sign", "!="):
            return _neither(_equals(field, self._value()))
        if self._take("sign", "=") or self._take("sign", "=="):
            return _equals(field, self._value())
        negated = self._take("word", "not")
        if not self._take("word", "in"):
            self._unexpected("=, != or in")
        self._expect("(")
        parts = [_equals(field, self._value())]
        while self._take("sign", ","):
            parts.append(_equals(field, self._value()))
        self._expect(")")
        return _neither(_any(parts)) if negated else _any(parts)

    def _value(self) -> str:
        kind, value, _ = self._peek()
        if kind not in ("word", "quoted"):
            self._unexpected("a value")
        self.at += 1
        return value

    def _peek(self) -> tuple[str, str, int]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "", len(self.text))

    def _take(self, kind: str, value: str) -> bool:
        found_kind, found_value, _ = self._peek()
        found = found_kind == kind and found_value.lower() == value
        self.at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._take("sign", sign):
            self._unexpected(sign)

    def _unexpected(self, wanted: str) -> None:
        kind, value, position = self._peek()
        self._fail(position, f"{value!r} where {wanted} should be" if kind != "end" else f"it ends before {wanted}")

    def _fail(self, position: int, problem: str) -> None:
        raise CatalogError(
            f"--only {_shown(self.text)}: at character {position + 1}, {problem}; write it as "
            "'split=train and class in (cat, \"big dog\")'"
        )


def _equals(field: str, value: str) -> Select:
    def select(catalog: Catalog, status: np.ndarray | None) -> np.ndarray:
        if field == "id":
            return _matching(catalog, value)
        if field == "split":
            return catalog.table["split"].to_numpy() == _split(value)
        if field == "status":
            if status is None:
                raise CatalogError(f"--only status={value}: these images are of no store, so they have no status")
            return status == _status(value)
        labels = catalog.table["label"].to_numpy()
        return labels == (_label_of_class(catalog, value) if field == "class" else _label(value))

    return select


def _matching(catalog: Catalog, pattern: str) -> np.ndarray:
    ids = catalog.table["id"].to_pylist()
    exact = np.array([image_id == pattern for image_id in ids])
    if exact.any():
        return exact
    written, normal = (re.compile(fnmatch.translate(text)).match for text in (pattern, normal_form(pattern)))
    return np.array([bool(written(name) or (not name.isascii() and normal(normal_form(name)))) for name in ids])


def _split(value: str) -> int:
    code = 0 if value.lower() in ("none", "") else split_code(value)
    if code is None:
        raise CatalogError(f"--only split={value}: no such split{did_you_mean(value, [*SPLITS[1:], 'none'])}")
    return code


def _status(value: str) -> int:
    labels = {status.label: int(status) for status in Status}
    if value not in labels:
        raise CatalogError(f"--only status={value}: no such status{did_you_mean(value, labels)}")
    return labels[value]


def _label(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise CatalogError(f"--only label={value}: a label is a whole number; names are of `class`") from None


def _label_of_class(catalog: Catalog, value: str) -> int:
    if (name := name_among(value, catalog.classes)) is not None:
        return catalog.classes.index(name)
    if not catalog.classes:
        raise CatalogError(f"--only class={value}: these classes have no names; write label={value}")
    close = did_you_mean(value, catalog.classes) if len(catalog.classes) <= 20 else _close(value, catalog)
    raise CatalogError(f"--only class={value}: no such class{close}")


def _close(value: str, catalog: Catalog) -> str:
    known = did_you_mean(value, catalog.classes)
    return known if "did you mean" in known else f" among {len(catalog.classes)}"


def _any(parts: list[Select]) -> Select:
    def select(catalog: Catalog, status: np.ndarray | None) -> np.ndarray:
        chosen = np.zeros(len(catalog), bool)
        for part in parts:
            chosen |= part(catalog, status)
        return chosen

    return parts[0] if len(parts) == 1 else select


def _neither(select: Select) -> Select:
    return lambda catalog, status: ~select(catalog, status)
