"""The benchmark of mask making as one value: what is asked, what was found, and what a node would make of it."""

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import BenchError
from .engines import SAMPLE, SLOW, EngineReport, NoProblemError, again, bench_engines, one_thread
from .images import BenchImages, load_images, make_images
from .machine import describe_machine
from .problems import ATTENTION, SIMULATIONS, Problem, attended_problems, simulated_problems

SCHEMA = 1

IMAGENET = 1_281_167  # images to train on
NODE_CORES = 16


@dataclass(frozen=True)
class AskedMasks:
    """`images` None: made scenes. `truth` None: no truth, where there are images. `count` 0: all images."""

    images: Path | None = None
    truth: Path | None = None
    count: int = 25
    size_px: int = 256
    vit_images_s: float = 3600.0  # of the one GPU of a node: assumed, not measured


@dataclass(frozen=True)
class NodeRow:
    """What a node would make with an engine, by its mean times on one core."""

    engine: str
    problems: str
    images_per_s: float
    imagenet_min: float
    limit: str  # cores or GPU


@dataclass(frozen=True)
class MaskBench:
    asked: dict[str, Any]
    machine: dict[str, Any]
    images: int
    skipped: list[str]
    stage_ms: dict[str, float]  # an image, mean, one thread, process time
    engines: dict[str, EngineReport]  # by how saliency came about
    node: list[NodeRow]
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        for name, report in self.engines.items():
            for written, row in zip(found["engines"][name]["rows"], report.rows, strict=True):
                written["images_per_s"] = row.images_per_s
        return found


def bench_masks(asked: AskedMasks, tell: Callable[[str], None] = lambda _: None) -> MaskBench:
    """Everything, from top to bottom, on one thread; `tell` hears what is begun. Raises BenchError."""
    _check(asked)
    with one_thread():
        tell("images")
        images = _images(asked)
        problems, stage_ms = _problems(images)
        engines = {}
        for name, given in problems.items():
            try:
                engines[name] = bench_engines(given, tell=lambda what, name=name: tell(f"{name}: {what}"))
            except NoProblemError:
                raise BenchError(
                    f"{name}: none of {len(given)} trimaps has enough pixels of both sides; try more images"
                ) from None
        machine = describe_machine(torch.device("cpu"))
    node = project_node(engines, stage_ms["decode"] + stage_ms["resize"], asked.vit_images_s)
    told = {**asdict(asked), "images": str(asked.images or "made scenes"), "truth": asked.truth and str(asked.truth)}
    told |= {"sample": SAMPLE, "node_cores": NODE_CORES}
    return MaskBench(told, machine, len(images.found), images.skipped, stage_ms, engines, node)


def _check(asked: AskedMasks) -> None:
    if asked.truth is not None and asked.images is None:
        raise BenchError(f"--truth {asked.truth} are masks of which images? Give their folder with --images")
    if not 0 < asked.vit_images_s < math.inf:
        raise BenchError(f"--vit-images-s {asked.vit_images_s:g} is no speed: images a second, more than 0")


def _images(asked: AskedMasks) -> BenchImages:
    if asked.images is not None:
        return load_images(asked.images, asked.truth, asked.count, asked.size_px)
    if not asked.count:
        raise BenchError("--count 0 takes all images of --images; of made scenes there is no end, so give a number")
    return make_images(asked.count, asked.size_px)


def _problems(images: BenchImages) -> tuple[dict[str, list[Problem]], dict[str, float]]:
    """Problems by how their saliency came about, and milliseconds of an image's other stages."""
    found: dict[str, list[Problem]] = {}
    stage_ms = {
        "decode": statistics.fmean(one.decode_s for one in images.found) * 1e3,
        "resize": statistics.fmean(one.resize_s for one in images.found) * 1e3,
    }
    if images.found[0].truth is None:
        found[f"attention of {ATTENTION}"], in_vit, in_trimap = attended_problems(images.found)
        stage_ms |= {f"ViT {ATTENTION}": in_vit * 1e3, "saliency, trimap": in_trimap * 1e3}
    else:
        for name in SIMULATIONS:
            found[f"simulation {name}"], in_trimap = simulated_problems(images.found, name)
        stage_ms["trimap"] = in_trimap * 1e3
    return found, stage_ms


def project_node(engines: dict[str, EngineReport], read_ms: float, vit_images_s: float) -> list[NodeRow]:
    """A row an engine that runs on the cores, slow ones and second seeds apart; `read_ms` a core's for one image."""
    rows = []
    for problems, report in engines.items():
        for row in report.rows:
            if row.name in SLOW or row.name == again(row.reference):
                continue
            rate, limit = node_rate(read_ms + row.mean_ms, vit_images_s)
            rows.append(NodeRow(row.name, problems, rate, IMAGENET / rate / 60, limit))
    return rows


def node_rate(image_ms: float, vit_images_s: float, cores: int = NODE_CORES) -> tuple[float, str]:
    """Images a second of a node, and what holds it up, if cores scale linearly and share nothing."""
    by_cores = 1e3 * cores / image_ms
    return (by_cores, "cores") if by_cores < vit_images_s else (vit_images_s, "GPU")
