"""`Version.to_supervision`, with a stand-in for the package, which the tests do without."""

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from locloc.pipeline.errors import StoreError


@dataclass
class Detections:
    """The fields of supervision's class."""

    xyxy: np.ndarray
    mask: np.ndarray | None = None
    class_id: np.ndarray | None = None
    data: dict = field(default_factory=dict)

    @classmethod
    def empty(cls) -> "Detections":
        return cls(np.zeros((0, 4), np.float32), class_id=np.zeros(0, int))


@pytest.fixture
def supervision(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=Detections))


@pytest.fixture
def version(tmp_path, write, made, ids):
    return write(tmp_path / "masks.store", made(ids[:10]), tmp_path / "images")


def test_masks_and_boxes_are_at_the_images_size(version, supervision, ids):
    found = version.to_supervision()
    assert list(found) == ids[:10]
    for image_id, one in found.items():
        row = version.row(image_id)
        if 3 <= row <= 7:  # without a mask
            assert len(one.xyxy) == len(one.class_id) == 0
            continue
        assert np.array_equal(one.mask[0], version.mask(image_id, "original")) and one.mask.shape == (1, 48, 64)
        assert np.array_equal(one.xyxy[0], version.box(image_id))
        assert (one.class_id.tolist(), one.data["class_name"].tolist()) == ([row % 3], ["abc"[row % 3]])
        assert one.data["id"].tolist() == [image_id]


def test_rows_are_chosen_as_everywhere(version, supervision, ids):
    assert list(version.to_supervision([ids[2], ids[0]])) == [ids[2], ids[0]]
    assert list(version.to_supervision(slice(8, None))) == ids[8:10]
    with pytest.raises(StoreError, match="holds no image 'x'"):
        version.to_supervision(["x"])


def test_without_supervision_a_line_says_what_installs_it(version, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(StoreError, match=r"as supervision.Detections needs supervision: pip install supervision$"):
        version.to_supervision([0])
