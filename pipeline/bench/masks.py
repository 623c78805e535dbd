"""The benchmark of mask generation as one value: request, results, and the projected throughput of a node."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from ..errors import BenchError
from .engines import SAMPLE, SLOW, EngineReport, NoProblemError, again, bench_engines, one_thread
from .images import BenchImage, BenchImages, load_images, make_images
from .machine import describe_machine
from .problems import ATTENTION, SIMULATIONS, Problem, attended_problems, simulated_problems
from .request import MaskBenchRequest

SCHEMA = 1

IMAGENET = 1_281_167  # training images
NODE_CORES = 16


@dataclass(frozen=True)
class NodeRow:
    """Projected throughput of a node with one engine, from mean times on one core."""

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
    stage_ms: dict[str, float]  # mean process time per image on one thread
    engines: dict[str, EngineReport]  # by the source of saliency
    node: list[NodeRow]
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        for name, report in self.engines.items():
            for row_content, row in zip(content["engines"][name]["rows"], report.rows, strict=True):
                row_content["images_per_s"] = row.images_per_s
        return content


def bench_masks(request: MaskBenchRequest, report: Callable[[str], None] = lambda _: None) -> MaskBench:
    """The whole benchmark, on one thread; `report` receives what starts now. Raises BenchError."""
    request.check()
    with one_thread():
        report("images")
        images = _images(request)
        problems, stage_ms = _problems(images.images)
        engines = {}
        for source, of_source in problems.items():
            try:
                engines[source] = bench_engines(of_source, report=partial(_report_source, report, source))
            except NoProblemError:
                raise BenchError(
                    f"{source}: none of {len(of_source)} trimaps has enough pixels of both sides; try more images"
                ) from None
        machine = describe_machine(torch.device("cpu"))
    node = project_node(engines, stage_ms["decode"] + stage_ms["resize"], request.vit_images_s)
    asked = asdict(request) | {"images": str(request.images or "made scenes")}
    asked |= {
        "truth": request.truth and str(request.truth),
        "masks": images.truth,
        "sample": SAMPLE,
        "node_cores": NODE_CORES,
    }
    return MaskBench(asked, machine, len(images.images), images.skipped, stage_ms, engines, node)


def _report_source(report: Callable[[str], None], source: str, text: str) -> None:
    report(f"{source}: {text}")


def _images(request: MaskBenchRequest) -> BenchImages:
    if request.images is not None:
        return load_images(request.images, request.truth, request.count, request.size_px, request.truth_class)
    return make_images(request.count, request.size_px)


def _problems(images: list[BenchImage]) -> tuple[dict[str, list[Problem]], dict[str, float]]:
    """Problems by the source of their saliency, and mean milliseconds of the other stages."""
    problems: dict[str, list[Problem]] = {}
    stage_ms = {
        "decode": statistics.fmean(image.decode_s for image in images) * 1e3,
        "resize": statistics.fmean(image.resize_s for image in images) * 1e3,
    }
    if images[0].truth is None:
        problems[f"attention of {ATTENTION}"], vit_s, trimap_s = attended_problems(images)
        stage_ms |= {f"ViT {ATTENTION}": vit_s * 1e3, "saliency, trimap": trimap_s * 1e3}
    else:
        for name in SIMULATIONS:
            problems[f"simulation {name}"], trimap_s = simulated_problems(images, name)
        stage_ms["trimap"] = trimap_s * 1e3
    return problems, stage_ms


def project_node(engines: dict[str, EngineReport], read_ms: float, vit_images_s: float) -> list[NodeRow]:
    """A row per engine, without slow ones and second seeds; `read_ms`: decoding and resizing an image on one core."""
    rows = []
    for problems, report in engines.items():
        for row in report.rows:
            if row.name in SLOW or row.name == again(row.reference):
                continue
            rate, limit = node_rate(read_ms + row.mean_ms, vit_images_s)
            rows.append(NodeRow(row.name, problems, rate, IMAGENET / rate / 60, limit))
    return rows


def node_rate(image_ms: float, vit_images_s: float, cores: int = NODE_CORES) -> tuple[float, str]:
    """Images per second of a node, and its bottleneck, assuming that cores scale linearly."""
    by_cores = 1e3 * cores / image_ms
    return (by_cores, "cores") if by_cores < vit_images_s else (vit_images_s, "GPU")
