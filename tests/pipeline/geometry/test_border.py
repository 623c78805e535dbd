"""The border of a token grid."""

import pytest

from locloc.pipeline.geometry.border import border_width


@pytest.mark.parametrize("side, width", [(1, 1), (14, 1), (16, 1), (24, 2), (32, 2), (37, 2)])
def test_the_border_grows_with_the_grid(side, width):
    assert border_width(side, side) == width
