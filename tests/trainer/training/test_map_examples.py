"""Which validation images are shown as the best and the worst."""

import numpy as np

from locloc.trainer.training.map_examples import EXAMPLES, choose_examples


def chosen(tmp_path, box_iou, mask_iou=None):
    box_iou = np.array(box_iou, np.float32)
    mask_iou = np.full(len(box_iou), 0.5, np.float32) if mask_iou is None else np.array(mask_iou, np.float32)
    np.savez(tmp_path / "v.npz", row=10 + np.arange(len(box_iou)), box_iou=box_iou, mask_iou=mask_iou)
    found = choose_examples(tmp_path / "v.npz")
    return {name: [example.row for example in examples] for name, examples in found.items()}


def test_by_the_box_where_images_have_one(tmp_path):
    assert chosen(tmp_path, [0.2, np.nan, 0.9, 0.0, 0.5]) == {"best": [12, 14], "worst": [13, 10]}


def test_equal_boxes_are_told_apart_by_the_mask(tmp_path):
    assert chosen(tmp_path, [0, 0, 0, 0], [0.3, 0.1, 0.2, 0.4]) == {"best": [13, 10], "worst": [11, 12]}


def test_by_the_mask_where_no_image_has_a_box(tmp_path):
    assert chosen(tmp_path, [np.nan] * 3, [0.3, 0.1, 0.2]) == {"best": [10, 12], "worst": [11]}


def test_no_image_is_among_both(tmp_path):
    for count in (1, 2, 15, 16, 40):
        found = chosen(tmp_path, np.linspace(0, 1, count))
        assert not set(found["best"]) & set(found["worst"]) and len(found["best"]) == min(EXAMPLES, (count + 1) // 2)
        assert found["best"][0] == 9 + count and len(found["worst"]) == min(EXAMPLES, count // 2)
