"""Which top-level folders are splits, classes or neither."""

import pytest

from locloc.pipeline.catalogs.folders.folder_layout import layout_of
from locloc.pipeline.catalogs.split_words import SPLIT_CODES, SPLITS, is_unlabeled, looks_like_split, split_code


def files(**folders):
    """`train=2` is train/cat/0.jpg and train/dog/1.jpg; `bus_flat=2` lies in bus itself, `_=1` in no folder."""
    paths = []
    for name, count in folders.items():
        for number in range(count):
            if name == "_":
                paths.append(f"{number}.jpg")
            elif name.endswith("_flat"):
                paths.append(f"{name.removesuffix('_flat')}/{number}.jpg")
            else:
                paths.append(f"{name}/{'dog' if number % 2 else 'cat'}/{number}.jpg")
    return paths


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"train": 2, "val": 2}, {"train": 1, "val": 2}),
        ({"training": 2, "testing": 2}, {"training": 1, "testing": 3}),
        ({"Train": 2, "DEV": 2, "tst": 1}, {"Train": 1, "DEV": 2, "tst": 3}),
        ({"train2017": 2, "val2017": 1}, {"train2017": 1, "val2017": 2}),
        ({"training_set": 2, "test_set": 2}, {"training_set": 1, "test_set": 3}),
        ({"train": 2}, {"train": 1}),
        ({"train_flat": 2}, {"train": 1}),
        # two splits and strays, which hold less
        ({"train": 2, "val": 2, "_": 1}, {"train": 1, "val": 2}),
        ({"train": 2, "val": 2, "samples_flat": 3}, {"train": 1, "val": 2}),
        ({"train": 2, "test": 2, "extra": 3}, {"train": 1, "test": 3}),
        ({"train": 2, "test": 2, "extra": 4}, {}),
        # one split and strays
        ({"train": 3, "unlabeled": 9}, {"train": 1}),
        ({"train": 3, "_": 2}, {"train": 1}),
        ({"train": 3, "_": 3}, {}),
        ({"train": 3, "preview_flat": 2}, {"train": 1}),
        # the vehicle
        ({"train_flat": 30, "bus_flat": 2}, {}),
        ({"train": 30, "bus": 2}, {}),
        ({"train_flat": 30, "bus_flat": 2, "_": 1}, {}),
        ({"cat_flat": 2, "dog_flat": 2}, {}),
        ({"_": 2}, {}),
        ({}, {}),
    ],
)
def test_splits(folders, expected):
    assert layout_of(files(**folders)).splits == expected


def test_notes_say_what_was_reinterpreted():
    layout = layout_of(files(training=4, dev=4, unsup_flat=1, _=1, extra=2))
    assert layout.notes == (
        "folders taken as splits: dev is val, training is train",
        "1 image in unsup/ has neither split nor label",
        "3 images beside the splits have neither split nor label: extra/ (2), 0.jpg",
    )
    assert layout_of(files(train=4, val=4, test=4)).notes == ()
    assert layout_of(files(cat_flat=1, unlabeled=2)).notes == ("2 images in unlabeled/ have no label",)


def test_eval_beside_dev_is_said():
    assert "dev and eval are both validation images; rename" in layout_of(files(train=2, dev=2, eval=2)).notes[1]
    assert len(layout_of(files(train=2, eval=2)).notes) == 1


@pytest.mark.parametrize(
    ("path", "name", "split"),
    [
        ("train/cat/deep/1.jpg", "cat", 1),
        ("train/1.jpg", "", 1),
        ("train/unlabeled/1.jpg", "", 1),
        ("val/dog/1.jpg", "dog", 2),
        ("unlabeled/cat/1.jpg", "", 0),
        ("extra/cat/1.jpg", "", 0),
        ("1.jpg", "", 0),
    ],
)
def test_class_and_split_of_an_image(path, name, split):
    layout = layout_of(files(train=4, val=4, unlabeled=1, extra=1, _=1))
    assert (layout.class_name(path), layout.split(path)) == (name, split)


def test_a_folder_of_all_images_below_splits_is_no_class():
    layout = layout_of(["train/images/1.jpg", "valid/images/2.jpg", "test/3.jpg", "train/images/cat/4.jpg"])
    assert [layout.class_name(f"train/images/{path}") for path in ("1.jpg", "cat/4.jpg")] == ["", "cat"]
    assert "images/ below the splits holds all their images: no class" in layout.notes
    for paths in (["train/images/1.jpg", "train/cat/1.jpg"], ["train/images/1.jpg", "train/img/1.jpg"]):
        assert layout_of(paths).class_name(paths[0]) == "images"
    assert layout_of(["images/1.jpg"]).class_name("images/1.jpg") == "images"


def test_class_folders():
    layout = layout_of(files(cat=1, dog=1, unlabeled=1))
    assert [layout.class_name(path) for path in ("cat/a/1.jpg", "dog/2.jpg", "3.jpg", "Unlabelled/4.jpg")] == [
        "cat", "dog", "", "",
    ]  # fmt: skip


def test_words():
    assert {split_code(word.upper()) for word in SPLIT_CODES} == {0, 1, 2, 3}
    known = {"Training": "train", "trn": "train", " devel ": "val", "valid": "val", "eval": "val", "TST": "test",
             "test-images": "test", "train_dataset": "train", "val2014": "val", "": ""}  # fmt: skip
    assert {word: SPLITS[split_code(word)] for word in known} == known
    assert {split_code(word) for word in ("images", "2017", "set", "trainer", "cat", "attest", "image")} == {None}
    assert is_unlabeled("Unlabeled_images") and not is_unlabeled("labeled")
    assert all(map(looks_like_split, ("fold1", "CV 3", "holdout", "hold-out", "query", "labelled")))
    assert not any(map(looks_like_split, ("folder1", "party", "partridge 1", "holder")))
    assert looks_like_split("seg_train") and looks_like_split("Test-A") and not looks_like_split("trainer")
