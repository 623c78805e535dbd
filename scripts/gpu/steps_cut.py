"""Step `c`: the engine `torch`, its speed, its gaps, its masks beside other engines', and where its time goes."""

import sys
import time
from collections import Counter

import numpy as np
import torch
from commands import REPOSITORY
from cut_problems import first_round, problems
from measure import (
    DEVICE,
    ON_GPU,
    capture_graph,
    find_synchronizations,
    median_seconds,
    stream_seconds,
    synchronize,
)
from results import emit, part

from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut import FastGrabCut, OpenCVGrabCut, TorchGrabCut, torch_cut
from locloc.pipeline.masks.grabcut import torch_primal_dual as primal_dual

ROUNDS = ((32, 96), (83, 249), (256, 256)) if ON_GPU else ((2, 2),)
"""Images at once on the device, and images in all."""
SIDE_PX = 224 if ON_GPU else 64
STEP_BYTES = 475  # that one eager step in float32 reads and writes per pixel, about

Problems = tuple[np.ndarray, np.ndarray, np.ndarray]


def engine() -> None:
    """All parts, on trimaps of simulation A, with smooth saliency, and of B, with rough saliency."""
    count = max(images for _, images in ROUNDS)
    by_simulation = {simulation: problems(simulation, count, SIDE_PX) for simulation in ("A", "B")}
    for simulation, of_simulation in by_simulation.items():
        _engine(simulation, of_simulation)
    with part("stages"):
        for batch in (32, 256) if ON_GPU else (2,):
            _stages(by_simulation["A"], batch)
    with part("one step"):
        _one_step(by_simulation["A"])
    with part("exact cut"):
        for simulation, of_simulation in by_simulation.items():
            _exact(simulation, of_simulation)
    if not ON_GPU:
        return
    rgb, trimaps, _ = by_simulation["A"]
    with part("synchronisations"):
        where = find_synchronizations(lambda: TorchGrabCut().batch(rgb[:32], trimaps[:32], DEVICE))
        emit("synchronisations", count=len(where), where=dict(sorted(Counter(where).items())))
    with part("kernels"):
        _kernels(rgb[:32], trimaps[:32])
    with part("gap or time"):
        _gap_or_time(by_simulation["B"])


def _engine(simulation: str, of_simulation: Problems) -> None:
    """Images per second, gaps, and IoU with the masks of the exact engines and with the truth."""
    rgb, trimaps, truths = of_simulation
    few = range(0, min(images for _, images in ROUNDS), 4 if ON_GPU else 1)
    exact = {
        name: [refine(rgb[row], trimaps[row]) for row in few]
        for name, refine in (("fast", FastGrabCut()), ("opencv", OpenCVGrabCut()))
    }
    iou = np.mean([mask_iou(*pair) for pair in zip(*exact.values(), strict=True)])
    emit("fast beside opencv", simulation=simulation, iou=float(iou))
    for dtype in ("float32", "float16") if ON_GPU else ("float32",):
        torch_engine = TorchGrabCut(dtype=dtype)
        for batch, count in ROUNDS:
            with part(f"engine {simulation} {dtype} {batch}"):
                torch_cut.PIXELS_AT_ONCE = batch * rgb[0, ..., 0].size
                torch_engine.batch(rgb[:batch], trimaps[:batch], DEVICE)
                synchronize()
                begin = time.perf_counter()
                masks, gaps = torch_engine.batch(rgb[:count], trimaps[:count], DEVICE)
                spent = time.perf_counter() - begin
                ious = {
                    name: float(np.mean([mask_iou(masks[row], mask) for row, mask in zip(few, others, strict=True)]))
                    for name, others in (exact | {"truth": [truths[row] for row in few]}).items()
                }
                emit(
                    "engine torch", simulation=simulation, dtype=dtype, batch=batch, images_s=count / spent,
                    gap_mean=float(gaps.mean()), gap_max=float(gaps.max()), done_by_fast=int((gaps == 0).sum()),
                    **{f"iou_{name}": iou for name, iou in ious.items()},
                )  # fmt: skip


def _stages(of_simulation: Problems, batch: int) -> None:
    """Milliseconds of the stages, and of the levels of the cut with the mean and largest number of steps."""
    rgb, trimaps, _ = of_simulation
    first_round(rgb[:batch], trimaps[:batch], DEVICE)
    unary, weights, spent = first_round(rgb[:batch], trimaps[:batch], DEVICE)
    levels = {}

    class Timed(primal_dual.Plain):
        def iterate(self, u, q, problem, steps, stop_gap):
            synchronize()
            begin = time.perf_counter()
            state = super().iterate(u, q, problem, steps, stop_gap)
            synchronize()
            side = u.shape[1]
            levels[f"level {side}"] = time.perf_counter() - begin
            levels[f"steps {side}"] = [float(state[2].double().mean()), int(state[2].max())]
            return state

    with torch.inference_mode():
        primal_dual.min_cut(unary, weights)
        synchronize()
        begin = time.perf_counter()
        primal_dual.min_cut(unary, weights, method=Timed())
        synchronize()
        spent["cut"] = time.perf_counter() - begin
    shown = {
        name: value if isinstance(value, list) else round(value * 1e3, 2) for name, value in (spent | levels).items()
    }
    emit("stages, ms a batch", batch=batch, **shown)


@torch.inference_mode()
def _one_step(of_simulation: Problems) -> None:
    """Microseconds of one step of the cut at full size."""
    rgb, trimaps, _ = of_simulation
    unary, weights, _ = first_round(rgb[:32], trimaps[:32], DEVICE)
    for dtype in (torch.float32, torch.float16) if ON_GPU else (torch.float32,):
        u, q = torch.rand_like(unary).to(dtype), torch.zeros_like(weights, dtype=dtype)
        edges, tau = weights.to(dtype), torch.rand_like(unary).to(dtype)

        def step(u=u, q=q, edges=edges, tau=tau) -> None:
            primal_dual._step(u, q, edges, tau, tau)

        spent = stream_seconds(step, 20)
        moved = STEP_BYTES * unary.numel() * u.element_size() / 4
        values = {"eager_us": spent * 1e6, "eager_tb_s": moved / spent / 1e12}
        if ON_GPU:
            values["graph_us"] = 1e6 * stream_seconds(capture_graph(step), 20)
        emit("one step, 32 images", dtype=str(dtype), **values)


def _exact(simulation: str, of_simulation: Problems) -> None:
    """Masks and gaps against exact cuts of the same energies, by PyMaxflow."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    from measure_torch_cut import exact_cut

    rgb, trimaps, _ = of_simulation
    count = 12 if ON_GPU else 2
    unary, weights, _ = first_round(rgb[:count], trimaps[:count], DEVICE)
    with torch.inference_mode():
        cuts = TorchGrabCut()._min_cut(unary, weights)
    rows = []
    for row in range(count):
        mask, least = exact_cut(unary[row].cpu().numpy(), weights[row].cpu().numpy())
        iou = mask_iou(cuts.mask[row].cpu().numpy(), mask)
        rows.append((iou, float(cuts.cost[row]) / least - 1, float(cuts.gap[row])))
    iou, true, certified = np.array(rows).T
    emit(
        "against the exact cut", simulation=simulation, iou_mean=iou.mean(), iou_min=iou.min(),
        true_gap_max=true.max(), certified_max=certified.max(),
        certificate_holds=bool((true <= certified + 1e-6).all()),
    )  # fmt: skip


def _kernels(rgb: np.ndarray, trimaps: np.ndarray) -> None:
    """The kernels of one batch: how many, and those that take the most time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        TorchGrabCut().batch(rgb, trimaps, DEVICE)
        synchronize()
    events = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    total = sum(event.device_time_total for event in events)
    top = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)[:6]
    emit(
        "kernels, 32 images", count=len(events), device_ms=total / 1e3,
        top={event.key[:60]: [event.count, round(event.self_device_time_total / 1e3, 2)] for event in top},
    )  # fmt: skip


@torch.inference_mode()
def _gap_or_time(of_simulation: Problems) -> None:
    """Images per second of the cut by the gap at which it stops."""
    rgb, trimaps, _ = of_simulation
    unary, weights, _ = first_round(rgb[:256], trimaps[:256], DEVICE)
    for gap in (5e-4, 2e-3, 5e-3):

        def cut(gap=gap) -> None:
            TorchGrabCut(stop_gap=gap)._min_cut(unary, weights)

        emit("stop_gap", gap=gap, simulation="B", batch=256, cut_images_s=256 / median_seconds(cut, 0.1, 1, 3))
