"""Runs as `locloc train` leaves them, on a ViT of one block that is bundled for these tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from locloc.pipeline.backbones import create
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.trainer.models.checkpoint import create_model, save_checkpoint, vit_shape

GENERATOR = {"base": 2, "width": 8, "tail": [8, 8, 8]}
CLASSES = ["ant", "bee", "cat"]


def tiny_vit() -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0)
        vit.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
        return vit


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(create.BUNDLED, "tiny", (tiny_vit, tiny_vit))


@pytest.fixture
def save_run(tmp_path) -> Callable[..., Path]:
    """`save_run("generator", "classifier", name="run", vit="tiny", size_px=32, **more)` writes a run."""

    def save(
        *tasks: str, name: str = "run", vit: str = "tiny", weights: str = "bundled", size_px: int = 32, **more: Any
    ) -> Path:
        keep, shared = more.pop("keep_tokens", 1.0), more.pop("shared_blocks", 0)
        generator = more.pop("generator", GENERATOR)
        for number, task in enumerate(tasks):
            side_px = size_px * 2 if task == "decoder" and more.get("larger_decoder") else size_px
            loaded = None if weights == "bundled" else weights
            backbone = Backbone(BackboneSpec(vit, size_px=side_px, weights=loaded))
            shape: dict[str, Any] = {
                "generator": {"channels": backbone.width, **generator},
                "classifier": {
                    "vit": vit_shape(backbone.model), "classes": 3, "grid": list(backbone.grid), "keep_tokens": keep,
                    "shared_blocks": shared,
                },
                "decoder": {"channels": backbone.width, "hidden": 16, "width": 8},
                "linear": {"channels": backbone.width, "classes": 3},
            }[task]  # fmt: skip
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(number)
                model = create_model(task, shape)
                for parameter in model.parameters():  # far from constant maps
                    parameter.data += 0.1 * torch.randn_like(parameter)
            header = {
                "shape": shape, "classes": CLASSES, "backbone_size_px": side_px, "figures": {"tau": 0.4},
                "backbone": {"name": vit, "weights": weights, "sha256": backbone.sha256},
                "images": {"fit": "centre_crop"}, "version": "/home/someone/masks.store@v3",
                "recipe_name": "locloc", "resize_px": size_px + 8, "masks_fingerprint": "ab" * 32,
            } | {key: value for key, value in more.items() if key != "larger_decoder"}  # fmt: skip
            folder = tmp_path / name / task
            folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(folder / "best.safetensors", model, task, header)
        return tmp_path / name

    return save
