"""Scenes: same seed, same bytes; truth that fits the image; and a catalog that reads them back."""

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError
from locloc.pipeline.synthetic import dataset, make_scene, split_of, write_dataset
from locloc.pipeline.synthetic.scene import MAX_AREA, MIN_AREA


@pytest.mark.parametrize("index", range(0, 40, 3))
def test_truth_fits_the_image(index):
    scene = make_scene(11, index, 10)
    height, width = scene.mask.shape
    assert scene.rgb.shape == (height, width, 3) and scene.rgb.dtype == np.uint8
    assert min(height, width) >= 200 and max(height, width) <= 400
    assert MIN_AREA <= scene.mask.mean() <= MAX_AREA
    rows, columns = np.flatnonzero(scene.mask.any(1)), np.flatnonzero(scene.mask.any(0))
    assert scene.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert 0 <= scene.label < 10
    inside, outside = scene.rgb[scene.mask].mean(0), scene.rgb[~scene.mask].mean(0)
    assert scene.rgb.std() > 10 and np.abs(inside - outside).max() > 3


def test_a_scene_depends_on_seed_and_index_alone():
    first = [make_scene(5, index, 10) for index in range(4)]
    again = [make_scene(5, index, 10) for index in (3, 1, 0, 2)]
    for mine, other in zip((first[3], first[1], first[0], first[2]), again, strict=True):
        assert np.array_equal(mine.rgb, other.rgb) and np.array_equal(mine.mask, other.mask)
    assert (
        not np.array_equal(first[0].mask.shape, make_scene(6, 0, 10).mask.shape)
        or (first[0].mask != make_scene(6, 0, 10).mask).any()
    )


def test_masks_are_what_they_were():
    """Golden: figures in docs/pocket.md hold for these scenes. Images may differ by a grey level between CPUs."""
    masks, means = hashlib.sha256(), []
    for index in range(5):
        scene = make_scene(3, index, 20)
        masks.update(np.packbits(scene.mask).tobytes() + str((scene.mask.shape, scene.box, scene.label)).encode())
        means.append(float(scene.rgb.mean()))
    assert masks.hexdigest()[:16] == "013a059801b161cf"
    assert means == pytest.approx([95.043, 87.44, 78.517, 130.743, 117.059], abs=0.05)


def test_a_data_set_is_written_twice_alike_and_read_back(tmp_path):
    for name in ("one", "two"):
        write_dataset(tmp_path / name, 20, 4, 9)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert len(files) == 41
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)

    catalog = read_catalog(tmp_path / "one", "synthetic")
    assert catalog.kind == "synthetic"
    assert len(catalog) == 20
    assert catalog.sha256 == read_catalog(tmp_path / "two", "synthetic").sha256
    rows = catalog.table.to_pylist()
    assert {row["split"] for row in rows} == {1, 2, 3}
    for index in (0, 7, 19):
        scene, row = make_scene(9, index, 4), rows[index]
        assert (row["id"], row["path"]) == (f"{index:06}", f"images/{index:06}.jpg")
        assert (row["label"], row["boxes"]) == (scene.label, [list(scene.box)])
        truth = cv2.imread(str(tmp_path / "one" / "masks" / f"{index:06}.png"), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(truth > 127, scene.mask)


def test_a_larger_set_extends_a_smaller_one():
    assert [split_of(index) for index in range(10)].count("train") == 6
    assert {split_of(index) for index in range(10)} == {"train", "val", "test"}


def test_another_folder_is_no_synthetic_catalog(tmp_path):
    with pytest.raises(
        CatalogError, match=r"holds no list\.csv, as `locloc data synth` writes; for others give --catalog"
    ):
        read_catalog(tmp_path, "synthetic")


def test_boxes_in_the_list_are_json(tmp_path):
    write_dataset(tmp_path, 1, 1, 0)
    header, line = (tmp_path / "list.csv").read_text().splitlines()
    assert header == "path,id,label,split,boxes"
    assert json.loads(line.split(",", 4)[4].strip('"')) == [list(make_scene(0, 0, 1).box)]


@pytest.mark.parametrize("fails_in", ["write_atomic", "make_scene"])
def test_scenes_replace_what_an_error_or_a_kill_left(tmp_path, monkeypatch, fails_in):
    left = []

    def fail(*args: object) -> None:
        shutil.copytree(tmp_path / "scenes", tmp_path / "killed", dirs_exist_ok=True)  # before anything is closed
        left.extend(tmp_path.glob("killed/*"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, fails_in, fail)
    with pytest.raises(CatalogError, match="no space left"):
        write_dataset(tmp_path / "scenes", 2, 1, 1)
    monkeypatch.undo()
    assert len(left) == (3 if fails_in == "make_scene" else 0)
    for folder in ("scenes", "killed"):
        write_dataset(tmp_path / folder, 2, 1, 1, overwrite=True)


def test_scenes_replace_scenes_when_asked_and_nothing_else(tmp_path):
    write_dataset(tmp_path / "scenes", 3, 1, 0)
    with pytest.raises(CatalogError, match="holds earlier results; replace them with --overwrite"):
        write_dataset(tmp_path / "scenes", 2, 1, 1)
    write_dataset(tmp_path / "scenes", 2, 1, 1, overwrite=True)
    assert len(list((tmp_path / "scenes").rglob("*.*"))) == 5
    (tmp_path / "scenes" / "images" / "cat.jpg").write_bytes(b"a photograph")
    with pytest.raises(CatalogError, match=r"holds images/cat\.jpg"):
        write_dataset(tmp_path / "scenes", 2, 1, 1, overwrite=True)
    assert (tmp_path / "scenes" / "images" / "cat.jpg").read_bytes() == b"a photograph"
