"""Boxes as lists write them."""

import pytest

from locloc.pipeline.catalogs.lists.box_text import parse_boxes


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


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1 2 3 4 5", r"are not \[\[x0, y0, x1, y1\], ...\], or x0 y0 x1 y1 with semicolons between several$"),
        ("1,5 2,5 3,5 4", "; write decimals with a point$"),
        ("1,2,3,4", "between several$"),
    ],
)
def test_what_are_no_boxes(value, says):
    with pytest.raises(ValueError, match=says):
        parse_boxes(value)
