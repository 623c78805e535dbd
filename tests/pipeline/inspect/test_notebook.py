"""What a notebook shows of a version."""

import base64
import io
import re

import numpy as np
from PIL import Image

from locloc.pipeline.inspect.notebook import SIDE_PX, THUMBNAILS
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.reader import Version


def test_repr_counts_rows_by_status(tmp_path, write, made, ids):
    version = write(tmp_path / "masks.store", made(ids), tmp_path / "images")
    assert repr(version) == (
        f"Version('{version.name}': 145 ok, 1 fallback, 1 undecodable, 1 non-finite, 1 missing, 1 crashed)"
    )


def test_repr_of_what_cannot_be_read_is_its_name(tmp_path):
    version = Version(StoreLocation.of(tmp_path / "nowhere.store"), "v1")
    assert repr(version) == f"Version('{tmp_path}/nowhere.store@v1')"


def test_html_has_counts_and_thumbnails(tmp_path, write, made, ids):
    content = made(ids)
    image = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), (10, 200, 30), np.uint8)).save(image, "PNG")
    content.files[:] = [image.getvalue()] * len(ids)
    (tmp_path / "a&b").mkdir()
    version = write(tmp_path / "a&b" / "masks.store", content, tmp_path / "images")
    html = version._repr_html_()
    assert "a&amp;b/masks.store@v1</b>: 146 of 150 images have masks (145 ok, 1 fallback, " in html
    thumbnails = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", html)]
    assert [thumbnail.size for thumbnail in thumbnails] == [(SIDE_PX, SIDE_PX)] * THUMBNAILS
    greens = [np.asarray(thumbnail).reshape(-1, 3)[:, 1].max() for thumbnail in thumbnails]
    assert min(greens) > 180, "the image shows through the mask"
    assert "<script" not in html and "http" not in html


def test_html_without_the_images_shows_masks_alone(tmp_path, write, made, ids):
    version = write(tmp_path / "masks.store", made(ids), tmp_path / "images")  # whose files are no images
    assert version._repr_html_().count("<img ") == THUMBNAILS
