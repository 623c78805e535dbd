"""Labels of a list: integers, or class names, which become their index in the sorted set of names."""

import re
from array import array
from collections.abc import Callable

import numpy as np

from ...errors import CatalogError
from .list_values import MISSING_WORDS, as_text

MAX_LABEL = 2**31 - 1
LARGE_LABEL = 100_000  # a larger integer has to be below LABELS_PER_ROW times the number of rows
LABELS_PER_ROW = 10

_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"([+-]?[0-9]+)\.0*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")  # with a decimal comma too
_MISSING_AMONG_INTEGERS = frozenset(word.lower() for word in MISSING_WORDS)


class Labels:
    """Label texts as codes in order of appearance; `resolve` turns them into labels once all rows are read."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.first_lines: list[int] = []  # by code
        self.notes: list[str] = []
        self._floats = False

    def code(self, label: object, line: int) -> int:
        """-1 for no label. Raises ValueError for a value that is neither a number nor text."""
        if type(label) is str:
            text = label
        else:
            text = as_text("label", label)
            self._floats = self._floats or (isinstance(label, float) and text != "")
        code = self.codes.get(text)
        if code is None:
            text = text.strip()
            if not text:
                return -1
            text.encode()  # raises ValueError for half a surrogate pair, which JSON can hold
            code = self.codes.setdefault(text, len(self.first_lines))
            if code == len(self.first_lines):
                self.first_lines.append(line)
        return code

    def resolve(self, codes: array, at: Callable[[int], str]) -> tuple[array, list[str]]:
        """Codes (N,) > (labels (N,) int32, class names; none for integer labels). Adds to `notes`."""
        integers = {text: value for text in self.codes if (value := _integer(text)) is not None}
        words = _MISSING_AMONG_INTEGERS if integers else MISSING_WORDS
        missing = [text for text in self.codes if (text.lower() if integers else text) in words]
        names = self.codes.keys() - integers.keys() - set(missing)
        self._check_numbers(integers, names, len(codes), at)
        if integers and names:
            second = max(min(self.codes[text] for text in integers), min(self.codes[name] for name in names))
            text = next(text for text, code in self.codes.items() if code == second)
            other = "class names" if text in integers else "integers"
            raise CatalogError(
                f"{at(self.first_lines[second])}: label {text[:80]!r}, but those before it are {other}; use one kind"
            )
        classes = sorted(names)
        by_code = np.full(len(self.codes) + 1, -1, np.int32)  # the last is what code -1 means
        for label, name in enumerate(classes):
            by_code[self.codes[name]] = label
        for text, value in integers.items():
            by_code[self.codes[text]] = value
        of_rows = np.asarray(codes, np.int32)
        self._note(integers, missing, classes, of_rows)
        return array("i", by_code[of_rows].tobytes()), classes

    def _check_numbers(self, integers: dict[str, int], names: set[str], rows: int, at: Callable[[int], str]) -> None:
        """Raises CatalogError for a number that is no label, and for integers that would ask for a huge model."""
        for text, code in self.codes.items():
            if (text in integers and not 0 <= integers[text] <= MAX_LABEL) or (
                text in names and _NUMBER.fullmatch(text)
            ):
                mend = "write the number without a comma" if "," in text else "leave it empty for none"
                raise CatalogError(
                    f"{at(self.first_lines[code])}: label {text[:80]!r} is neither an integer from 0 to {MAX_LABEL} "
                    f"nor a class name; {mend}"
                )
        largest = max(integers, key=lambda text: integers[text], default=None)
        if largest is not None and integers[largest] > max(LARGE_LABEL, LABELS_PER_ROW * rows):
            raise CatalogError(
                f"{at(self.first_lines[self.codes[largest]])}: label {largest} in a list of {rows} images asks for a "
                f"model of {integers[largest] + 1} outputs; write class names as text (such as 'c{largest}'), which "
                "are numbered from 0"
            )

    def _note(self, integers: dict[str, int], missing: list[str], classes: list[str], codes: np.ndarray) -> None:
        counts = np.bincount(codes[codes >= 0], minlength=len(self.codes))
        if self._floats or any(not _INTEGER.fullmatch(text) for text in integers):
            self.notes.append("labels with a decimal point, such as 1.0, are read as integers")
        if missing:
            shown = ", ".join(f"{text!r} in {_rows(counts[self.codes[text]])}" for text in missing)
            self.notes.append(f"no label: {shown}")
        unusual = [name for name in classes if name.lower() in _MISSING_AMONG_INTEGERS]
        if unusual:
            shown = ", ".join(f"{name!r} in {_rows(counts[self.codes[name]])}" for name in unusual)
            self.notes.append(f"classes of these names: {shown}; leave a label empty for none")
        if sorted(classes) in (["False"], ["True"], ["False", "True"]):
            self.notes.append(f"labels true and false are read as classes named {' and '.join(classes)}")


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _integer(text: str) -> int | None:
    """The integer that a text is, also with a point and zeros after it (`1.0`); None for other texts.

    A number of a hundred digits is one that is too large: int() refuses thousands of digits with another message.
    """
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 100 else MAX_LABEL + 1
    if whole := _WHOLE.fullmatch(text):
        return int(whole[1]) if len(text) < 100 else MAX_LABEL + 1
    return None
