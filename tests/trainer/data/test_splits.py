"""The train, val and test rows of a version, and which versions are refused."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.catalogs.catalog import SPLITS, splits_text
from locloc.pipeline.commands.rendering.versions import version_summary
from locloc.pipeline.errors import StoreError, TrainError
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import Status
from locloc.trainer.data.splits import TrainingRows, load_training_rows, split_text
from locloc.trainer.data.trained_version import open_trained_version


def row(split: str = "", **more) -> dict:
    """For `write_rows`: other fields are label, boxes, status and empty."""
    return {"split": split, **more}


def splits(rows: TrainingRows) -> tuple[list[int], list[int], list[int]]:
    return rows.train.tolist(), rows.val.tolist(), rows.test.tolist()


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
    first, second = (load_training_rows(unsplit, None, seed, 0.2).val.tolist() for seed in (0, 1))
    assert first != second and len(first) == len(second)


def test_a_large_share_leaves_every_class_something_to_train_on(unsplit):
    rows = load_training_rows(unsplit, None, 0, 0.9)
    assert set(rows.labels[rows.train].tolist()) == set(rows.labels.tolist())


def test_failed_rows_do_not_count_for_the_share_of_val(write_rows):
    rows = [row(label=n // 3, status=Status.OK if n % 3 else Status.UNDECODABLE) for n in range(30)]
    assert len(load_training_rows(write_rows(rows), None, 0, 0.1).val) == 10


def test_without_val_a_share_of_train_is_taken_and_never_test(write_rows):
    """As in CUB."""
    rows = [row("test" if n % 2 else "train", label=n // 2 % 4) for n in range(64)]
    version = write_rows(rows)
    for seed in range(3):
        train, val, test = splits(load_training_rows(version, None, seed, 0.25))
        assert test == list(range(1, 64, 2))
        assert sorted(train + val) == list(range(0, 64, 2)) and len(val) == 8


def test_with_a_train_split_rows_of_no_split_are_left_out(write_rows):
    rows = [row("train"), row(""), row("val"), row("train"), row("")]
    assert splits(load_training_rows(write_rows(rows), None, 0, 0.5)) == ([0, 3], [2], [])


def test_rows_of_no_split_are_trained_on_where_others_are_val_or_test(write_rows):
    rows = [row(""), row("test"), row("val"), row("")]
    assert splits(load_training_rows(write_rows(rows), None, 0, 0.5)) == ([0, 3], [2], [1])


def test_ilsvrc_is_tested_on_its_val_and_validated_on_train(write_rows):
    rows = [row("val" if n % 4 == 3 else "train", label=n % 2) for n in range(40)]
    train, val, test = splits(load_training_rows(write_rows(rows, kind="ilsvrc"), None, 0, 0.2))
    assert test == list(range(3, 40, 4))
    assert sorted(train + val) == [n for n in range(40) if n % 4 != 3]
    assert len(val) == 6


def test_failed_rows_are_in_no_split(write_rows):
    rows = [row(split, status=status) for status in list(Status)[1:] for split in ("train", "val", "test")]
    joined = load_training_rows(write_rows(rows), None, 0, 0.5)
    assert splits(joined) == ([0, 3], [1, 4], [2, 5])
    assert joined.done.tolist() == [True] * 6 + [False] * 15


def test_empty_masks_are_done_but_no_masks(write_rows):
    rows = [row("train"), row("train", empty=True), row("val"), row("train", status=Status.MISSING)]
    joined = load_training_rows(write_rows(rows), None, 0, 0.5)
    assert joined.train.tolist() == [0, 1]
    assert joined.done.tolist() == [True, True, True, False]
    assert joined.with_mask.tolist() == [True, False, True, False]


def test_boxes_are_those_of_their_row(write_rows):
    two, single = ((1, 2, 3, 4), (5, 6, 7, 8)), ((0, 0, 24, 16),)
    joined = load_training_rows(write_rows([row(), row(boxes=two), row(), row(boxes=single), row()]), None, 0, 0.5)
    assert {row: boxes.tolist() for row, boxes in joined.boxes.items()} == {
        1: [list(box) for box in two],
        3: [list(box) for box in single],
    }


def test_no_boxes_at_all(small):
    assert load_training_rows(small, None, 0, 0.5).boxes == {}


def test_sizes_and_the_masks_own_boxes_are_the_version_s(small):
    joined = load_training_rows(small, None, 0, 0.5)
    assert joined.sizes.tolist() == [[24, 16]] * 6
    assert joined.mask_boxes.tolist() == np.arange(24.0).reshape(6, 4).tolist()
    assert joined.images.recipe == Recipe.model_validate(small.provenance["recipe"])


def test_classes_are_counted_by_name_or_by_label(small, unsplit):
    assert load_training_rows(small, None, 0, 0.5).classes == 2
    assert load_training_rows(unsplit, None, 0, 0.5).classes == 7


def test_images_are_counted_by_split(write_rows):
    version = write_rows([row("test"), row("train", label=1), row(), row("train", label=-1)])
    summary = version_summary(version)
    assert (summary["splits"], summary["classes"]) == ({"": 1, "train": 2, "test": 1}, 2)
    assert splits_text(summary["splits"]) == "none 1, train 2, test 1"


def test_images_of_ilsvrc_are_tested_on_val():
    codes = np.full(3, SPLITS.index("val"), np.uint8)
    assert split_text(codes, "ilsvrc") == "all 3 images are in the split val (ilsvrc is tested on val)"
    assert split_text(codes, "list") == "all 3 images are in the split val"


def test_rows_can_be_pickled(small):
    joined = load_training_rows(small, None, 0, 0.5)
    again = pickle.loads(pickle.dumps(joined))
    assert splits(again) == splits(joined) and again.ids(again.test) == ["002.png", "005.png"]
    assert np.array_equal(again.images.read(2), joined.images.read(2))


def test_a_damaged_catalog_is_refused(write_rows):
    version = write_rows([row(), row()], catalog_sha256="00" * 32)
    with pytest.raises(TrainError, match="^.*@v1: its catalog is damaged; `locloc masks verify .*@v1` says what"):
        load_training_rows(version, None, 0, 0.5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [row("test"), row("test")],
            "0 images to train on and 0 to choose a model on: all 2 images are in the split test",
        ),
        (
            [row("train", status=Status.MISSING), row("val")],
            "0 images to train on and 1 to choose a model on: its images by split: train 1, val 1, and 1 without "
            "a mask to use",
        ),
        (
            [row("train"), row("val", status=Status.CRASHED), row("")],
            "1 images to train on and 0 to choose a model on: its images by split: none 1, train 1, val 1, and 1 "
            "without a mask to use",
        ),
        ([row(label=0), row(label=1)], "2 images to train on and 0 to choose a model on: 2 images without a split"),
        ([row("val")], "0 images to train on and 1 to choose a model on: its only image is in the split val"),
    ],
    ids=["test only", "train failed", "val failed", "single images", "val only"],
)
def test_nothing_to_train_on_is_refused(rows, message, write_rows):
    with pytest.raises(TrainError, match=f"@v1 has {message}; `locloc masks show .*@v1` says") as raised:
        load_training_rows(write_rows(rows), None, 0, 0.5)
    assert "\n" not in str(raised.value)


def test_a_version_that_a_run_was_trained_on_and_that_was_moved(write_rows, tmp_path):
    version = write_rows([row("train")])
    run = tmp_path / "run"
    assert open_trained_version(version.name, run, "locloc").name == version.name
    store = Path(version.name.rpartition("@")[0])
    with pytest.raises(StoreError, match="has no version 'v7'"):
        open_trained_version(f"{store}@v7", run, "locloc")
    store.rename(tmp_path / "moved.store")
    with pytest.raises(TrainError, match=r"run was trained on .*@v1, which is not there; .* name it: `locloc eval`$"):
        open_trained_version(version.name, run, "locloc eval")
