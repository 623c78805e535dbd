"""Each figure by hand, and what must hold whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locloc.trainer.evaluation.metrics import (
    accuracy,
    best_ious,
    calibrate,
    class_ranks,
    error_kind,
    mask_iou_by_level,
    max_box_acc,
    max_box_acc_v2,
    px_ap,
    top_k_cls,
    top_k_loc,
)

NAN = np.nan
corner = st.integers(0, 50)
box = st.tuples(corner, corner, corner, corner).map(
    lambda v: [min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])]
)


@pytest.mark.parametrize(("plus", "wanted"), [(0, 25 / 175), (1, 36 / 206)])
def test_iou_with_and_without_one(plus, wanted):
    """10 x 10 and 10 x 10, 5 x 5 of them shared: with +1, 11 x 11 and 6 x 6."""
    assert best_ious([0, 0, 10, 10], [[5, 5, 15, 15]], plus) == pytest.approx(wanted)


def test_iou_is_with_the_best_of_the_true_boxes():
    truths = [[0, 0, 10, 10], [20, 20, 30, 30]]
    found = best_ious([[20, 20, 30, 40], [0, 0, 10, 10], [50, 50, 60, 60]], truths)
    assert found.tolist() == [0.5, 1, 0]
    assert best_ious([0, 0, 0, 0], truths) == 0 and np.isnan(best_ious([1, 1, 2, 2], []))
    assert best_ious([0, 0, 0, 0], [[0, 0, 0, 0]]) == 0 and best_ious([0, 0, 0, 0], [[0, 0, 0, 0]], 1) == 1


@given(box, box, st.sampled_from([0.0, 1.0]))
def test_iou_is_symmetric_and_a_share(a, b, plus):
    one, other = best_ious(a, [b], plus), best_ious(b, [a], plus)
    assert one == other and 0 <= one <= 1
    assert best_ious(a, [a], 1) == 1


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), min_size=1, max_size=20), st.randoms())
def test_order_changes_nothing_and_more_is_asked_fewer_are_right(ious, random):
    turned = random.sample(ious, len(ious))
    values = [accuracy(np.array(ious), least) for least in (0.3, 0.5, 0.7)]
    assert np.array_equal(values, [accuracy(np.array(turned), least) for least in (0.3, 0.5, 0.7)], equal_nan=True)
    assert np.isnan(values[0]) or values[0] >= values[1] >= values[2]


def test_gt_known_loc_leaves_out_images_without_a_true_box():
    assert accuracy(np.array([0.5, 0.49, NAN, 1.0])) == pytest.approx(2 / 3)
    assert np.isnan(accuracy(np.array([NAN, NAN])))
    assert accuracy(np.array([[0.5, 0.2], [0.6, 0.7]])).tolist() == [1, 0.5]


def test_classes_among_the_first_guesses():
    logits = np.array([[3.0, 2, 1, 0, -1, -2], [3, 2, 1, 0, -1, -2], [0, 0, 0, 0, 0, 0], [9, 1, 1, 1, 1, 1]])
    ranks = class_ranks(logits, np.array([0, 5, 2, -1]))
    assert ranks.tolist() == [0, 5, 2, -1]  # of equal logits, lower classes are guessed first
    assert top_k_cls(ranks, 1) == pytest.approx(1 / 3) and top_k_cls(ranks, 5) == pytest.approx(2 / 3)
    assert np.isnan(top_k_cls(np.array([-1]), 1))


def test_top_1_loc_needs_the_box_and_the_class():
    ious, ranks = np.array([0.9, 0.9, 0.1, NAN, 0.9, 0.5]), np.array([0, 3, 0, 0, -1, 0])
    assert top_k_loc(ious, ranks, 1) == 2 / 4 and top_k_loc(ious, ranks, 5) == 3 / 4
    assert np.isnan(top_k_loc(np.array([NAN]), np.array([0]), 1))


def test_max_box_acc_and_v2():
    curves = np.array([[0.2, 0.9, 0.4], [0.6, 0.5, 0.1], [0.0, 0.0, 0.3]])
    assert max_box_acc(curves[1]) == 0.6
    v2, by_iou = max_box_acc_v2(curves)
    assert by_iou == {"0.3": 0.9, "0.5": 0.6, "0.7": 0.3} and v2 == pytest.approx(0.6)


def test_px_ap_by_hand():
    """Scores 0.9 object, 0.8 background, 0.7 object: precision 1 to recall 1/2, then 2/3."""
    assert px_ap(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 0])) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert px_ap(np.array([0, 5]), np.array([9, 0])) == 1
    assert px_ap(np.array([4]), np.array([12])) == 0.25  # flat: the share of the object
    assert np.isnan(px_ap(np.array([0]), np.array([3])))


def test_mask_iou_at_every_level():
    """Object pixels at levels 0, 2 and 2; background at 0, 0, 1 and 2."""
    found = mask_iou_by_level(np.array([1, 0, 2]), np.array([2, 1, 1]))
    assert found.tolist() == [2 / 5, 2 / 4, 0]
    assert mask_iou_by_level(np.array([0, 0]), np.array([4, 0])).tolist() == [1, 1]  # nothing there, nothing found


@pytest.mark.parametrize(
    ("curve", "wanted"),
    [
        ([0.1, 0.5, 0.2], 0.1),
        ([0.5, 0.5, 0.5, 0.1], 0.1),  # the middle of those that are equal
        ([0.5, 0.5, 0.1, 0.1], 0.0),
        ([0.5, 0.1, 0.5, 0.5, 0.5], 0.3),  # the longest run
        ([0.5, 0.1, 0.5], 0.0),  # of equal runs the first
        ([0.1, 0.2, 0.3], 0.2),  # the last threshold
        ([0.0, 0.0, 0.0], 0.1),
    ],
)
def test_the_threshold_is_where_most_are_right(curve, wanted):
    assert calibrate(np.array(curve), np.arange(len(curve)) / 10) == wanted


@pytest.mark.parametrize(
    ("found", "iou", "rank", "kind"),
    [
        ([0, 0, 10, 10], 1.0, 0, "right"),
        ([0, 0, 10, 10], 1.0, None, "right"),
        ([0, 0, 10, 10], 0.5, 1, "classification"),
        ([0, 0, 4, 4], 0.16, 0, "part"),
        ([0, 0, 4, 4], 0.16, 7, "part"),
        ([0, 0, 40, 40], 0.06, 0, "more"),
        ([9, 9, 30, 30], 0.01, 0, "wrong place"),
        ([50, 50, 60, 60], 0.0, 0, "wrong place"),
        ([0, 0, 0, 0], 0.0, 0, "wrong place"),
        ([0, 0, 10, 10], NAN, 0, "unknown"),
    ],
)
def test_kinds_of_error(found, iou, rank, kind):
    assert error_kind(np.array(found), np.array([[0, 0, 10, 10], [70, 70, 71, 71]]), iou, rank) == kind
