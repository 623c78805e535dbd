"""The pipeline around a GPU worker, which is simulated: decoding and writing on CPU workers, ViT and cut on another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version

from .conftest import assert_same, build, command
from .simulated_gpu import REPLACED
from .test_killed import blocks_done

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
SABOTAGE = Path(__file__).parents[1] / "sabotage"


@pytest.fixture
def recipe(tmp_path):
    def write(engine: str, size_px: int = 64) -> Path:
        file = tmp_path / f"{engine}-{size_px}.toml"
        steps = FEW_STEPS if engine == "torch" else ""
        file.write_text(RECIPE.format(engine=engine, size_px=size_px, steps=steps))
        return file

    return write


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "size_px", "count"), [("torch", 64, 16), ("torch", 96, 70), ("fast", 96, 70)])
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


@pytest.mark.slow
def test_killed_resumed_and_with_poison(make_folder, tmp_path, recipe):
    """`kill -9` of the command after its first block; one image crashes its decoder and one hangs it."""
    images = make_folder(tmp_path / "images", 200)
    (images / "even" / "0100.jpg").write_bytes(b"CRASH")
    (images / "odd" / "0151.jpg").write_bytes(b"HANG")
    environment = os.environ | {"PYTHONPATH": str(SABOTAGE)}
    script = Path(__file__).with_name("simulated_gpu.py")

    def arguments(store: Path) -> list[str]:
        more = ("--workers", 2, "--recipe", recipe("torch"), "--image-limit-s", 5, "--checkpoint-s", 0, "--json")
        weights = ("--backbone", "vit_tiny_patch16_224", "--weights", "random")
        return [*map(str, ("masks", "build", images, "--store", store, *weights, *more))]

    gpu, cpu = tmp_path / "gpu.store", tmp_path / "cpu.store"
    started = subprocess.Popen(
        [sys.executable, script, *arguments(gpu)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    give_up = time.monotonic() + 120
    while blocks_done(gpu) < 1 and started.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "the build was over before it could be killed"
    before = blocks_done(gpu)
    assert before >= 1
    resumed = subprocess.run(
        [sys.executable, script, *arguments(gpu)], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    undisturbed = subprocess.run(
        command(*arguments(cpu)), env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (resumed.returncode, undisturbed.returncode) == (0, 0), resumed.stderr + undisturbed.stderr
    assert json.loads(resumed.stdout)["new_rows"] <= 200 - 8 - 64 * (before - 1)
    made, expected = open_version(f"{gpu}@v1"), open_version(f"{cpu}@v1")
    assert_same(made, expected)
    crashed = np.flatnonzero(made.status == Status.CRASHED)
    assert [made.ids[row] for row in crashed] == ["even/0100.jpg", "odd/0151.jpg"]
    assert "SIGSEGV" in made.reasons(crashed)[0][1] and "took longer than 5 s" in made.reasons(crashed)[1][1]
    shutil.rmtree(images)
