"""`locloc demo`, the real command: what a newcomer sees first."""

import json

import pytest
from PIL import Image

from .conftest import run


@pytest.mark.slow
def test_the_demo_ends_with_an_image_and_figures(tmp_path):
    said = run("demo", tmp_path / "demo", timeout_s=400)
    commands = [line for line in said.stdout.splitlines() if line.startswith("$ locloc ")]
    names = [" ".join(command.split()[2:4]) for command in commands[:6]]
    assert names == ["data synth", *(f"masks {name}" for name in ("build", "list", "show", "score", "view"))]
    assert commands[6].startswith("$ locloc train ")
    assert "vit_small_patch16_224.dino" in commands[7]
    with Image.open(tmp_path / "demo" / "masks.png") as image:
        assert image.size == (1328, 1915)  # five panels, six images in their own proportions
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["counts"]["ok"] == 128
    trained = summary["trained"]
    assert trained["generator"]["corloc"] > 0.8 and trained["classifier"]["top1"] > 0.7
    assert trained["generator"]["images"] == trained["classifier"]["images"] == 26
    scores = summary["score"]["scores"]
    assert scores["masks"]["mask_iou"] > scores["thresholded attention"]["mask_iou"] + 0.05
    assert scores["masks"]["corloc"] > 0.85
    assert scores["masks"]["mask_iou"] > scores["centred box, best for mask IoU"]["mask_iou"] + 0.15
