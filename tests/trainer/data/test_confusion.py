"""Tables of confused classes, counted by hand."""

import numpy as np
import pytest

from locloc.trainer.data.confusion import MOST_CLASSES, MOST_PAIRS, confusion


def test_a_table_of_the_classes_that_occur_and_the_pairs_most_often_confused():
    labels, guesses = np.array([0, 0, 0, 7, 7, 2, -1, 3]), np.array([0, 2, 2, 7, 0, 2, 1, -1])
    found = confusion(labels, guesses, ("ant", "bee", "cat\n"))
    assert (found.images, found.right, found.classes) == (6, 3, 3)
    assert [(row.number, row.name, row.images, row.counts) for row in found.rows] == [
        (0, "ant", 3, [1, 2, 0]), (2, "cat\\n", 1, [0, 1, 0]), (7, "class 7", 2, [1, 0, 1]),
    ]  # fmt: skip
    assert [(pair.label, pair.guess, pair.count, pair.of) for pair in found.pairs] == [
        ("ant", "cat\\n", 2, 3), ("class 7", "ant", 1, 2),
    ]  # fmt: skip
    assert found.rows[0].shade(0) == 0 and found.rows[1].shade(1) == 1


@pytest.mark.parametrize("count", [MOST_CLASSES, MOST_CLASSES + 1])
def test_many_classes_are_pairs_alone(count):
    labels = np.arange(count)
    found = confusion(labels, np.roll(labels, 1))
    assert len(found.rows) == (count if count <= MOST_CLASSES else 0)
    assert len(found.pairs) == MOST_PAIRS and found.right == 0


def test_pairs_of_very_many_classes_take_no_square():
    labels = np.arange(300_000)
    guesses = labels.copy()
    guesses[:3] = 299_999
    assert confusion(labels, guesses).right == 299_997


def test_nothing_known_is_no_table():
    assert confusion(np.array([-1, 2]), np.array([3, -1])) is None
    assert confusion(np.array([], int), np.array([], int)) is None
