"""The train, val and test rows of a version, their images and masks, and what is refused."""

import io
import os
import pickle
import uuid
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from locloc.pipeline.catalogs import SPLITS, CatalogRows, build_catalog
from locloc.pipeline.errors import TrainError, UnreachableError
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import DONE, Status
from locloc.pipeline.store import Version, open_version
from locloc.pipeline.store.schema import STATS, content_crc, input_digest, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter
from locloc.trainer.data.mask_cache import MaskCache
from locloc.trainer.data.splits import TrainingRows, load_training_rows
from locloc.trainer.data.version_images import VersionImages

SIZE = (24, 16)  # width, height of every image
SIDE = 16


class Row(NamedTuple):
    split: str = ""
    label: int = 0
    boxes: tuple[tuple[int, ...], ...] = ()
    status: Status = Status.OK
    empty: bool = False


def png(number: int) -> bytes:
    out = io.BytesIO()
    rgb = np.random.default_rng(number).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(rgb).save(out, "PNG")
    return out.getvalue()


def write_rows(
    folder: Path, rows: list[Row], kind: str = "test", classes: tuple[str, ...] = (), catalog_sha256: str = ""
) -> Version:
    """A version of images 000.png, 001.png, ... in FOLDER/images, with masks of one rectangle each."""
    found, images = CatalogRows(), folder / "images"
    images.mkdir(parents=True)
    for number, row in enumerate(rows):
        (images / f"{number:03}.png").write_bytes(png(number))
        found.add(f"{number:03}.png", f"{number:03}.png", row.label, SPLITS.index(row.split), row.boxes)
    catalog = build_catalog(kind, images, found, classes, where=lambda row, column: str(row), looked_for="")
    status = np.array([row.status for row in rows], np.uint8)
    masks = np.zeros((len(rows), SIDE, SIDE), bool)
    for number, row in enumerate(rows):
        if row.status in DONE and not row.empty:
            masks[number, number % 8 : 12, 2 : 5 + number % 11] = True
    packed, attention = pack_masks(masks), np.ones((len(rows), 1, 2, 2), np.float16)
    columns = {
        "box": np.arange(4 * len(rows), dtype=np.float32).reshape(-1, 4),
        "stats": np.tile(masks.mean((1, 2))[:, None], (1, len(STATS))).astype(np.float32),
        "status": status,
        "size": np.tile(np.array(SIZE, np.int32), (len(rows), 1)),
        "content_crc": content_crc(packed, attention),
        "input_digest": np.stack([input_digest(png(number)) for number in range(len(rows))]),
    }
    about = {
        "build_id": uuid.uuid4().hex,
        "fingerprint": "ab" * 32,
        "recipe_name": "test",
        "recipe": {"images": {"fit": "centre_crop"}, "mask_px": SIDE},
        "backbone": {"name": "none", "weights": "none", "sha256": "0" * 64},
        "catalog": {
            "kind": kind, "root": str(images), "sha256": catalog_sha256 or catalog.sha256, "rows": len(catalog),
            "classes": list(classes),
        },
        "parent": None,
        "created_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    with StoreWriter(folder / "masks.store") as writer:
        writer.begin(about, catalog, (1, 2, 2), SIDE)
        for block, start in enumerate(range(0, len(rows), 64)):
            part, fork = slice(start, start + 64), writer.fork
            write_block(fork.store, start, packed[part], attention[part])
            writer.merge(fork, block, {name: values[part] for name, values in columns.items()})
        writer.verify = writer.checkpoint  # what is wrong is published here too
        return open_version(f"{folder / 'masks.store'}@{writer.publish()}")


@pytest.fixture
def write_row(tmp_path):
    def written(rows: list[Row], **settings) -> Version:
        return write_rows(tmp_path, rows, **settings)

    return written


@pytest.fixture(scope="module")
def unsplit(tmp_path_factory) -> Version:
    """Classes 0 to 6 of 1, 2, 3, 5, 10, 20 and 40 images, shuffled, and two images without a class; no split."""
    labels = np.repeat([0, 1, 2, 3, 4, 5, 6, -1], [1, 2, 3, 5, 10, 20, 40, 2])
    labels = np.random.default_rng(0).permutation(labels)
    return write_rows(tmp_path_factory.mktemp("unsplit"), [Row(label=label) for label in labels.tolist()])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Version:
    """Two rows of each split."""
    rows = [Row(split, n % 2) for n in range(2) for split in ("train", "val", "test")]
    return write_rows(tmp_path_factory.mktemp("small"), rows, classes=("a", "b"))


def splits(rows: TrainingRows) -> tuple[list[int], list[int], list[int]]:
    return rows.train.tolist(), rows.val.tolist(), rows.test.tolist()


# --- splits ----------------------------------------------------------------------------------------------------------


def test_splits_are_the_catalog_s(small):
    rows = load_training_rows(small, None, seed=0, val_share=0.5)
    assert splits(rows) == ([0, 3], [1, 4], [2, 5])
    assert rows.labels.tolist() == [0, 0, 0, 1, 1, 1] and rows.labels.dtype == np.int64
    assert rows.ids(rows.val) == ["001.png", "004.png"]


@pytest.mark.parametrize(("seed", "share"), [(0, 0.1), (1, 0.1), (2, 0.25), (3, 0.01), (4, 0.5)])
def test_without_a_split_val_is_a_seeded_share_of_every_class(unsplit, seed, share):
    rows, again = (load_training_rows(unsplit, None, seed, share) for _ in range(2))
    train, val, test = splits(rows)
    assert splits(again) == (train, val, test)
    assert sorted(train + val) == list(range(len(unsplit))) and not test
    assert train == sorted(train) and val == sorted(val)
    sizes, chosen = Counter(rows.labels.tolist()), Counter(rows.labels[val].tolist())
    for label, size in sizes.items():
        assert chosen[label] == (max(1, round(share * size)) if size > 1 else 0), label


def test_another_seed_chooses_other_rows_and_as_many(unsplit):
    one, other = (load_training_rows(unsplit, None, seed, 0.2).val.tolist() for seed in (0, 1))
    assert one != other and len(one) == len(other)


def test_a_large_share_leaves_every_class_something_to_train_on(unsplit):
    rows = load_training_rows(unsplit, None, 0, 0.9)
    assert set(rows.labels[rows.train].tolist()) == set(rows.labels.tolist())


def test_failed_rows_do_not_count_for_the_share_of_val(write_row):
    rows = [Row(label=n // 3, status=Status.OK if n % 3 else Status.UNDECODABLE) for n in range(30)]
    assert len(load_training_rows(write_row(rows), None, 0, 0.1).val) == 10


def test_without_val_a_share_of_train_is_taken_and_never_test(write_row):
    """As in CUB."""
    rows = [Row("test" if n % 2 else "train", label=n // 2 % 4) for n in range(64)]
    version = write_row(rows)
    for seed in range(3):
        train, val, test = splits(load_training_rows(version, None, seed, 0.25))
        assert test == list(range(1, 64, 2))
        assert sorted(train + val) == list(range(0, 64, 2)) and len(val) == 8


def test_with_a_train_split_rows_of_no_split_are_left_out(write_row):
    rows = [Row("train"), Row(""), Row("val"), Row("train"), Row("")]
    assert splits(load_training_rows(write_row(rows), None, 0, 0.5)) == ([0, 3], [2], [])


def test_rows_of_no_split_are_trained_on_where_others_are_val_or_test(write_row):
    rows = [Row(""), Row("test"), Row("val"), Row("")]
    assert splits(load_training_rows(write_row(rows), None, 0, 0.5)) == ([0, 3], [2], [1])


def test_ilsvrc_is_tested_on_its_val_and_validated_on_train(write_row):
    rows = [Row("val" if n % 4 == 3 else "train", label=n % 2) for n in range(40)]
    train, val, test = splits(load_training_rows(write_row(rows, kind="ilsvrc"), None, 0, 0.2))
    assert test == list(range(3, 40, 4))
    assert sorted(train + val) == [n for n in range(40) if n % 4 != 3]
    assert len(val) == 6


# --- rows ------------------------------------------------------------------------------------------------------------


def test_failed_rows_are_in_no_split(write_row):
    rows = [Row(split, status=status) for status in list(Status)[1:] for split in ("train", "val", "test")]
    joined = load_training_rows(write_row(rows), None, 0, 0.5)
    assert splits(joined) == ([0, 3], [1, 4], [2, 5])
    assert joined.done.tolist() == [True] * 6 + [False] * 12


def test_empty_masks_are_done_but_no_masks(write_row):
    rows = [Row("train"), Row("train", empty=True), Row("val"), Row("train", status=Status.MISSING)]
    joined = load_training_rows(write_row(rows), None, 0, 0.5)
    assert joined.train.tolist() == [0, 1]
    assert joined.done.tolist() == [True, True, True, False]
    assert joined.with_mask.tolist() == [True, False, True, False]


def test_boxes_are_those_of_their_row(write_row):
    two, one = ((1, 2, 3, 4), (5, 6, 7, 8)), ((0, 0, 24, 16),)
    joined = load_training_rows(write_row([Row(), Row(boxes=two), Row(), Row(boxes=one), Row()]), None, 0, 0.5)
    assert {row: boxes.tolist() for row, boxes in joined.boxes.items()} == {
        1: [list(box) for box in two],
        3: [list(box) for box in one],
    }


def test_no_boxes_at_all(small):
    assert load_training_rows(small, None, 0, 0.5).boxes == {}


def test_sizes_and_the_masks_own_boxes_are_the_version_s(small):
    joined = load_training_rows(small, None, 0, 0.5)
    assert joined.sizes.tolist() == [list(SIZE)] * 6
    assert joined.mask_boxes.tolist() == np.arange(24.0).reshape(6, 4).tolist()
    assert joined.images.recipe == Recipe.model_validate(small.provenance["recipe"])


def test_classes_are_counted_by_name_or_by_label(small, unsplit):
    assert load_training_rows(small, None, 0, 0.5).classes == 2
    assert load_training_rows(unsplit, None, 0, 0.5).classes == 7


def test_rows_can_be_pickled(small):
    joined = load_training_rows(small, None, 0, 0.5)
    again = pickle.loads(pickle.dumps(joined))
    assert splits(again) == splits(joined) and again.ids(again.test) == ["002.png", "005.png"]
    assert np.array_equal(again.images.read(2), joined.images.read(2))


def test_a_damaged_catalog_is_refused(write_row):
    version = write_row([Row(), Row()], catalog_sha256="00" * 32)
    with pytest.raises(TrainError, match="^.*@v1: its catalog is damaged; `locloc masks verify .*@v1` says what"):
        load_training_rows(version, None, 0, 0.5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Row("test"), Row("test")], "has 0 images to train on and 0 to choose a model on"),
        ([Row("train", status=Status.MISSING), Row("val")], "has 0 images to train on and 1 to choose a model on"),
        ([Row("train"), Row("val", status=Status.CRASHED)], "has 1 images to train on and 0 to choose a model on"),
        ([Row(label=0), Row(label=1)], "has 2 images to train on and 0 to choose a model on"),
    ],
    ids=["test only", "train failed", "val failed", "single images"],
)
def test_nothing_to_train_on_is_refused(rows, message, write_row):
    with pytest.raises(TrainError, match=f"@v1 {message}; `locloc masks show .*@v1` says") as raised:
        load_training_rows(write_row(rows), None, 0, 0.5)
    assert "\n" not in str(raised.value)


# --- images --------------------------------------------------------------------------------------------------------


def pixels(number: int) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png(number))))


def test_images_are_where_they_were(small):
    images = load_training_rows(small, None, 0, 0.5).images
    assert np.array_equal(images.read(4), pixels(4))


def test_moved_images_are_found_in_a_relative_folder(write_row, tmp_path, monkeypatch):
    version = write_row([Row("train"), Row("val")])
    (tmp_path / "images").rename(tmp_path / "moved")
    with pytest.raises(TrainError, match=r"^001.png: no such file \(.*/images/001.png\); .*--images$"):
        load_training_rows(version, None, 0, 0.5).images.read(1)
    monkeypatch.chdir(tmp_path)
    images = load_training_rows(version, "moved", 0, 0.5).images
    monkeypatch.chdir("/")  # a loading process may be anywhere
    assert np.array_equal(images.read(1), pixels(1))


def test_moved_images_are_found_by_url(small):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/data/003.png", png(3))
    try:
        images = load_training_rows(small, "memory://bucket/data/", 0, 0.5).images
        assert images.root == "memory://bucket/data"
        assert np.array_equal(images.read(3), pixels(3))
        with pytest.raises(TrainError, match=r"^002.png: .*memory://bucket/data/002.png\); .*--images$"):
            images.read(2)
    finally:
        memory.store.clear()


def replaced(version: Version, row: int, data: bytes, **settings) -> VersionImages:
    """The images of a version after the file of one was replaced."""
    images = load_training_rows(version, None, 0, 0.5, **settings).images
    (images.root / f"{row:03}.png").write_bytes(data)
    return images


def test_a_changed_file_is_refused(write_row):
    images = replaced(write_row([Row("train"), Row("val")]), 1, png(7))
    with pytest.raises(TrainError, match=r"^001.png is another file .*/001.png\); .*--allow-changed-images$") as raised:
        images.read(1)
    assert "\n" not in str(raised.value)
    assert np.array_equal(images.read(0), pixels(0))


def test_a_changed_file_is_read_where_that_is_allowed(write_row):
    images = replaced(write_row([Row("train"), Row("val")]), 1, png(7), allow_changed_images=True)
    assert images.digests is None
    assert np.array_equal(images.read(1), pixels(7))


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty file"), (b"GIF? no", "not an image of a known"), (png(1)[:200], "cannot be dec")]
)
def test_a_file_that_cannot_be_decoded_is_one_line(data, reason, write_row):
    images = replaced(write_row([Row("train"), Row("val")]), 1, data, allow_changed_images=True)
    with pytest.raises(TrainError, match=rf"^001.png: {reason}.*/001.png\)") as raised:
        images.read(1)
    assert "\n" not in str(raised.value)


def test_a_disk_error_is_raised(small, monkeypatch):
    images = load_training_rows(small, None, 0, 0.5).images

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UnreachableError, match="000.png: input/output error"):
        images.read(0)


def test_more_pixels_than_the_masks_recipe_allows_are_refused(small):
    images = load_training_rows(small, None, 0, 0.5).images
    recipe = Recipe.model_validate({"images": {"max_pixels": 100}})
    limited = VersionImages(images.root, images.ids, images.paths, images.digests, recipe)
    with pytest.raises(TrainError, match="^000.png: .*pixels"):
        limited.read(0)


@pytest.mark.parametrize("fit", ["stretch", "centre_crop"])
def test_squares_show_what_the_masks_show(fit, tmp_path):
    left_to_right = np.repeat(np.array([[0, 80, 80, 160, 160, 240]], np.uint8), 4, axis=0)
    Image.fromarray(left_to_right).convert("RGB").save(tmp_path / "a.png")
    recipe = Recipe.model_validate({"images": {"fit": fit}})
    images = VersionImages(tmp_path, pa.array(["a"]), pa.array(["a.png"]), None, recipe)
    square = images.square(0, 4)
    assert square.shape == (4, 4, 3) and square.dtype == np.uint8
    if fit == "centre_crop":
        assert square[..., 0].tolist() == [[80, 80, 160, 160]] * 4
    else:
        assert square[0, 0, 0] < 80 and square[0, 3, 0] > 160
    assert np.array_equal(images.square(0, 4, images.read(0)), square)


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_of_the_cache_are_those_of_the_version(unsplit, tmp_path):
    masks = MaskCache(tmp_path / "cache" / "masks.npy").write(unsplit)
    wanted = unsplit.read_masks()
    assert len(unsplit) > 64 and len({mask.tobytes() for mask in wanted}) > 20
    for row in (*range(len(unsplit)), -1):
        read = masks.read(row)
        assert read.dtype == bool and np.array_equal(read, wanted[row])
    assert os.listdir(masks.file.parent) == ["masks.npy"]


def test_an_existing_mask_cache_is_not_written_again(small, unsplit, tmp_path):
    file = MaskCache(tmp_path / "masks.npy").write(small).file
    before = file.stat()
    assert MaskCache(file).write(unsplit) == MaskCache(file)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_interrupted_mask_cache_is_written_again(small, tmp_path):
    (tmp_path / "masks.npy.part").write_bytes(b"half of it")
    masks = MaskCache(tmp_path / "masks.npy").write(small)
    assert np.array_equal(masks.read(5), small.read_masks()[5])
    assert os.listdir(tmp_path) == ["masks.npy"]


def test_a_mask_cache_is_pickled_without_pixels(small, tmp_path):
    masks = MaskCache(tmp_path / "masks.npy").write(small)
    opened = masks.read(3)
    data = pickle.dumps(masks)
    again = pickle.loads(data)
    assert len(data) < 500 and again == masks
    assert np.array_equal(again.read(3), opened)
