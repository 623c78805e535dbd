"""Step `c2`: the fused cut of the engine `torch` by precision and batch, against the plain one."""

import os
import time

import torch
from cut_problems import first_round, problems
from measure import DEVICE, ON_GPU, capture_graph, median_seconds, stream_seconds
from results import emit, part

if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
from locloc.pipeline.masks.grabcut import torch_primal_dual as primal_dual
from locloc.pipeline.masks.grabcut.torch_fused import TILE_PX, Fused


def fused() -> None:
    """Images per second of the fused cut by precision and batch, and of the stages before the cut."""
    for simulation in ("A", "B"):
        rgb, trimaps, _ = problems(simulation, 256 if ON_GPU else 1, 224 if ON_GPU else 40)
        unary, weights, _ = first_round(rgb, trimaps, DEVICE)
        with torch.inference_mode():
            reference = primal_dual.min_cut(unary[:64], weights[:64]).mask
        for dtype in (torch.float32, torch.float16):
            for batch in (16, 32, 64, 128, 256) if ON_GPU else (1,):
                with part(f"fused {simulation} {dtype} {batch}"), torch.inference_mode():
                    values = _measure(dtype, batch, unary, weights, reference)
                    emit("fused cut", simulation=simulation, dtype=str(dtype)[6:], batch=batch, **values)
    with part("mixtures alone"):
        for batch in (32, 256) if ON_GPU else (1,):

            def mixtures(batch=batch) -> None:
                first_round(rgb[:batch], trimaps[:batch], DEVICE)

            spent = median_seconds(mixtures, 0.3, 1, 5)
            emit("mixtures and weights, as they are", batch=batch, images_s=batch / spent)


def _measure(
    dtype: torch.dtype, batch: int, unary: torch.Tensor, weights: torch.Tensor, reference: torch.Tensor
) -> dict[str, float]:
    tile_px = TILE_PX if ON_GPU else 64  # one program an image, which the interpreter is slow to start
    method = Fused(batch, dtype, unary.device, tile_px)

    def cut(unary: torch.Tensor, weights: torch.Tensor) -> primal_dual.Cuts:
        return primal_dual.min_cut(unary, weights, dtype=dtype, method=method)

    parts = [(unary[start : start + batch], weights[start : start + batch]) for start in range(0, len(unary), batch)]
    begin = time.perf_counter()
    cuts = [cut(*pair) for pair in parts[:2]]
    spent = time.perf_counter() - begin  # of one cut on a CPU, where Triton's interpreter takes many seconds
    if ON_GPU:
        spent = median_seconds(lambda: [cut(*pair) for pair in parts], 0.1, 1, 3)
    masks = torch.cat([found.mask for found in cuts])[:64]
    both = (masks & reference[: len(masks)]).flatten(1).sum(1)
    either = (masks | reference[: len(masks)]).flatten(1).sum(1)
    iou = both / either.clamp(min=1)
    values = {
        "cut_images_s": len(unary) / spent,
        "iou_eager_mean": float(iou.mean()),
        "iou_eager_min": float(iou.min()),
        "gap_max": float(torch.cat([found.gap for found in cuts]).max()),
        "steps_mean": float(torch.cat([found.steps for found in cuts]).double().mean()),
    }
    fine = method.levels[tuple(unary.shape[1:])]
    fine.count.copy_(fine.every_count)
    if not ON_GPU:
        return values | {"step_us": 1e6 * median_seconds(fine.step, 0.1, 0, 3)}
    step = stream_seconds(capture_graph(lambda: [fine.step() for _ in range(25)]), 5) / 25
    moved = 22 * fine.u.element_size() * fine.unary.numel()
    return values | {"step_us": step * 1e6, "step_tb_s": moved / step / 1e12}
