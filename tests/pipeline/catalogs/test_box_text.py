"""Boxes as lists write them."""

import pytest

from locloc.pipeline.catalogs.box_text import parse_boxes


@pytest.mark.parametrize(
    ("value", "boxes"),
    [
        (None, []),
        ("", []),
        ("[]", []),
        ([], []),
        ("1 2 3 4", [[1, 2, 3, 4]]),
        (" 1 2 3 4 ; 5 6 7 8.5; ", [[1, 2, 3, 4], [5, 6, 7, 8.5]]),
        ("[1, 2, 3, 4]", [[1, 2, 3, 4]]),
        ([[1, 2, 3, 4]], [[1, 2, 3, 4]]),
    ],
)
def test_boxes_in_every_form(value, boxes):
    assert list(parse_boxes(value)) == boxes
