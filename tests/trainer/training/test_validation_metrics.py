"""Metrics of maps and logits with known results."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.pipeline.recipe import Recipe
from locloc.trainer.data.splits import TrainingRows
from locloc.trainer.data.version_images import VersionImages
from locloc.trainer.training.validation_metrics import (
    VALIDATION_TAUS,
    ClassMetrics,
    ImageValues,
    MaskMetrics,
    map_box,
    sum_over_ranks,
)

SIDE = 32
SIZES = [(64, 48), (64, 32), (32, 32), (100, 300)]  # width, height of the images
INNER, OUTER = (8, 10, 24, 20), (4, 4, 28, 28)  # x0, y0, x1, y1 in the square: an IoU of 0.28


def rectangle(box: tuple[int, int, int, int], value: float = 1.0, side: int = SIDE) -> np.ndarray:
    x0, y0, x1, y1 = box
    out = np.zeros((side, side), np.float32)
    out[y0:y1, x0:x1] = value
    return out


def in_image(box: tuple[int, int, int, int], row: int, fit: str = "stretch") -> list[float]:
    """A box of the square in the coordinates of a row's image, computed by hand."""
    width, height = SIZES[row]
    if fit == "centre_crop":
        short = min(width, height)
        left, top, width, height = (width - short) / 2, (height - short) / 2, short, short
    else:
        left = top = 0
    x0, y0, x1, y1 = (value / SIDE for value in box)
    return [left + x0 * width, top + y0 * height, left + x1 * width, top + y1 * height]


def rows_with(boxes: dict[int, list], mask_boxes: list | None = None, fit: str = "stretch") -> TrainingRows:
    count, none = len(SIZES), np.arange(0)
    recipe = Recipe.model_validate({"images": {"fit": fit}, "mask_px": SIDE})
    images = VersionImages("/", pa.array([""] * count), pa.array([""] * count), None, recipe)
    return TrainingRows(
        images, np.zeros(count, np.int64), 1, none, none, none, np.ones(count, bool), np.ones(count, bool),
        np.array(SIZES, np.int32), {row: np.array(own, np.float32) for row, own in boxes.items()},
        np.array(mask_boxes if mask_boxes is not None else np.zeros((count, 4)), np.float32),
        np.ones(count, bool), True, "",
    )  # fmt: skip


def added(figures, maps: list[np.ndarray], masks: list[np.ndarray], rows: list[int], losses: list[float] | None = None):
    """Adds one batch, and returns the metrics."""
    figures.add(
        torch.tensor(losses or [0.5] * len(rows)),
        torch.from_numpy(np.stack(maps))[:, None],
        torch.from_numpy(np.stack(masks) > 0),
        torch.tensor(rows),
    )
    return figures


# --- maps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "centre_crop"])
def test_perfect_maps(fit):
    rows = rows_with({row: [in_image(INNER, row, fit)] for row in range(4)}, fit=fit)
    perfect = [rectangle(INNER)] * 4
    values = added(MaskMetrics(rows, True), perfect, perfect, [0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0]).values()
    assert values == {"corloc": 1.0, "tau": VALIDATION_TAUS[0], "mask_iou": 1.0, "loss": 2.5, "images": 4}


@pytest.mark.parametrize("wrong", [rectangle((26, 24, 32, 32)), rectangle(OUTER), np.zeros((SIDE, SIDE), np.float32)])
def test_wrong_maps(wrong):
    rows = rows_with({0: [in_image(INNER, 0)], 1: [in_image(INNER, 1)]})
    figures = added(MaskMetrics(rows, True), [wrong] * 2, [rectangle((0, 0, 3, 3))] * 2, [0, 1])
    assert figures.values()["corloc"] == figures.values()["mask_iou"] == 0
    assert not figures.sums[4:].any()


def test_half_of_the_images_right():
    rows = rows_with({row: [in_image(INNER, row)] for row in range(4)})
    maps = [rectangle(INNER), rectangle(OUTER), rectangle(INNER), rectangle((0, 0, 5, 5))]
    assert added(MaskMetrics(rows, True), maps, maps, [3, 1, 0, 2]).values()["corloc"] == 0.5


def test_any_of_several_true_boxes_counts():
    several = [in_image(box, 0) for box in ((0, 0, 4, 4), INNER, (28, 28, 32, 32))]
    for boxes in (several, several[::-1], several[1:]):
        figures = added(MaskMetrics(rows_with({0: boxes}), True), [rectangle(INNER)], [rectangle(INNER)], [0])
        assert figures.values()["corloc"] == 1
    figures = added(MaskMetrics(rows_with({0: several[::2]}), True), [rectangle(INNER)], [rectangle(INNER)], [0])
    assert figures.values()["corloc"] == 0


@pytest.mark.parametrize(("height", "hit"), [(5, True), (4, False)])
def test_a_box_counts_from_half_of_union_on(height, hit):
    """The box has 10 pixel rows; 5 of them give an IoU of exactly 0.5."""
    rows = rows_with({2: [[8, 10, 24, 20]]})
    figures = added(MaskMetrics(rows, True), [rectangle((8, 10, 24, 10 + height))], [rectangle(INNER)], [2])
    assert figures.values()["corloc"] == hit


def test_the_largest_contour_is_what_counts():
    one = np.maximum(rectangle(INNER), rectangle((28, 28, 31, 31)))
    for box, hit in ((INNER, 1), ((28, 28, 31, 31), 0)):
        figures = added(MaskMetrics(rows_with({0: [in_image(box, 0)]}), True), [one], [one], [0])
        assert figures.values()["corloc"] == hit


def test_tau_is_where_most_images_are_right():
    """The inner box is a hit from 0.32 in one image, the outer box to 0.52 in another: both are between."""
    rows = rows_with({0: [in_image(INNER, 0)], 1: [in_image(OUTER, 1)]})
    rising = np.maximum(rectangle(INNER), rectangle(OUTER, 0.32))
    falling = np.maximum(rectangle(INNER), rectangle(OUTER, 0.52))
    figures = added(MaskMetrics(rows, True), [rising, falling], [rising, falling], [0, 1])
    assert figures.values()["corloc"] == 1 and figures.values()["tau"] == 0.35
    wanted = np.array([0.5 + 0.5 * (0.32 < tau < 0.52) for tau in VALIDATION_TAUS])
    assert (figures.sums[4:] / figures.sums[3]).tolist() == wanted.tolist()


def test_taus_are_twentieths():
    assert VALIDATION_TAUS.tolist() == [round(n / 20, 2) for n in range(1, 20)]


def test_maps_are_taken_between_their_minimum_and_maximum():
    rows = rows_with({0: [in_image(INNER, 0)]})
    wanted = added(MaskMetrics(rows, True), [rectangle(INNER)], [rectangle(INNER)], [0])
    for low, high in ((0.7, 0.72), (-40, -39), (0, 1e-3)):
        figures = added(MaskMetrics(rows, True), [low + (high - low) * rectangle(INNER)], [rectangle(INNER)], [0])
        assert figures.values() == wanted.values()


def test_a_small_map_is_enlarged_to_the_masks():
    rows = rows_with({0: [in_image((8, 8, 24, 24), 0)]})
    small = rectangle((2, 2, 6, 6), side=8)
    values = added(MaskMetrics(rows, True), [small], [rectangle((8, 8, 24, 24))], [0]).values()
    assert values["corloc"] == 1 and values["mask_iou"] > 0.9


def test_mask_iou_is_at_half_of_the_map_s_range():
    rows, mask = rows_with({}), rectangle(INNER)
    for level, wanted in ((0.45, 1.0), (0.55, 160 / 576)):
        one = np.maximum(rectangle(INNER), rectangle(OUTER, level))
        assert added(MaskMetrics(rows, False), [one], [mask], [0]).values()["mask_iou"] == pytest.approx(wanted)


def test_without_ground_truth_boxes_those_of_the_masks_are_used():
    """The version's boxes of rows 0 and 2 agree with the maps, those of rows 1 and 3 do not."""
    mask_boxes = [in_image(INNER if row % 2 == 0 else OUTER, row) for row in range(4)]
    maps = [rectangle(INNER)] * 4
    values = added(MaskMetrics(rows_with({}, mask_boxes), False), maps, maps, [0, 1, 2, 3]).values()
    assert set(values) == {"agreement", "tau", "mask_iou", "loss", "images"} and values["agreement"] == 0.5


def test_images_without_a_true_box_are_no_misses():
    maps = [rectangle(INNER)] * 4
    figures = added(MaskMetrics(rows_with({0: [in_image(INNER, 0)]}), True), maps, maps, [0, 1, 2, 3])
    assert figures.values()["corloc"] == 1 and figures.values()["images"] == 4


def test_figures_of_two_halves_add_up_to_those_of_the_whole():
    rng = np.random.default_rng(0)
    rows = rows_with({row: [in_image(INNER, row)] for row in range(4)})
    maps = [np.maximum(rectangle(INNER, rng.random()), rectangle(OUTER, rng.random())) for _ in range(4)]
    masks, losses = [rectangle(INNER)] * 4, rng.random(4).tolist()
    whole = added(MaskMetrics(rows, True), maps, masks, [0, 1, 2, 3], losses)
    first = added(MaskMetrics(rows, True), maps[:3], masks[:3], [0, 1, 2], losses[:3])
    second = added(MaskMetrics(rows, True), maps[3:], masks[3:], [3], losses[3:])
    assert whole.sums == pytest.approx(first.sums + second.sums)
    assert whole.values() == pytest.approx(added(first, maps[3:], masks[3:], [3], losses[3:]).values())
    assert not np.array_equal(first.sums, second.sums)


def test_nothing_seen_is_zeros_and_no_division_by_zero():
    assert MaskMetrics(rows_with({}), True).values() == {
        "corloc": 0, "tau": VALIDATION_TAUS[0], "mask_iou": 0, "loss": 0, "images": 0,
    }  # fmt: skip
    assert ClassMetrics().values() == {"top1": 0, "top5": 0, "loss": 0, "images": 0}


def test_values_are_plain_numbers_as_json_has_them():
    rows, one = rows_with({0: [in_image(INNER, 0)]}), rectangle(INNER)
    values = added(MaskMetrics(rows, True), [one], [one], [0]).values()
    assert {type(value) for name, value in values.items() if name != "images"} == {float}
    assert type(values["images"]) is int


def test_the_box_of_a_map_lies_in_the_original_image():
    geometry = ResizeCrop.centre_crop((200, 100), SIDE)
    wanted = [50 + 8 / 32 * 100, 10 / 32 * 100, 50 + 24 / 32 * 100, 20 / 32 * 100]
    assert map_box(rectangle(INNER, 0.6), 0.5, geometry).tolist() == pytest.approx(wanted)


def test_any_number_of_threads_finds_the_same_boxes(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rows_with({row: [in_image(INNER, row)] for row in range(4)})
    maps = [np.maximum(rectangle(INNER, rng.random()), rectangle(OUTER, rng.random())) for _ in range(4)]
    sums = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        sums.append(added(MaskMetrics(rows, True), maps, [rectangle(INNER)] * 4, [0, 1, 2, 3]).sums)
    assert np.array_equal(*sums) and len(set(sums[0][4:])) > 1


def test_values_of_each_image_whatever_order_they_come_in():
    rows = rows_with({row: [in_image(INNER, row)] for row in (0, 1, 3)})
    figures = MaskMetrics(rows, True, each=ImageValues(np.array([0, 1, 2, 3]), 2 + len(VALIDATION_TAUS)))
    inner, outer = rectangle(INNER), rectangle(OUTER)
    added(figures, [outer, inner], [inner, inner], [3, 0])
    found = added(figures, [inner, inner], [outer, inner], [2, 1]).per_image()
    share = 160 / 576
    assert found["row"].tolist() == [0, 1, 2, 3]
    assert found["mask_iou"] == pytest.approx([1, 1, share, share])
    assert found["box_iou"] == pytest.approx([1, 1, np.nan, share], nan_ok=True)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_first_guesses_and_first_five():
    logits = torch.arange(10.0).repeat(4, 1)  # guesses are 9, 8, 7, 6, 5
    figures = ClassMetrics()
    figures.add(torch.tensor([1.0, 2, 3, 6]), logits, torch.tensor([9, 5, 4, 8]), torch.arange(4))
    assert figures.values() == {"top1": 0.25, "top5": 0.75, "loss": 3.0, "images": 4}


def test_with_fewer_than_five_classes_all_are_among_the_first_five():
    figures = ClassMetrics()
    figures.add(torch.ones(3), torch.eye(3), torch.tensor([0, 1, 0]), torch.arange(3))
    assert figures.values() == {"top1": pytest.approx(2 / 3), "top5": 1.0, "loss": 1.0, "images": 3}


def test_an_image_without_a_class_is_never_right():
    figures = ClassMetrics()
    figures.add(torch.ones(2), torch.eye(2), torch.tensor([-1, 1]), torch.arange(2))
    assert figures.values()["top1"] == figures.values()["top5"] == 0.5


def test_half_precision_logits():
    figures = ClassMetrics()
    figures.add(torch.ones(2), torch.eye(2, dtype=torch.bfloat16), torch.tensor([0, 0]), torch.arange(2))
    assert figures.values()["top1"] == 0.5


def test_the_first_guess_of_each_image():
    figures = ClassMetrics(each=ImageValues(np.array([4, 6, 9]), 2))
    figures.add(torch.ones(2), torch.eye(6)[[5, 1]], torch.tensor([5, 2]), torch.tensor([9, 4]))
    figures.add(torch.ones(1), torch.eye(6)[[3]], torch.tensor([-1]), torch.tensor([6]))
    found = {name: values.tolist() for name, values in figures.per_image().items()}
    assert found == {"row": [4, 6, 9], "label": [2, -1, 5], "guess": [1, 3, 5]}


# --- several processes -----------------------------------------------------------------------------------------------


def test_ranks_add_up_their_sums():
    own, other, whole = (ClassMetrics(each=ImageValues(np.arange(3), 2)) for _ in range(3))
    for figures in (own, whole):
        figures.add(torch.tensor([0.25, 0.5]), torch.eye(6)[:2], torch.tensor([0, 0]), torch.arange(2))
    for figures in (other, whole):
        figures.add(torch.tensor([1.0]), torch.eye(6)[2:3], torch.tensor([2]), torch.tensor([2]))

    def all_reduce(values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        theirs = other.sums if values.ndim == 1 else other.each.values
        return values + torch.tensor(theirs) if reduce_op == "sum" else values

    sum_over_ranks(own, SimpleNamespace(world_size=2, all_reduce=all_reduce))
    assert own.values() == whole.values() and own.values()["images"] == 3
    assert own.per_image()["guess"].tolist() == whole.per_image()["guess"].tolist() == [0, 1, 2]


def test_one_rank_keeps_its_sums():
    figures = ClassMetrics()
    figures.add(torch.ones(1), torch.eye(2)[:1], torch.tensor([0]), torch.arange(1))
    before = figures.values()
    sum_over_ranks(figures, SimpleNamespace(world_size=1))
    assert figures.values() == before
