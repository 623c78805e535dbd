"""Engines in turn: ratios measured with a fake clock, the second seed, the sample of slow engines, the order."""

import itertools

import cv2
import numpy as np
import pytest
from torch import get_num_threads, set_num_threads

from locloc.pipeline.bench import EngineReport, EngineRow, Problem, bench_engines
from locloc.pipeline.bench.engines import OTHER_SEED, again, one_thread, spread_over, turned
from locloc.pipeline.bench.images import make_images
from locloc.pipeline.bench.problems import simulated_problems

SIDE = 8


class FakeEngine:
    """Moves the clock by `seconds` and returns a mask of `rows` rows. Records every call: engine and seed."""

    now = 0.0
    calls: tuple[tuple["FakeEngine", int], ...] = ()

    def __init__(self, seconds: float, rows: int, iterations: int = 1):
        self.seconds, self.rows, self.iterations = seconds, rows, iterations

    def __call__(self, rgb, trimap, seed=0):
        FakeEngine.now += self.seconds
        FakeEngine.calls += ((self, seed),)
        mask = np.zeros(trimap.shape, bool)
        mask[: self.rows] = True
        return mask


@pytest.fixture(autouse=True)
def reset():
    FakeEngine.now, FakeEngine.calls = 0.0, ()


def measure(problems, engines, slow=None, sample=10) -> EngineReport:
    """The reference takes 6 s a round and finds 4 rows."""
    return bench_engines(
        problems,
        engines,
        slow or {},
        sample,
        lambda rounds: FakeEngine(6.0 * rounds, 4, rounds),
        lambda: FakeEngine.now,
    )


def test_ratios_and_agreement_by_hand(problem):
    report = measure([problem(seed) for seed in range(3)], {"a": FakeEngine(2, 2), "b": FakeEngine(8, 8, iterations=5)})
    assert report.row("a") == EngineRow("a", "opencv, 1 round", 3, 2000, 2000, 3.0, 0.5, 1.0, 0.5)
    assert report.row("b") == EngineRow("b", "opencv, 5 rounds", 3, 8000, 8000, 3.75, 0.5, 0.25, 0.5)
    assert report.row("a").images_per_s == 0.5
    first = report.row("opencv, 1 round")
    assert (first.times_reference, first.iou_to_reference, first.iou_to_truth) == (1, 1, 0.5)
    assert [row.name for row in report.rows][:4] == [
        "opencv, 1 round", "opencv, 5 rounds", "opencv, 1 round, another seed", "opencv, 5 rounds, another seed",
    ]  # fmt: skip


def test_the_ratio_is_of_total_times_and_the_median_of_single_ones(problem):
    engine = FakeEngine(1, 4)
    slower = iter([1.0, 1.0, 2.0, 9.0])  # the warm-up, then three problems

    class Uneven(FakeEngine):
        def __call__(self, rgb, trimap, seed=0):
            self.seconds = next(slower, 0)
            return super().__call__(rgb, trimap, seed)

    row = measure([problem(seed) for seed in range(3)], {"uneven": Uneven(0, 4), "even": engine}).row("uneven")
    assert (row.median_ms, row.mean_ms, row.times_reference) == (2000, 4000, 18 / 12)


def test_the_second_reference_has_another_seed(problem):
    measure([problem(7)], {"a": FakeEngine(1, 1)})
    seeds = [seed for engine, seed in FakeEngine.calls if engine.rows == 4]
    warm_up, energies = seeds[:2], seeds[4:]
    assert warm_up == [0, 0] and sorted(seeds[2:4]) == [7, 7 + OTHER_SEED] and energies == [7]


def test_opencv_with_another_seed_differs_on_some_image():
    """The row "another seed" shows how much of a difference is chance; masks that never differ would show none."""
    problems, _ = simulated_problems(make_images(4, 64).images, "B")
    report = bench_engines(problems, {"a": FakeEngine(1, 1)}, {})
    assert 0 < report.row(again("opencv, 1 round")).iou_to_reference < 1
    assert report.row(again("opencv, 1 round")).times_reference > 0


def test_slow_engines_run_on_a_sample_and_are_compared_there(problem):
    problems = [problem(seed) for seed in range(7)]
    slow = FakeEngine(60, 4)
    report = measure(problems, {"a": FakeEngine(1, 1)}, {"slow": slow}, sample=3)
    row = report.row("slow")
    assert (row.problems, report.row("a").problems) == (3, 7)
    assert row.times_reference == 0.1 and row.iou_to_reference == 1
    sampled = [seed for engine, seed in FakeEngine.calls if engine is slow]
    assert sampled[0] == 0 and sorted(sampled[1:4]) == sampled[4:] == [0, 2, 4]  # warm-up, in turn, energies
    assert {row.problems for row in report.energies} == {3}


def test_problems_that_grabcut_cannot_run_on_are_left_out(problem):
    nothing = Problem(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8), None, 0)
    report = measure([nothing, problem(0), nothing], {"a": FakeEngine(1, 1)})
    assert report.unusable == 2 and report.row("a").problems == 1
    with pytest.raises(ValueError, match="enough pixels"):
        measure([nothing], {"a": FakeEngine(1, 1)})


def test_without_truth(problem):
    assert measure([problem(0, None)], {"a": FakeEngine(1, 1)}).row("a").iou_to_truth is None


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_each_name_comes_first_and_after_others(count):
    names = [str(number) for number in range(count)]
    orders = [turned(names, number) for number in range(2 * count)]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert {order[0] for order in orders} == set(names)
    before = {pair for order in orders for pair in itertools.pairwise(order)}
    assert all((b, a) in before for a, b in before)


@pytest.mark.parametrize(("count", "sample", "wanted"), [(4, 10, {0, 1, 2, 3}), (10, 2, {0, 5}), (7, 3, {0, 2, 4})])
def test_spread_over(count, sample, wanted):
    assert spread_over(count, sample) == wanted


def test_one_thread_inside_only():
    def threads() -> tuple[int, int]:
        return cv2.getNumThreads(), get_num_threads()

    before = threads()
    try:
        cv2.setNumThreads(2)
        set_num_threads(2)
        with one_thread():
            assert threads() == (1, 1)
        assert threads() == (2, 2)
    finally:
        cv2.setNumThreads(before[0])
        set_num_threads(before[1])
