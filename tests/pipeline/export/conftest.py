"""A version of real images, with objects that have parts and holes, and some without a mask."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.status import Status


def shape(rng, side=32):
    """A mask `(side, side) bool` of blobs with holes."""
    noise = cv2.GaussianBlur(rng.random((side, side)), (0, 0), 2.5)
    return noise > np.quantile(noise, 0.7)


@pytest.fixture(scope="module")
def content(made):
    """80 rows: every status in the rows from 3 to 7, an empty mask in row 3, three classes and splits."""
    content = made([f"part {n % 4}/im.{n:03}.jpg" for n in range(80)])
    rng = np.random.default_rng(0)
    done = np.isin(content.status, (Status.OK,))
    content.masks[done] = [shape(rng) for _ in range(int(done.sum()))]
    for row in range(len(content.ids)):
        file = io.BytesIO()
        pixels = rng.integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(file, "jpeg")
        content.files[row] = file.getvalue()
    content.splits = [row % 4 for row in range(80)]
    return content


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for part in range(4):
        (folder / f"part {part}").mkdir()
    return folder


@pytest.fixture(scope="module")
def version(tmp_path_factory, write, content, images):
    return write(tmp_path_factory.mktemp("stores") / "masks.store", content, images)
