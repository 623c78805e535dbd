"""Each protocol against its rules, spelled out slowly: one threshold, one contour and one box at a time."""

import functools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locloc.pipeline.errors import TrainError
from locloc.pipeline.geometry.boxes import largest_box
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.trainer.evaluation.accumulator import Accumulator, GroundTruth
from locloc.trainer.evaluation.metrics import V2_IOUS
from locloc.trainer.evaluation.protocols import PROTOCOLS, TAUS, fit_geometry, protocols_named
from locloc.trainer.evaluation.score_maps import frame_map, quantize, resample_map

MAPS, SOURCE = 300, 40  # px of raw maps: resized to each protocol's frame
SIZE = (320, 240)
TRIED = np.concatenate([TAUS[::97], [0.0, 0.3, 0.45, 0.49, 0.5, 0.53, 0.999]])


def random_map(number: int) -> np.ndarray:
    """Smooth, blobby, stepped, noisy and flat ones, unbounded, `(40, 40) float32`."""
    rng = np.random.default_rng(number)
    kind, noise = number % 5, rng.normal(0, 3, (SOURCE, SOURCE)).astype(np.float32)
    if kind == 0:
        return cv2.GaussianBlur(noise, (0, 0), 8)
    if kind == 1:
        return (cv2.GaussianBlur(noise, (0, 0), 5) > 0).astype(np.float32)
    if kind == 2:
        return np.round(cv2.GaussianBlur(noise, (0, 0), 4) * 20)
    if kind == 3:
        return cv2.GaussianBlur(noise, (0, 0), 2)
    return np.full_like(noise, rng.normal()) if number % 10 == 4 else cv2.GaussianBlur(noise, (0, 0), 12) ** 3


def random_truths(number: int) -> np.ndarray:
    rng = np.random.default_rng(1000 + number)
    corners = rng.uniform(0, 1, (rng.integers(1, 4), 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 0.02], 1).clip(0, 1)
    boxes = np.floor(boxes * np.tile(SIZE, 2))
    return np.concatenate([boxes[:, :2], (boxes[:, 2:] + 1).clip(0, SIZE)], 1)


# --- the literal implementation: nothing is shared with the package but which of equal contours counts ---


def literal_iou(a, b, plus: float) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + plus
    high = min(a[3], b[3]) - max(a[1], b[1]) + plus
    both = max(wide, 0) * max(high, 0)
    area = (a[2] - a[0] + plus) * (a[3] - a[1] + plus) + (b[2] - b[0] + plus) * (b[3] - b[1] + plus) - both
    return both / area if area > 0 else 0.0


def min_max(one: np.ndarray) -> np.ndarray:
    low, high = one.min(), one.max()
    return (one - low) / (high - low) if high > low else np.zeros_like(one)


def literal_locloc(raw: np.ndarray, truths: np.ndarray, tau: float) -> tuple[list, float]:
    one = (min_max(cv2.resize(raw, (224, 224), interpolation=cv2.INTER_LINEAR)) * 255).astype(np.uint8)
    mask = one > int(tau * one.max())
    box = largest_box(mask).tolist() if mask.any() else [0, 0, 1, 1]
    scale = 256 / min(SIZE)
    left, top = round((int(SIZE[0] * scale) - 224) / 2), round((int(SIZE[1] * scale) - 224) / 2)
    moved = [
        [min(max(x * int(SIZE[0] * scale) / SIZE[0] - left, 0), 224) if n % 2 == 0 else
         min(max(x * int(SIZE[1] * scale) / SIZE[1] - top, 0), 224) for n, x in enumerate(truth)]
        for truth in truths.tolist()
    ]  # fmt: skip
    return box, max(literal_iou(box, truth, 0) for truth in moved)


def literal_ppd(raw: np.ndarray, truths: np.ndarray, tau: float) -> tuple[list, float]:
    mask = min_max(cv2.resize(raw, (256, 256), interpolation=cv2.INTER_LINEAR)) > tau
    box = largest_box(mask).tolist() if mask.any() else [0, 0, 0, 0]
    moved = truths * np.tile(256 / np.array(SIZE), 2)
    return box, max(literal_iou(box, truth, 1) for truth in moved.tolist())


def wsol_levels(raw: np.ndarray) -> np.ndarray:
    if raw.min() == raw.max():
        return np.zeros((224, 224), np.uint8)
    return (min_max(cv2.resize(raw, (224, 224), interpolation=cv2.INTER_CUBIC)) * 255).astype(np.uint8)


def literal_wsol(raw: np.ndarray, truths: np.ndarray, tau: float) -> tuple[list, float]:
    one = wsol_levels(raw)
    mask = one > int(tau * one.max())
    x0, y0, x1, y1 = largest_box(mask).tolist()
    box = [x0, y0, min(x1, 223), min(y1, 223)] if mask.any() else [0, 0, 0, 0]
    moved = [[int(x * 224 / SIZE[n % 2]) for n, x in enumerate(truth)] for truth in truths.tolist()]
    return box, max(literal_iou(box, truth, 1) for truth in moved)


def literal_wsol_all(raw: np.ndarray, truths: np.ndarray, tau: float) -> float:
    one = wsol_levels(raw)
    mask = (one > int(tau * one.max())).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    boxes = [cv2.boundingRect(contour) for contour in contours]
    boxes = [[x, y, min(x + w, 223), min(y + h, 223)] for x, y, w, h in boxes] or [[0, 0, 0, 0]]
    moved = [[int(x * 224 / SIZE[n % 2]) for n, x in enumerate(truth)] for truth in truths.tolist()]
    return max(literal_iou(box, truth, 1) for box in boxes for truth in moved)


def first_of(literal):
    return lambda raw, truths, tau: literal(raw, truths[:1], tau)


LITERAL = {
    "locloc": literal_locloc,
    "locloc-official": first_of(literal_locloc),
    "ppd": literal_ppd,
    "wsol": literal_wsol,
}


def accumulated(name: str, raws: list[np.ndarray], truths: list[np.ndarray], size=SIZE) -> Accumulator:
    protocol = PROTOCOLS[name]
    accumulator = Accumulator(protocol, len(raws))
    for number, (raw, boxes) in enumerate(zip(raws, truths, strict=True)):
        moved = protocol.boxes_in_frame(boxes, size)
        geometry = fit_geometry(protocol.frame.fit, size, len(raw))
        accumulator.add(number, frame_map(raw, geometry, protocol, moved), GroundTruth(moved, None))
    return accumulator


@pytest.fixture(scope="module")
def maps() -> list[np.ndarray]:
    return [random_map(number) for number in range(MAPS)]


@pytest.fixture(scope="module")
def truths() -> list[np.ndarray]:
    return [random_truths(number) for number in range(MAPS)]


@pytest.fixture(scope="module")
def accumulator_of(maps, truths):
    """Of all maps under a protocol, made once."""
    return functools.cache(lambda name: accumulated(name, maps, truths))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "wsol" else [pytest.mark.slow]) for name in PROTOCOLS]
)
def test_a_slow_implementation_of_its_rules_agrees_on_300_maps(name, maps, truths, accumulator_of):
    """Boxes exactly, IoUs to 1e-9, at thresholds drawn for each map; and the curve at some thresholds over all maps."""
    accumulator, protocol, literal = accumulator_of(name), PROTOCOLS[name], LITERAL[name]
    for number, (raw, boxes) in enumerate(zip(maps, truths, strict=True)):
        taus = [0.5] if name == "ppd" else np.random.default_rng(number).choice(TRIED, 2).tolist()
        for tau in taus:
            box, iou = literal(raw, boxes, tau)
            found = accumulator.boxes_at(tau)[number]
            assert found.tolist() == box, (number, tau)
            moved = protocol.boxes_in_frame(boxes, SIZE)
            assert max(literal_iou(found, truth, protocol.plus) for truth in moved) == pytest.approx(iou, abs=1e-9)
    for tau in (0.1, 0.5, 0.8):
        hits = [literal(raw, boxes, tau)[1] >= 0.5 for raw, boxes in zip(maps, truths, strict=True)]
        assert accumulator.curve()[round(tau * 1000)] == pytest.approx(np.mean(hits), abs=1e-9), tau


def test_max_box_acc_v2_counts_all_contours(maps, truths, accumulator_of):
    accumulator = accumulator_of("wsol")
    for tau in (0.2, 0.4, 0.6):
        ious = np.array([literal_wsol_all(raw, boxes, tau) for raw, boxes in zip(maps, truths, strict=True)])
        wanted = [(ious >= least).mean() for least in V2_IOUS]
        assert accumulator.hits_v2[:, round(tau * 1000)] / MAPS == pytest.approx(wanted, abs=1e-9)
    found = accumulator.over_all_thresholds()
    by_iou = {f"{least:g}": (accumulator.hits_v2[n] / MAPS).max() for n, least in enumerate(V2_IOUS)}
    assert found["max_box_acc_v2_by_iou"] == pytest.approx(by_iou)
    assert found["max_box_acc_v2"] == pytest.approx(np.mean(list(by_iou.values())))


# --- properties ---


def test_max_box_acc_is_at_least_the_accuracy_at_any_threshold_and_order_changes_nothing(maps, truths):
    some = list(zip(maps[:40], truths[:40], strict=True))
    accumulator, turned = (
        accumulated("wsol", *map(list, zip(*some, strict=True))),
        accumulated("wsol", *map(list, zip(*some[::-1], strict=True))),
    )
    assert (accumulator.over_all_thresholds()["max_box_acc"] >= accumulator.curve()).all()
    assert accumulator.over_all_thresholds() == turned.over_all_thresholds()
    assert np.array_equal(accumulator.curve(), turned.curve())
    assert np.array_equal(accumulator.boxes_at(0.3), turned.boxes_at(0.3)[::-1])


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(0, 222)] * 4), st.floats(-100, 100), st.floats(0.1, 50))
def test_a_perfect_map_has_v2_of_one_at_any_scale(corners, low, rise):
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    one = np.full((224, 224), low, np.float32)
    one[y0 : y1 + 1, x0 : x1 + 1] += rise
    if (one == one[0, 0]).all():
        return
    found = accumulated("wsol", [one], [np.array([[x0, y0, x1 + 1, y1 + 1]])], (224, 224)).over_all_thresholds()
    assert found["max_box_acc_v2"] == 1


# --- by hand ---


def rectangle(side: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    one = np.zeros((side, side), np.float32)
    for x0, y0, x1, y1 in boxes:
        one[y0:y1, x0:x1] = 1
    return one


@pytest.mark.parametrize(
    ("name", "empty"),
    [("locloc", [0, 0, 1, 1]), ("locloc-official", [0, 0, 1, 1]), ("ppd", [0, 0, 0, 0]), ("wsol", [0, 0, 0, 0])],
)
@pytest.mark.parametrize("flat", [0.0, 7.0, -3.0, np.nan])
def test_the_box_of_a_flat_map(name, empty, flat):
    accumulator = accumulated(name, [np.full((20, 20), flat, np.float32)], [np.array([[10.0, 10, 200, 200]])])
    assert accumulator.boxes_at(0.5).tolist() == [empty]
    assert accumulator.curve().tolist() == [0] * len(TAUS)


@pytest.mark.parametrize(
    ("name", "side", "wanted"),
    [("locloc", 224, [30, 40, 224, 224]), ("ppd", 256, [30, 40, 256, 256]), ("wsol", 224, [30, 40, 223, 223])],
)
def test_a_box_that_touches_the_border(name, side, wanted):
    accumulator = accumulated(
        name, [rectangle(side, (30, 40, side, side))], [np.array([[0.0, 0, 10, 10]])], (side, side)
    )
    assert accumulator.boxes_at(0.5).tolist() == [wanted]


def test_of_several_contours_the_largest_is_the_box_and_any_true_box_counts():
    one = rectangle(224, (10, 10, 60, 60), (100, 100, 200, 200))
    large, small = [100.0, 100, 200, 200], [10.0, 10, 60, 60]
    for boxes, hit in (([small, large], 1), ([large], 1), ([small], 0)):
        assert accumulated("wsol", [one], [np.array(boxes)], (224, 224)).curve()[500] == hit
    found = accumulated("wsol", [one], [np.array([small])], (224, 224)).over_all_thresholds()
    assert (found["max_box_acc"], found["max_box_acc_v2"]) == (0, 1)


def test_the_first_true_box_alone_counts_in_the_official_protocol():
    one, wrong, right = rectangle(224, (50, 50, 150, 150)), [0.0, 0, 20, 20], [66.0, 66, 166, 166]
    size = (256, 256)  # cut to 224: 16 pixels off each side
    assert accumulated("locloc", [one], [np.array([wrong, right])], size).curve()[500] == 1
    assert accumulated("locloc-official", [one], [np.array([wrong, right])], size).curve()[500] == 0
    assert accumulated("locloc-official", [one], [np.array([right, wrong])], size).curve()[500] == 1


def test_thresholds_at_the_edges():
    """At 0 all but the minimum is in; at 0.999 of 255, which is 254, only the maximum."""
    one = np.zeros((224, 224), np.float32)
    one[20:120, 20:120], one[50:80, 50:80] = 1 / 255, 1
    accumulator = accumulated("locloc", [one], [np.array([[0.0, 0, 1, 1]])], (256, 256))
    assert accumulator.boxes_at(0.0).tolist() == [[20, 20, 120, 120]]
    assert accumulator.boxes_at(0.003).tolist() == [[20, 20, 120, 120]]  # int(0.003 * 255) is 0
    assert accumulator.boxes_at(0.004).tolist() == [[50, 50, 80, 80]]  # 1
    assert accumulator.boxes_at(0.999).tolist() == [[50, 50, 80, 80]]
    assert accumulator.boxes_at(1.0).tolist() == [[0, 0, 1, 1]]  # nothing is above the maximum


def test_iou_of_half_is_right_and_plus_one_decides_near_it():
    """100 x 100 beside 100 x 200 is half; a row less is not, with or without +1."""
    for rows, hit in ((100, 1), (99, 0)):
        one = rectangle(224, (12, 12, 112, 12 + rows))
        truth = np.array([[28.0, 28, 128, 228]])  # moved by 16
        assert accumulated("locloc", [one], [truth], (256, 256)).curve()[500] == hit
    one = rectangle(256, (20, 20, 120, 119))
    assert accumulated("ppd", [one], [np.array([[20.0, 20, 120, 219]])], (256, 256)).curve()[500] == 1  # 100 / 200


def test_true_boxes_move_with_the_image():
    truth = np.array([[10.0, 20, 110, 220]])
    assert PROTOCOLS["locloc"].boxes_in_frame(truth, (512, 256)).tolist() == [[0, 4, 0, 204]]  # left of the crop
    assert PROTOCOLS["locloc"].boxes_in_frame(truth + np.array([144, 0, 144, 0]), (512, 256)).tolist() == [
        [10, 4, 110, 204]
    ]
    assert PROTOCOLS["ppd"].boxes_in_frame(truth, (512, 512)).tolist() == [[5, 10, 55, 110]]
    assert PROTOCOLS["wsol"].boxes_in_frame(truth, (500, 300)).tolist() == [[4, 14, 49, 164]]  # 4.48 14.9 49.3 164.3


def test_a_map_of_the_whole_image_is_moved_to_a_crop():
    """A map of everything, cut by the protocol, and one of a square, laid on everything."""
    whole = rectangle(256, (64, 64, 192, 192))
    frame = PROTOCOLS["locloc"].frame
    cut = resample_map(whole, ResizeCrop.stretch((256, 256), 256), frame)
    assert np.array_equal(cut > 0.5, rectangle(224, (48, 48, 176, 176)) > 0)
    square = np.ones((128, 128), np.float32)
    square[0, 0] = -1
    frame = PROTOCOLS["ppd"].frame
    laid = resample_map(square, ResizeCrop.centre_crop((512, 256), 128), frame)
    assert (laid[:, :64] == -1).all() and (laid[:, 192:] == -1).all() and (laid[2:, 66:190] == 1).all()


def test_names_of_protocols():
    assert [protocol.name for protocol in protocols_named("all")] == list(PROTOCOLS)
    assert [protocol.name for protocol in protocols_named("wsol, locloc,wsol")] == ["wsol", "locloc"]
    with pytest.raises(TrainError, match="No --protocol 'loclok'; did you mean 'locloc'"):
        protocols_named("loclok")
    assert PROTOCOLS["locloc-official"].test_taus("cub").tolist() == [
        0.45,
        0.46,
        0.47,
        0.48,
        0.49,
        0.5,
        0.51,
        0.52,
        0.53,
    ]
    assert PROTOCOLS["locloc-official"].test_taus("ilsvrc")[[0, -1]].tolist() == [0.3, 0.45]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_are_how_many_thresholds_lie_below(dtype):
    """At, just above and just below each of them, where rounding could go either way."""
    taus = TAUS.astype(dtype)
    values = np.concatenate([taus, np.nextafter(taus, dtype(2)), np.nextafter(taus, dtype(-1)).clip(0), [1]])
    wanted = [(taus < value).sum() for value in values.astype(dtype)]
    assert quantize(values.astype(dtype)[None], PROTOCOLS["ppd"].frame)[0].tolist() == wanted
