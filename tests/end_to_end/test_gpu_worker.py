"""The pipeline around a GPU worker, which is simulated: decoding and writing on CPU workers, ViT and cut on another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from locloc.cli import app
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version

from .conftest import BUILD, assert_same, blocks_done, build, command, kill_after
from .simulated_gpu import REPLACED

SIMULATED = Path(__file__).with_name("simulated_gpu.py")
SABOTAGE = Path(__file__).parents[1] / "sabotage"

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


@pytest.mark.slow
def test_jpegs_that_the_gpu_worker_decodes(make_folder, tmp_path, recipe, monkeypatch):
    """By torchvision on its CPU, which like Pillow has libjpeg: also those of a version that is refined."""
    images = make_folder(tmp_path / "images", 16)
    (images / "odd/0001.jpg").write_bytes((images / "odd/0003.jpg").read_bytes()[:-300])
    for module, name, value in REPLACED:
        monkeypatch.setattr(module, name, value)
    by_pillow = recipe("fast", 64)
    by_nvjpeg = tmp_path / "nvjpeg.toml"
    by_nvjpeg.write_text(by_pillow.read_text().replace("[backbone]", '[images]\ndecoder = "nvjpeg"\n[backbone]'))
    versions = []
    for file in (by_pillow, by_nvjpeg):
        store = tmp_path / f"{file.stem}.store"
        build(images, store, "--workers", 1, "--recipe", file)
        versions.append(open_version(f"{store}@v1"))
    assert_same(*versions)
    pillow, nvjpeg = (version.provenance for version in versions)
    assert nvjpeg["recipe"]["images"]["decoder"] == "nvjpeg" and pillow["fingerprint"] != nvjpeg["fingerprint"]
    again = tmp_path / "again.toml"
    again.write_text(by_nvjpeg.read_text().replace("threshold = 0.25", "threshold = 0.22"))
    app(["masks", "refine", str(versions[1].name), "--recipe", str(again), "--workers", "1"], standalone_mode=False)
    refined = open_version(f"{tmp_path}/nvjpeg.store@v2")
    assert refined.provenance["recipe"]["images"]["decoder"] == "nvjpeg"
    assert refined.read_column("mask").any((1, 2)).sum() >= 14


@pytest.mark.slow
def test_killed_and_resumed_among_images_that_crash_and_hang_their_decoder(make_folder, tmp_path, recipe):
    """By `kill -9` of the command. The bytes are those of an undisturbed build on CPU workers."""
    images = make_folder(tmp_path / "images", 160)  # three blocks, in order of their names: even, both, odd
    bad = {"even/0150.jpg": b"CRASH", "odd/0003.jpg": b"no image", "odd/0101.jpg": b"HANG"}
    for name, data in bad.items():
        (images / name).write_bytes(data)
    env = os.environ | {"PYTHONPATH": str(SABOTAGE)}
    limits = ("--recipe", recipe("torch", 64), "--workers", 1, "--image-limit-s", 6, "--checkpoint-s", 0)

    def to(store: Path) -> list[str]:
        return [*BUILD, *map(str, (images, "--store", store, *limits))]

    cpu, gpu = tmp_path / "cpu.store", tmp_path / "gpu.store"
    subprocess.run(command(*to(cpu)), env=env, check=True, capture_output=True, timeout=300)
    building = [sys.executable, str(SIMULATED), *to(gpu)]
    kill_after(building, gpu, 1, 0, env)
    before = blocks_done(gpu)
    assert 1 <= before < 3
    log = tmp_path / "resumed.jsonl"
    subprocess.run([*building, "--log", str(log)], env=env, check=True, capture_output=True, timeout=300)
    assert sum(json.loads(line)["event"] == "block" for line in log.read_text().splitlines()) == 3 - before
    version = open_version(f"{gpu}@v1")
    assert [version.reasons([version.row(name)])[0] for name in bad] == [
        (Status.CRASHED, "it killed its process (SIGSEGV)"),
        (Status.UNDECODABLE, "not an image of a known format"),
        (Status.CRASHED, "took longer than 6 s (--image-limit-s)"),
    ]
    assert (version.read_column("status") == Status.OK).sum() > 100
    assert_same(open_version(f"{cpu}@v1"), version)
