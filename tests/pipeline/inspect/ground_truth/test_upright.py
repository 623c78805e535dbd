"""True masks by row: what cannot be read is left out, counted and named, or refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import TruthError
from locloc.pipeline.inspect.ground_truth.masks import find_truth
from locloc.pipeline.inspect.ground_truth.upright import UprightMasks


def masks_of(folder: Path, count: int, damaged: int) -> UprightMasks:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[5:12, 6:20] = 255
    for number in range(count):
        Image.fromarray(drawn).save(folder / f"{number:02}.png")
    for number in range(damaged):
        (folder / f"{number:02}.png").write_bytes(b"damaged")
    paths = [f"{number:02}.jpg" for number in range(count)]
    frames = np.tile([30, 20], (count, 1)), np.ones(count, np.uint8)
    return UprightMasks(
        find_truth(paths, folder, None, folder / "images"), paths, folder, lambda rows: frames, "upright"
    )


def test_a_few_unreadable_masks_are_left_out_and_named(tmp_path):
    masks = masks_of(tmp_path, 10, damaged=2)
    assert [masks.mask(row) is not None for row in range(10)] == [False] * 2 + [True] * 8
    (line,) = masks.warnings()
    assert "2 of 10 true masks cannot be read" in line and "00.png" in line and "left out" in line


def test_many_unreadable_masks_are_refused(tmp_path):
    masks = masks_of(tmp_path, 10, damaged=3)
    with pytest.raises(TruthError, match="3 of 10 true masks cannot be read"):
        [masks.mask(row) for row in range(10)]


def test_no_readable_mask_is_refused(tmp_path):
    with pytest.raises(TruthError, match="00.png"):
        masks_of(tmp_path, 2, damaged=2)
