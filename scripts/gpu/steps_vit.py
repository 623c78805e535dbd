"""Steps `a` and `b`: the CLS attention of CUDA against the CPU's, and its throughput."""

import time
from collections.abc import Callable

import numpy as np
import torch
from measure import DEVICE, ON_GPU, VIT, capture_graph, stream_seconds, synchronize
from results import emit, part
from scenes import squares

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.masks.saliency import SaliencySettings, make_trimap, saliency_map
from locloc.pipeline.recipe import load_recipe


def agreement() -> None:
    """Attention on the device against fp32 on the CPU: relative norm of the difference, and trimap pixels changed."""
    rgb, settings = squares(16 if ON_GPU else 2), load_recipe("pocket").saliency
    for name, weights in (("pocket", None), (VIT, "random"))[: 2 if ON_GPU else 1]:
        reference = Backbone(BackboneSpec(name, weights=weights)).cls_attention(rgb).double()
        for precision in ("fp32", "tf32", "bf16", "fp16") if ON_GPU else ("fp32", "bf16"):
            with part(f"attention {name} {precision}"):
                backbone = Backbone(BackboneSpec(name, precision=precision, weights=weights), DEVICE)
                _compare(backbone, rgb, reference, settings)


def _compare(backbone: Backbone, rgb: np.ndarray, reference: torch.Tensor, settings: SaliencySettings) -> None:
    attention = backbone.cls_attention(rgb).double().cpu()
    alone = torch.cat([backbone.cls_attention(image[None]) for image in rgb]).double().cpu()
    values = {}
    if backbone.name == "pocket":
        changed = _trimaps(attention, settings) != _trimaps(reference, settings)
        values["trimap_changed"] = float(changed.mean())
    emit(
        "attention", backbone=backbone.name, precision=backbone.precision,
        rel=float((attention - reference).norm() / reference.norm()),
        max_abs=float((attention - reference).abs().max()), finite=bool(attention.isfinite().all()),
        batch_against_alone=float((attention - alone).norm() / reference.norm()), **values,
    )  # fmt: skip


def _trimaps(attention: torch.Tensor, settings: SaliencySettings) -> np.ndarray:
    maps = (saliency_map(image, settings, 256) for image in attention.half().cpu().numpy())
    return np.stack([make_trimap(saliency, settings) for saliency in maps if saliency is not None])


def throughput() -> None:
    """Images per second by batch and precision: as builds call the ViT, and with settings that builds do not use."""
    name, weights = (VIT, "random") if ON_GPU else ("pocket", None)
    for precision in ("fp32", "tf32", "bf16") if ON_GPU else ("fp32", "bf16"):
        backbone = Backbone(BackboneSpec(name, precision=precision, weights=weights), DEVICE)
        for batch in (256,) if precision == "tf32" else (8, 32, 64, 128, 256, 512) if ON_GPU else (1, 4):
            with part(f"vit {precision} {batch}"):
                _time_batch(backbone, batch)
    with part("vit pure bf16"):
        backbone = Backbone(BackboneSpec(name, weights=weights), DEVICE)
        normalise = backbone.normalise
        backbone.model.to(torch.bfloat16)
        backbone.normalise = lambda rgb: normalise(rgb).to(torch.bfloat16)
        for batch in (32, 128, 256, 512) if ON_GPU else (4,):
            attend = _on_device(backbone, batch)
            values = {"images_s": batch / stream_seconds(attend, 10)}
            if ON_GPU:
                values["graph"] = batch / stream_seconds(capture_graph(attend), 10)
            emit("vit", precision="bf16 weights", batch=batch, **values)
    if ON_GPU:
        emit("memory", peak_mb=torch.cuda.max_memory_allocated() / 2**20)


def _on_device(backbone: Backbone, batch: int) -> Callable[[], torch.Tensor]:
    """A run over random pixels that are on the device already."""
    rgb = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8, device=DEVICE)
    return lambda: backbone.cls_attention(rgb)


def _time_batch(backbone: Backbone, batch: int) -> None:
    host = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), np.uint8)
    attend = _on_device(backbone, batch)
    synchronize()
    begin = time.perf_counter()
    attend()
    first = time.perf_counter() - begin
    synchronize()
    begin = time.perf_counter()
    attend()
    enqueue = time.perf_counter() - begin
    values = {
        "images_s": batch / stream_seconds(attend, 10),
        "from_numpy": batch / stream_seconds(lambda: backbone.cls_attention(host), 10),
        "enqueue_ms": enqueue * 1e3,
    }
    if ON_GPU and batch in (32, 128, 256):
        values["graph"] = batch / stream_seconds(capture_graph(attend), 10)
    emit("vit", precision=backbone.precision, batch=batch, first_ms=first * 1e3, **values)
