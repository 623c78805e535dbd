"""The page of a run says what its files say, and nothing in them can script it."""

import json

import numpy as np
import pytest

from locloc.trainer.training.run_page import POINTS, write_run_page


@pytest.fixture
def run(tmp_path):
    metadata = {
        "version": "<b>s</b>@v1", "recipe_name": "locloc", "precision": "fp32", "code_version": "1", "device": "CPU",
    }  # fmt: skip
    (tmp_path / "generator").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(metadata))
    (tmp_path / "recipe.toml").write_text("seed = 0  # </pre><script>x()</script>\n")
    return tmp_path


def write_lines(run, *lines):
    (run / "generator" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def epoch(number, corloc, loss):
    figures = {"val_corloc": corloc, "val_tau": 0.4, "val_mask_iou": 0.9, "val_loss": loss, "val_images": 9}
    return {"step": 10 * (number + 1), "epoch": number, "train_loss": 0.2, "images_per_s": 3.0, **figures}


def test_best_epoch_and_curves(run):
    steps = [{"step": n + 1, "epoch": n // 10, "loss": 1 / (n + 1), "lr": 0.1} for n in range(30)]
    write_lines(run, *steps, epoch(0, 0.5, 0.3), epoch(1, 0.75, 0.2), epoch(2, 0.75, 0.25), epoch(0, 0.6, 0.3))
    page = write_run_page(run).read_text()
    assert "<td>2 of 3</td><td>0.7500</td><td>0.9000</td><td>0.4000</td><td>0.2000</td>" in page
    assert page.count('<path class="line first"') == 2 and page.count('<path class="line second"') == 2
    assert "<script" not in page and "http" not in page and "&lt;b&gt;s&lt;/b&gt;@v1" in page


def test_a_long_run_is_shown_by_means(run):
    write_lines(
        run, *({"step": n + 1, "epoch": 0, "loss": float(n % 2), "lr": 1} for n in range(50_000)), epoch(0, 1, 1)
    )
    page = write_run_page(run).read_text()
    curve = page.split('<path class="line first" d="')[1].split('"')[0]
    assert curve.count("L") == POINTS - 1 and len(page) < 40_000


@pytest.mark.parametrize("text", ["", '{"step": 1, "epoch": 0, "loss": 0.3, "lr": 1}\n', '{"step": 1, "ep'])
def test_a_run_without_an_epoch(run, text):
    (run / "generator" / "metrics.jsonl").write_text(text)
    assert "<svg" not in write_run_page(run).read_text()


def test_a_loss_that_is_not_a_number(run):
    write_lines(run, {"step": 1, "epoch": 0, "loss": float("nan"), "lr": 1}, epoch(0, 0.5, float("nan")))
    assert "nan" not in write_run_page(run).read_text().split("<figure")[1]


def test_confused_classes_and_maps(run):
    write_lines(run, {"step": 1, "epoch": 0, "loss": 1, "lr": 1}, epoch(0, 0.5, 0.3))
    np.savez(run / "generator" / "validation.npz", row=np.arange(4), label=[0, 0, 1, 1], guess=[0, 1, 1, 1])
    for name in ("best", "worst"):
        (run / "generator" / f"maps-{name}.webp").write_bytes(b"")
    examples = [{"id": "<i>a</i>", "mask_iou": 0.25, "box_iou": None}, {"id": "b", "mask_iou": 0.5, "box_iou": 1.0}]
    index = {"epoch": 1, "tau": 0.4, "side_px": 224, "best": examples, "worst": examples[:1]}
    (run / "generator" / "maps.json").write_text(json.dumps(index))
    page = write_run_page(run).read_text()
    assert "3 of 4 images right, 2 classes" in page and '<td class="wrong" style="--shade: 0.71">1</td>' in page
    assert "<td><bdi>class 0</bdi></td><td><bdi>class 1</bdi></td><td>1</td><td>50 %</td>" in page
    assert 'src="generator/maps-best.webp"' in page and page.count("<figcaption>\n<b>") == 3
    assert "&lt;i&gt;a&lt;/i&gt;" in page and page.count("IoU of the box: <bdi>1.00</bdi>") == 1


@pytest.mark.parametrize("damage", ["validation.npz", "maps.json"])
def test_files_that_are_cut_off_are_left_out(run, damage):
    write_lines(run, {"step": 1, "epoch": 0, "loss": 1, "lr": 1}, epoch(0, 0.5, 0.3))
    (run / "generator" / damage).write_bytes(b'PK\x03\x04{"ep')
    page = write_run_page(run).read_text()
    assert '<table class="confusion' not in page and 'class="gallery"' not in page and "<svg" in page
