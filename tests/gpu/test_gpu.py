"""What only a CUDA device shows: the same attention, cuts and steps as on the CPU. Skipped without one.

`LOCLOC_GPU_TESTS=cpu pytest tests/gpu` runs their code on the CPU, where it compares that with itself.
"""

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.bench.images import make_images
from locloc.pipeline.bench.problems import SIMULATIONS, THRESHOLDS
from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut import TorchGrabCut, torch_cut
from locloc.pipeline.masks.pseudo_mask import make_mask
from locloc.pipeline.masks.saliency import make_trimap
from locloc.pipeline.recipe import load_recipe
from locloc.trainer.data.batches import ImageBatch
from locloc.trainer.recipe import FitSettings
from locloc.trainer.training.distributed import create_fabric
from locloc.trainer.training.loop import compute_gradients, update_weights

DEVICE = os.environ.get("LOCLOC_GPU_TESTS", "cuda")
ON_GPU = DEVICE == "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(scope="module")
def scenes():
    return make_images(12 if ON_GPU else 2, 224).images


@pytest.fixture(scope="module")
def squares(scenes):
    return np.stack([scene.rgb for scene in scenes])


def attention(squares, precision, device):
    return Backbone(BackboneSpec("pocket", precision=precision), device).cls_attention(squares).float().cpu()


def test_attention_is_the_cpu_s(squares):
    apart = attention(squares, "fp32", DEVICE) - attention(squares, "fp32", "cpu")
    assert apart.abs().max() <= 1e-4


def test_masks_of_bf16_attention(squares):
    recipe, ious = load_recipe("pocket"), []
    pair = (attention(squares, precision, DEVICE).half().numpy() for precision in ("fp32", "bf16"))
    for one, other, rgb in zip(*pair, squares, strict=True):
        rgb = cv2.resize(rgb, (recipe.mask_px, recipe.mask_px))
        ious.append(mask_iou(make_mask(one, rgb, recipe, "id").mask, make_mask(other, rgb, recipe, "id").mask))
    assert np.mean(ious) >= 0.99


@pytest.fixture(scope="module")
def problems(scenes, squares):
    trimaps = [make_trimap(SIMULATIONS["A"](scene.truth, seed), THRESHOLDS) for seed, scene in enumerate(scenes)]
    return squares, np.stack(trimaps)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.999), ("float16", 0.998)])
def test_cuts_are_the_exact_ones(problems, dtype, least):
    rgb, trimaps = problems
    engine = TorchGrabCut(dtype=dtype)
    masks, certified = engine.cut(rgb, trimaps, DEVICE)
    again, _ = engine.cut(rgb, trimaps, DEVICE)
    np.testing.assert_array_equal(masks, again)
    assert certified.mean() > 0.8
    exact = [engine.exact(image, trimap) for image, trimap in zip(rgb, trimaps, strict=True)]
    rows = np.flatnonzero(certified)
    assert np.mean([mask_iou(masks[row], exact[row]) for row in rows]) >= least


@pytest.mark.skipif(not ON_GPU, reason="a CPU is never waited for")
def test_a_batch_waits_for_the_device_twice(problems, monkeypatch):
    rgb, trimaps = problems
    engine, reads = TorchGrabCut(), []
    engine.cut(rgb, trimaps, DEVICE)  # compiles kernels and captures graphs

    def read_back(values):
        reads.append(values)
        torch.cuda.set_sync_debug_mode("default")
        return values.cpu().numpy()

    monkeypatch.setattr(torch_cut, "read_back", read_back)
    try:
        torch.cuda.set_sync_debug_mode("error")
        engine.cut(rgb, trimaps, DEVICE)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(reads) == 2


def steps(device, count=5):
    """Losses and weights of a small model after some steps, its losses read a step late."""
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    fabric = create_fabric(device, 1, "32-true")
    task = SimpleNamespace(
        name="generator", fit=FitSettings(batch_size=8, clip_norm=1.0), weights=torch.ones(8),
        inputs=lambda part: (part.rgb.float(),), losses=lambda output, target: (output[:, 0] - target).square(),
    )  # fmt: skip
    module, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), lr=0.01))
    batch = ImageBatch(torch.arange(32, dtype=torch.uint8).view(8, 4) / 32, torch.ones(8), torch.arange(8))
    reads = []
    for _ in range(count):
        losses = compute_gradients(fabric, task, module, batch, 8)
        reads.append(losses.start_reading(fabric, update_weights(fabric, task, module, optimizer, check=False)))
    return [read(task) for read in reads], net.weight.detach().cpu()


def test_training_steps_are_the_cpu_s():
    losses, weights = steps(DEVICE)
    expected_losses, expected = steps("cpu")
    assert losses == pytest.approx(expected_losses, rel=1e-4) and losses[-1] < losses[0]
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
