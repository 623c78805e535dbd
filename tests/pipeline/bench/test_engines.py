"""Engines in turn: ratios by a known clock, costs of graphs by hand, images and their masks, a node's speed."""

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image
from torch import get_num_threads, set_num_threads

from locloc.pipeline.bench import EngineReport, EngineRow, Problem, bench_engines
from locloc.pipeline.bench.energy import CERTIFIED, EXACT, Graph, first_graph, score_energies
from locloc.pipeline.bench.engines import ENGINES, OTHER_SEED, again, one_thread, spread_over, turned
from locloc.pipeline.bench.images import _image, load_images, make_images
from locloc.pipeline.bench.masks import IMAGENET, MaskBenchRequest, bench_masks, node_rate, project_node
from locloc.pipeline.bench.problems import SIMULATIONS, simulated_problems
from locloc.pipeline.errors import BenchError, TruthError
from locloc.pipeline.masks.grabcut import FastGrabCut, OpenCVGrabCut, TorchGrabCut
from locloc.pipeline.masks.grabcut.fast_cut import EXCESS
from locloc.pipeline.masks.grabcut.fast_links import link

SIDE = 8


class FakeEngine:
    """Takes the seconds it is given, and answers with so many rows of foreground; remembers who was called, and how."""

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
def forgotten():
    FakeEngine.now, FakeEngine.calls = 0.0, ()


def problem(seed: int, truth_rows: int | None = 2, side: int = SIDE) -> Problem:
    """Noise, sure at both ends and unknown between; the truth is the first rows."""
    rng = np.random.default_rng(seed)
    trimap = rng.choice([2, 3], (side, side)).astype(np.uint8)
    trimap[:2], trimap[-2:] = 1, 0
    truth = None if truth_rows is None else np.arange(side)[:, None] + np.zeros(side, int) < truth_rows
    return Problem(rng.integers(0, 256, (side, side, 3), np.uint8), trimap, truth, seed)


def measured(problems, engines, slow=None, sample=10) -> EngineReport:
    """The reference takes 6 s a round and finds 4 rows."""
    return bench_engines(
        problems,
        engines,
        slow or {},
        sample,
        lambda rounds: FakeEngine(6.0 * rounds, 4, rounds),
        lambda: FakeEngine.now,
    )


# --- in turn ---------------------------------------------------------------------------------------------------------


def test_ratios_and_agreement_by_hand():
    report = measured(
        [problem(seed) for seed in range(3)], {"a": FakeEngine(2, 2), "b": FakeEngine(8, 8, iterations=5)}
    )
    assert report.row("a") == EngineRow("a", "opencv, 1 round", 3, 2000, 2000, 3.0, 0.5, 1.0, 0.5)
    assert report.row("b") == EngineRow("b", "opencv, 5 rounds", 3, 8000, 8000, 3.75, 0.5, 0.25, 0.5)
    assert report.row("a").images_per_s == 0.5
    first = report.row("opencv, 1 round")
    assert (first.times_reference, first.iou_to_reference, first.iou_to_truth) == (1, 1, 0.5)
    assert [row.name for row in report.rows][:4] == [
        "opencv, 1 round", "opencv, 5 rounds", "opencv, 1 round, another seed", "opencv, 5 rounds, another seed",
    ]  # fmt: skip


def test_times_of_all_problems_make_a_ratio_and_the_middle_one_a_median():
    engine = FakeEngine(1, 4)
    slower = iter([1.0, 1.0, 2.0, 9.0])  # the warm-up, then three problems

    class Uneven(FakeEngine):
        def __call__(self, rgb, trimap, seed=0):
            self.seconds = next(slower, 0)
            return super().__call__(rgb, trimap, seed)

    row = measured([problem(seed) for seed in range(3)], {"uneven": Uneven(0, 4), "even": engine}).row("uneven")
    assert (row.median_ms, row.mean_ms, row.times_reference) == (2000, 4000, 18 / 12)


def test_the_second_reference_has_another_seed():
    measured([problem(7)], {"a": FakeEngine(1, 1)})
    seeds = [seed for engine, seed in FakeEngine.calls if engine.rows == 4]
    warm_up, energies = seeds[:2], seeds[4:]
    assert warm_up == [0, 0] and sorted(seeds[2:4]) == [7, 7 + OTHER_SEED] and energies == [7]


def test_opencv_again_is_another_mask_somewhere():
    """Or its row would say nothing of what can be asked for."""
    problems, _ = simulated_problems(make_images(4, 64).images, "B")
    report = bench_engines(problems, {"a": FakeEngine(1, 1)}, {})
    assert 0 < report.row(again("opencv, 1 round")).iou_to_reference < 1
    assert report.row(again("opencv, 1 round")).times_reference > 0


def test_slow_engines_run_on_a_sample_and_are_compared_there():
    problems = [problem(seed) for seed in range(7)]
    slow = FakeEngine(60, 4)
    report = measured(problems, {"a": FakeEngine(1, 1)}, {"slow": slow}, sample=3)
    row = report.row("slow")
    assert (row.problems, report.row("a").problems) == (3, 7)
    assert row.times_reference == 0.1 and row.iou_to_reference == 1
    sampled = [seed for engine, seed in FakeEngine.calls if engine is slow]
    assert sampled[0] == 0 and sorted(sampled[1:4]) == sampled[4:] == [0, 2, 4]  # warm-up, in turn, energies
    assert {row.problems for row in report.energies} == {3}


def test_problems_that_grabcut_cannot_run_on_are_left_out():
    nothing = Problem(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8), None, 0)
    report = measured([nothing, problem(0), nothing], {"a": FakeEngine(1, 1)})
    assert report.unusable == 2 and report.row("a").problems == 1
    with pytest.raises(ValueError, match="enough pixels"):
        measured([nothing], {"a": FakeEngine(1, 1)})


def test_without_truth():
    assert measured([problem(0, None)], {"a": FakeEngine(1, 1)}).row("a").iou_to_truth is None


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


# --- energies --------------------------------------------------------------------------------------------------------


def graph_of(excess: list[int], price: float = 0.01) -> Graph:
    """Three free pixels of one colour in a row: neighbours cost 10 each, terminals as given."""
    record, nodes, pixels = link(np.zeros((1, 3, 3), np.uint8), np.full((1, 3), 2, np.uint8), price, 0.0, 8)
    record[nodes + EXCESS] = excess
    return Graph(record, nodes, pixels, 5, 8)


@pytest.mark.parametrize(
    ("mask", "cost"),
    [
        ([1, 0, 0], 10 + 3),  # one edge, and the third pixel would rather be foreground
        ([1, 0, 1], 20),
        ([1, 1, 1], 4),
        ([0, 0, 0], 100 + 3),
        ([0, 1, 0], 20 + 100 + 4 + 3),
    ],
)
def test_cost_by_hand(mask, cost):
    graph = graph_of([100, -4, 3])
    assert graph.cost(np.array([mask], bool)) == cost
    assert graph.least() == 4


@pytest.mark.parametrize("neighbours", [4, 8])
def test_the_least_is_the_least_of_all_masks(neighbours):
    """Nine pixels, seven of them free: all 128 masks; and no flow is lost on the way."""
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        codes = rng.permutation([0, 1, 2, 2, 2, 2, 3, 3, 3]).reshape(3, 3).astype(np.uint8)
        rgb = rng.integers(0, 30, (3, 3, 3), np.uint8)
        record, nodes, pixels = link(rgb, codes, 10.0, 0.01, neighbours)
        record[nodes + EXCESS] += rng.integers(-20_000, 20_001, len(nodes)).astype(np.int32)
        graph, costs = Graph(record, nodes, pixels, 5, neighbours), []
        for labels in itertools.product([False, True], repeat=len(pixels)):
            mask = codes == 1
            mask.reshape(-1)[pixels] = labels
            costs.append(graph.cost(mask))
        assert graph.least() == min(costs)
        seen.add(min(costs))
    assert len(seen) > 20


@pytest.mark.parametrize("engine", [FastGrabCut(), FastGrabCut(neighbours=4), FastGrabCut(gamma=3)])
def test_a_round_of_fast_costs_the_least_and_others_no_less(engine):
    for seed in range(5):
        one = problem(seed, side=24)
        graph = first_graph(engine, one.rgb, one.trimap)
        assert graph.cost(engine(one.rgb, one.trimap)) == graph.least() > 0
        assert graph.cost(OpenCVGrabCut()(one.rgb, one.trimap)) >= graph.least()


def test_energy_rows():
    problems = [problem(seed, side=24) for seed in range(3)]
    engines = {
        "fast": FastGrabCut(),
        "four": FastGrabCut(neighbours=4),
        "torch": TorchGrabCut(),
        "rows": FakeEngine(1, 3),
    }
    fast, four, torch, rows = score_energies(problems, engines)
    assert (fast.shared_max, fast.own_max, fast.own) == (0, 0, EXACT)
    assert four.shared_mean > 0 == four.own_max
    assert torch.own == CERTIFIED and 0 <= torch.own_mean <= torch.own_max <= TorchGrabCut().max_gap
    assert rows.shared_max >= rows.shared_mean > 0 and (rows.own, rows.own_mean, rows.own_max) == (None, None, None)
    costs = [first_graph(FastGrabCut(), one.rgb, one.trimap) for one in problems]
    gaps = [graph.cost(np.arange(24)[:, None] + np.zeros(24) < 3) / graph.least() - 1 for graph in costs]
    assert rows.shared_mean == pytest.approx(np.mean(gaps)) and rows.shared_max == max(gaps) and rows.problems == 3


# --- images --------------------------------------------------------------------------------------------------------


def save(file, shape=(20, 30), white=None):
    """A black image `shape` with a white window."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros(shape, np.uint8)
    if white is not None:
        image[white] = 255
    Image.fromarray(image).save(file)


LEFT = np.s_[:, :15]


def test_masks_of_the_images_names(tmp_path):
    images, truth = tmp_path / "images", tmp_path / "masks"
    for name in ("a.jpg", "b/c.jpg", "b/d.e.png", "f.jpg", "g/x.png", "h/x.png"):
        save(images / name)
    save(truth / "a.png", (40, 60), np.s_[:, :30])  # twice the size
    save(truth / "c.bmp", white=LEFT)  # of the same name, elsewhere
    save(truth / "b/d.e.jpg", white=np.s_[:10])
    save(truth / "x.png", white=LEFT)  # of which one?
    loaded = load_images(images, truth, 0, 16)
    assert [one.name for one in loaded.images] == ["a.jpg", "b/c.jpg", "b/d.e.png"] and not loaded.skipped
    left = np.arange(16) + np.zeros((16, 1), int) < 8
    for one, wanted in zip(loaded.images, (left, left, left.T), strict=True):
        np.testing.assert_array_equal(one.truth, wanted)
        assert one.rgb.shape == (16, 16, 3) and one.inputs.shape == (224, 224, 3) and one.decode_s > 0 < one.resize_s


def test_a_part_is_spread_over_the_folder(tmp_path):
    for number in range(10):
        save(tmp_path / f"{number}.png")
    assert [one.name for one in load_images(tmp_path, None, 3, 16).images] == ["0.png", "3.png", "6.png"]
    loaded = load_images(tmp_path, None, 0, 16).images
    assert len(loaded) == 10 and all(one.truth is None for one in loaded)


def test_what_cannot_be_measured_on_is_skipped_with_its_reason(tmp_path):
    images, truth = tmp_path / "images", tmp_path / "masks"
    for name in "abcdef":
        save(images / f"{name}.png")
    (images / "a.png").write_bytes(b"nothing")
    save(truth / "a.png", white=LEFT)
    save(truth / "b.png", white=np.s_[:])
    save(truth / "c.png")
    save(truth / "d.png", (30, 20), np.s_[:, :10])
    (truth / "e.png").write_bytes(b"nothing")
    save(truth / "f.png", white=LEFT)
    loaded = load_images(images, truth, 0, 16)
    assert [one.name for one in loaded.images] == ["f.png"]
    assert loaded.skipped == [
        "a.png: not an image of a known format",
        "b.png: its mask has no background (brighter than half is object)",
        f"c.png: True mask {truth}/c.png is empty: its brightest value is 0, and an object is brighter than 127",
        "d.png: its mask is 20 x 30, the image 30 x 20",
        f"e.png: True mask {truth}/e.png: not an image of a known format",
    ]
    (truth / "f.png").unlink()
    with pytest.raises(BenchError, match=r"^None of 5 images of --images .* can be measured on; a.png: not an image"):
        load_images(images, truth, 0, 16)


def test_the_first_image_that_can_be_measured_on_warms_up(tmp_path, monkeypatch):
    made = []
    where = "locloc.pipeline.bench.images._image"
    monkeypatch.setattr(where, lambda name, *given: made.append(name) or _image(name, *given))
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert [one.name for one in load_images(tmp_path, None, 0, 16).images] == ["b.png", "c.png"]
    assert made == ["a.png", "b.png", "b.png", "c.png"]


def test_folders_that_do_not_fit(tmp_path):
    images, truth, none = tmp_path / "images", tmp_path / "masks", tmp_path / "none"
    save(images / "a.png")
    truth.mkdir()
    with pytest.raises(BenchError, match=r"^--images .*none is no folder$"):
        load_images(none, truth, 0, 16)
    with pytest.raises(BenchError, match=r"^--images .*masks holds no image$"):
        load_images(truth, truth, 0, 16)
    with pytest.raises(TruthError, match=r"^--truth .*none is no folder of masks$"):
        load_images(images, none, 0, 16)
    save(truth / "b.png")
    with pytest.raises(TruthError, match=r"^--truth .*masks has no mask of any of 1 images"):
        load_images(images, truth, 0, 16)


def test_made_scenes_are_the_same_each_time():
    one, two = make_images(2, 32).images, make_images(3, 32).images
    assert [image.name for image in one] == ["scene 0", "scene 1"]
    for a, b in zip(one, two, strict=False):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.truth, b.truth)
        assert 0 < a.truth.mean() < 1
    assert (one[0].rgb != one[1].rgb).any()


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_simulated_problems(simulation):
    images = make_images(2, 32).images
    problems, trimap_s = simulated_problems(images, simulation)
    again, _ = simulated_problems(images, simulation)
    assert trimap_s >= 0 and [one.seed for one in problems] == [0, 1]
    for one, other, image in zip(problems, again, images, strict=True):
        np.testing.assert_array_equal(one.trimap, other.trimap)
        assert one.rgb is image.rgb and set(np.unique(one.trimap)) <= {0, 1, 2, 3}


# --- a node ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_ms", "vit", "cores", "rate", "limit"),
    [
        (10, 3600, 16, 1600, "cores"),
        (4, 3600, 16, 3600, "GPU"),
        (4, 4000, 16, 4000, "GPU"),  # just as fast
        (4, 4001, 16, 4000, "cores"),
        (10, 3600, 1, 100, "cores"),
    ],
)
def test_a_nodes_rate(image_ms, vit, cores, rate, limit):
    assert node_rate(image_ms, vit, cores) == (rate, limit)


def test_a_node_by_hand():
    """Reading 4 ms, refining 6 ms: a core makes 100 a second, 16 make 1600, and ImageNet takes 13.3 minutes."""
    rows = [
        EngineRow(name, "opencv, 1 round", 5, 1.0, mean_ms, 1.0, 1.0, None, None)
        for name, mean_ms in (("a", 6.0), (again("opencv, 1 round"), 9.0), ("torch, 1 round", 300.0), ("b", 0.0))
    ]
    a, b = project_node({"x": EngineReport(rows, [], 0)}, 4.0, 3600)
    assert (a.engine, a.problems, a.images_per_s, a.limit) == ("a", "x", 1600, "cores")
    assert a.imagenet_min == pytest.approx(1_281_167 / 1600 / 60) and round(a.imagenet_min, 1) == 13.3
    assert (b.engine, b.images_per_s, b.limit) == ("b", 3600, "GPU") and b.imagenet_min == IMAGENET / 3600 / 60


def test_flat_images_leave_nothing_to_measure(tmp_path):
    """Masks of one pixel: no trimap has enough pixels of the object."""
    for index in range(2):
        save(tmp_path / "images" / f"{index}.png", (64, 64))
        save(tmp_path / "masks" / f"{index}.png", (64, 64), np.s_[:4, :4])
    asked = MaskBenchRequest(tmp_path / "images", tmp_path / "masks", 0, 16)
    with pytest.raises(BenchError, match=r"^simulation .: none of 2 trimaps has enough pixels of both sides"):
        bench_masks(asked)


def test_an_engine_s_own_error_is_told_as_it_is(monkeypatch):
    class Broken(FakeEngine):
        def __call__(self, rgb, trimap, seed=0):
            raise ValueError("a bug")

    monkeypatch.setitem(ENGINES, "broken", Broken(1, 1))
    with pytest.raises(ValueError, match="^a bug$"):
        bench_masks(MaskBenchRequest(count=1, size_px=32))
