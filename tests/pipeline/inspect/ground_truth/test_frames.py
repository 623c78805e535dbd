"""Sizes and orientations of images, and catalogs whose boxes were drawn on stored pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import TruthError
from locloc.pipeline.inspect.ground_truth.boxes import boxes_of_catalog, suspicious_boxes, upright_catalog
from locloc.pipeline.inspect.ground_truth.frames import read_frames

STORED = [130.0, 20, 240, 100]
UPRIGHT = [70.0, 130, 150, 240]  # after a turn by 90 degrees clockwise


@pytest.fixture
def photos(tmp_path) -> Path:
    """a.jpg is turned by EXIF, b.jpg is upright, c.jpg is damaged."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (256, 170)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (256, 170)).save(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(b"damaged")
    return tmp_path


def catalog_of(photos: Path, **boxes: list):
    rows = CatalogRows()
    for name in ("a", "b", "c"):
        rows.add(f"{name}.jpg", f"{name}.jpg", boxes=boxes.get(name, []))
    return build_catalog("list", photos, rows, [], where=lambda row, column: "", looked_for="")


def test_sizes_are_those_of_the_upright_images(photos):
    sizes, orientation = read_frames(photos, ["a.jpg", "b.jpg", "c.jpg"], np.arange(3))
    assert sizes.tolist() == [[170, 256], [256, 170], [0, 0]]
    assert orientation.tolist() == [6, 1, 0]


def test_only_the_rows_that_are_asked_for_are_read(photos):
    sizes, _ = read_frames(photos, ["a.jpg", "b.jpg", "c.jpg"], np.array([1]))
    assert sizes.tolist() == [[0, 0], [256, 170], [0, 0]]


def test_boxes_of_stored_pixels_become_upright(photos):
    given = catalog_of(photos, a=[STORED, STORED], b=[STORED], c=[STORED])
    turned = upright_catalog(given)
    assert turned.table["boxes"].to_pylist() == [[UPRIGHT, UPRIGHT], [STORED], [STORED]]
    assert turned.table.schema == given.table.schema and turned.sha256 != given.sha256
    assert not suspicious_boxes(turned)
    assert sorted(boxes_of_catalog(given, "stored").boxes) == [0, 1, 2]


def test_the_size_that_an_annotation_names_tells_which_pixels_are_meant(photos):
    """Without it this box fits both ways."""
    either = [20.0, 20, 100, 100]
    given = catalog_of(photos, a=[either])
    assert "turned by EXIF" in suspicious_boxes(given)[0]
    named = replace(given, annotated_size=np.array([[256, 170], [0, 0], [0, 0]], np.int32))
    assert "--boxes-in stored" in suspicious_boxes(named)[0] and "cannot belong" in suspicious_boxes(named)[0]
    turned = upright_catalog(named)
    assert turned.annotated_size.tolist() == [[170, 256], [0, 0], [0, 0]]
    assert turned.table["boxes"].to_pylist()[0] == [[70.0, 20, 150, 100]]
    assert not any("cannot belong" in line for line in suspicious_boxes(turned))


def test_suspicious_boxes_are_said_before_a_build(photos):
    given = catalog_of(photos, a=[STORED])
    (line,) = suspicious_boxes(given)
    assert "--boxes-in stored; checked on 1 images" in line
    assert not suspicious_boxes(catalog_of(photos))
    with pytest.raises(TruthError):
        boxes_of_catalog(given)
    assert not boxes_of_catalog(given, rows=np.array([1])).boxes
