"""Which classes a classifier takes for which: a table of all of them, or the pairs that are most often confused."""

from dataclasses import dataclass

import numpy as np

from ...pipeline.io.fonts import visible

MOST_CLASSES = 50
"""In a table; of more, only pairs are shown."""

MOST_PAIRS = 20


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were taken for another."""

    label: str
    guess: str
    count: int
    of: int  # images of the class


@dataclass(frozen=True)
class ConfusionRow:
    """One class of the table."""

    number: int
    name: str
    images: int
    counts: list[int]  # taken for each of the table's classes

    def shade(self, count: int) -> float:
        """0..1, by the square root of the share: one error in a hundred is still seen."""
        return (count / self.images) ** 0.5 if self.images else 0.0


@dataclass(frozen=True)
class Confusion:
    """Of images whose class is known."""

    images: int
    right: int
    classes: int  # that images have or are taken for
    rows: list[ConfusionRow]  # empty for more classes than MOST_CLASSES
    pairs: list[ConfusedPair]  # most frequent first


def confusion(labels: np.ndarray, guesses: np.ndarray, names: tuple[str, ...] = ()) -> Confusion | None:
    """labels, guesses `(n,) int`, negative where there is none; None if no image has both. names: of classes."""
    known = (labels >= 0) & (guesses >= 0)
    labels, guesses = labels[known], guesses[known]
    if not len(labels):
        return None
    used, numbers = np.unique(np.concatenate([labels, guesses]), return_inverse=True)
    true, taken_for = np.split(numbers, 2)
    # As pairs and not as a square: ImageNet's largest set has 21,843 classes.
    codes, counts = np.unique(true.astype(np.int64) * len(used) + taken_for, return_counts=True)
    images = np.bincount(true, minlength=len(used))
    rows, columns = codes // len(used), codes % len(used)
    titles = [_title(int(number), names) for number in used]
    wrong = np.flatnonzero(rows != columns)
    wrong = wrong[np.argsort(-counts[wrong], kind="stable")][:MOST_PAIRS]
    pairs = [
        ConfusedPair(titles[rows[n]], titles[columns[n]], int(counts[n]), int(images[rows[n]])) for n in wrong.tolist()
    ]
    table = []
    if len(used) <= MOST_CLASSES:
        square = np.zeros((len(used), len(used)), np.int64)
        square[rows, columns] = counts
        table = [
            ConfusionRow(int(number), titles[n], int(images[n]), square[n].tolist()) for n, number in enumerate(used)
        ]
    return Confusion(len(labels), int((labels == guesses).sum()), len(used), table, pairs)


def _title(number: int, names: tuple[str, ...]) -> str:
    return visible(names[number]) if number < len(names) and names[number] else f"class {number}"
