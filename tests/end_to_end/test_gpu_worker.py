"""The pipeline around a GPU worker, which is simulated: decoding and writing on CPU workers, ViT and cut on another."""

import json
from pathlib import Path

import pytest

from locloc.pipeline.store import open_version

from .conftest import assert_same, build
from .simulated_gpu import REPLACED

RECIPE = """
mask_px = 64
[backbone]
name = "vit_tiny_patch16_224"
size_px = {size_px}
maps = "attention"
[saliency]
strategy = "absolute"
foreground_from = 0.3
background_below = 0.2
threshold = 0.25
[refine]
engine = "{engine}"
{steps}
"""
FEW_STEPS = "coarse_steps = 0\nfine_steps = 25\nmax_gap = 0.02"
"""Of the engine torch, which takes seconds an image otherwise; some cuts are certified, others go to `fast`."""


@pytest.fixture
def recipe(tmp_path):
    def write(engine: str, size_px: int = 64) -> Path:
        file = tmp_path / f"{engine}-{size_px}.toml"
        steps = FEW_STEPS if engine == "torch" else ""
        file.write_text(RECIPE.format(engine=engine, size_px=size_px, steps=steps))
        return file

    return write


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "size_px", "count"), [("torch", 64, 16), ("fast", 96, 16)])
def test_a_gpu_worker_makes_the_bytes_of_cpu_workers(
    make_folder, tmp_path, recipe, monkeypatch, engine, size_px, count
):
    images = make_folder(tmp_path / "images", count)
    (images / "odd" / "0001.jpg").write_bytes(b"no image")
    stores = [tmp_path / name for name in ("cpu.store", "gpu.store")]
    build(images, stores[0], "--workers", 1, "--recipe", recipe(engine, size_px))
    for module, name, value in REPLACED:
        monkeypatch.setattr(module, name, value)
    log = tmp_path / "run.jsonl"
    build(images, stores[1], "--workers", 1, "--recipe", recipe(engine, size_px), "--log", log)
    cpu, gpu = (open_version(f"{store}@v1") for store in stores)
    assert_same(cpu, gpu)
    assert gpu.read_column("mask").any((1, 2)).mean() > 0.9
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"decode", "vit", "write"} <= set(next(line for line in lines if line["event"] == "block")["seconds"])
