"""Which pixels ground truth was drawn on: the values of `--boxes-in` and `--masks-in`."""

from typing import Literal, get_args

from ...errors import TruthError, check_known

BoxesIn = Literal["upright", "stored"]
"""Pixels that ground truth is drawn in: of the image as viewers show it, or as its file stores it."""


def check_boxes_in(boxes_in: str, option: str = "--boxes-in") -> None:
    """Raises TruthError unless `boxes_in`, the value of `option`, is one of BoxesIn."""
    check_known(TruthError, option, boxes_in, get_args(BoxesIn))
