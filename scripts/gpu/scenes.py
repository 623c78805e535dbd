"""Synthetic images on disk for the steps that build and train, and squares in memory for the ViT.

GPU_CHECK_WORK is the folder for data, stores and runs. Few different scenes are written; hard links under other names
make them many.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from commands import patient
from measure import ON_GPU
from results import emit

from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.pipeline.io.machine import usable_cores
from locloc.pipeline.masks.grabcut import FastGrabCut
from locloc.pipeline.synthetic import Scene, make_scene, split_of

WORK = Path(os.environ.get("GPU_CHECK_WORK", "/tmp/locloc-gpu-work"))
READY = WORK / "ready"
UNIQUE, COPIES = (600, 8) if ON_GPU else (12, 2)
"""Scenes that differ, and how often each exists under another name."""
FEW = UNIQUE if ON_GPU else 6
"""Images in WORK/few."""
SCENE_PX = (375, 500)  # height, width: about ImageNet's


def make(index: int) -> Scene:
    return make_scene(3, index, 10, SCENE_PX)


def add_noise(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise, which gives files of about ImageNet's size and many colours."""
    return (rgb + rng.normal(0, 7, rgb.shape)).clip(0, 255).astype(np.uint8)


def squares(count: int, side_px: int = 224) -> np.ndarray:
    """Rgb `(N, side, side, 3) uint8` of scenes."""
    images = [make(index).rgb for index in range(count)]
    return np.stack([ResizeCrop.stretch(rgb.shape[1::-1], side_px).image(rgb) for rgb in images])


def prepare() -> None:
    """Writes the scenes, and compiles the kernels of the engine `fast` and of the evaluation, unless that was done."""
    if READY.exists():
        return
    for name in ("scenes/images", "scenes/masks", "few"):
        (WORK / name).mkdir(parents=True, exist_ok=True)
    kernels = ", ".join([*FastGrabCut.kernels, "locloc.trainer.evaluation.contours"])
    compiler = subprocess.Popen([sys.executable, "-c", f"import {kernels}"])
    begin = time.perf_counter()
    workers = max(1, min(12, usable_cores() - 3))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        rows = list(pool.map(_write_scene, range(UNIQUE), chunksize=8))
    _write_list(rows)
    for index in range(FEW):
        _link(WORK / "scenes/images" / f"0-{index:06d}.jpg", WORK / "few" / f"{index:06d}.jpg")
    scenes_s = time.perf_counter() - begin
    compiler.wait()
    kb = statistics.fmean((WORK / "few" / f"{index:06d}.jpg").stat().st_size for index in range(6)) / 1e3
    emit("prepared", scenes_s=scenes_s, kernels_s=time.perf_counter() - begin, rows=UNIQUE * COPIES, mean_kb=kb)
    READY.write_text("yes")


def wait_for_scenes(limit_s: float = 90) -> None:
    """Waits until `prepare`, which runs in another process, has ended."""
    begin = time.monotonic()
    while not READY.exists():
        if time.monotonic() - begin > patient(limit_s):
            raise TimeoutError(f"the scenes were not written within {patient(limit_s):g} s")
        time.sleep(0.2)


def _write_scene(index: int) -> tuple[int, int, str, str]:
    """Index, label, split and boxes of a scene, whose image and mask are written."""
    scene = make(index)
    rgb = add_noise(scene.rgb, np.random.default_rng(index))
    image = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    mask = cv2.imencode(".png", scene.mask.astype(np.uint8) * 255)[1].tobytes()
    (WORK / "scenes/images" / f"0-{index:06d}.jpg").write_bytes(image)
    (WORK / "scenes/masks" / f"0-{index:06d}.png").write_bytes(mask)
    return index, scene.label, split_of(index), json.dumps([list(map(float, scene.box))])


def _write_list(rows: list[tuple[int, int, str, str]]) -> None:
    """The list of all rows, as `locloc data synth` writes it, and the links of the copies."""
    with (WORK / "scenes/list.csv").open("w", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(["path", "id", "label", "split", "boxes"])
        for copy in range(COPIES):
            for index, label, split, boxes in rows:
                name = f"{copy}-{index:06d}"
                for folder, kind in (("images", "jpg"), ("masks", "png")):
                    at = WORK / "scenes" / folder
                    _link(at / f"0-{index:06d}.{kind}", at / f"{name}.{kind}")
                lines.writerow([f"images/{name}.jpg", name, label, split, boxes])


def _link(old: Path, new: Path) -> None:
    if not new.exists():
        os.link(old, new)
