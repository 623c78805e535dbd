"""The benchmark of engines as a whole: the projected throughput of a node, and errors."""

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.bench import EngineReport, EngineRow
from locloc.pipeline.bench.engines import ENGINES, again
from locloc.pipeline.bench.masks import IMAGENET, MaskBenchRequest, bench_masks, node_rate, project_node
from locloc.pipeline.errors import BenchError


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


def test_masks_without_a_usable_trimap_are_an_error(tmp_path):
    """Masks of one pixel at this size: no trimap has enough pixels of the object."""
    images, truth = tmp_path / "images", tmp_path / "masks"
    mask = np.zeros((64, 64), np.uint8)
    mask[:4, :4] = 255
    for folder, pixels in ((images, np.zeros_like(mask)), (truth, mask)):
        folder.mkdir()
        for index in range(2):
            Image.fromarray(pixels).save(folder / f"{index}.png")
    request = MaskBenchRequest(images, truth, 0, 16)
    with pytest.raises(BenchError, match=r"^simulation .: none of 2 trimaps has enough pixels of both sides"):
        bench_masks(request)


def test_a_bug_in_an_engine_is_raised(monkeypatch):
    def broken(rgb, trimap, seed=0):
        raise ValueError("a bug")

    monkeypatch.setitem(ENGINES, "broken", broken)
    with pytest.raises(ValueError, match="^a bug$"):
        bench_masks(MaskBenchRequest(count=1, size_px=32))
