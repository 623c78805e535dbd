"""`locloc train` as a user meets it: what a run leaves, what it refuses, and what it stops at."""

import io
import json
import os
import signal
import subprocess
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from pycocotools.coco import COCO

import locloc
from locloc.cli import app
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import TrainError
from locloc.pipeline.geometry.boxes import box_iou
from locloc.pipeline.store import open_version
from locloc.pipeline.store.lease import LEASE_FOLDER
from locloc.trainer.data.datasets import LabelledImages, MaskPairs
from locloc.trainer.data.loader import EpochLoader, EpochSampler
from locloc.trainer.data.mask_cache import MaskCache
from locloc.trainer.data.splits import load_training_rows
from locloc.trainer.inference.predict import Prediction
from locloc.trainer.inference.predict import load as load_predictor
from locloc.trainer.models.checkpoint import load_checkpoint
from locloc.trainer.models.generator import Generator
from locloc.trainer.recipe import TrainRecipe
from locloc.trainer.training import loop
from locloc.trainer.training.distributed import create_fabric
from locloc.trainer.training.loop import compute_gradients, evaluate
from locloc.trainer.training.run_lock import RunLock
from locloc.trainer.training.step_loss import StepLoss
from locloc.trainer.training.training_tasks import create_task

from ..conftest import command
from .conftest import SMALL, in_process, lines, losses


@pytest.fixture(scope="module")
def run(version, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    in_process("train", version, "--out", out, *SMALL)
    return out


def test_a_run_tells_what_it_was_made_of(run, version):
    about = json.loads((run / "run.json").read_text())
    opened = open_version(version)
    assert about["version"] == version
    assert about["masks_fingerprint"] == opened.provenance["fingerprint"]
    assert about["catalog_sha256"] == opened.catalog.sha256
    recipe = TrainRecipe.model_validate(tomllib.loads((run / "recipe.toml").read_text()))
    assert recipe.generator.fit.epochs == 2 and recipe.generator.kind == "tapered"
    assert recipe.model_dump(mode="json") == about["recipe"]


def test_metrics_have_a_line_a_step_and_a_line_an_epoch(run):
    for stage, figure in (("generator", "val_corloc"), ("classifier", "val_top1")):
        steps = [line for line in lines(run, stage) if "loss" in line]
        assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
        assert [line["epoch"] for line in steps] == [0, 0, 0, 1, 1, 1]
        ends = [line for line in lines(run, stage) if figure in line]
        assert [line["epoch"] for line in ends] == [0, 1]
        assert all(line["val_images"] == 8 and 0 <= line[figure] <= 1 and 0 <= line["waiting"] < 1 for line in ends)
        assert ends[0]["train_loss"] == pytest.approx(np.mean(losses(run, stage)[:3]))
        assert list((run / stage).glob("events.out.*"))


def test_checkpoints_are_models_with_a_header(run, version):
    model, header = load_checkpoint(run / "generator" / "best.safetensors")
    assert isinstance(model, Generator) and not model.training
    assert (header["kind"], header["version"], header["ema"]) == ("generator", version, True)
    assert header["figures"]["images"] == 8
    backbone = Backbone(BackboneSpec("pocket"))
    maps = model(backbone.patch_features(torch.zeros(2, 224, 224, 3, dtype=torch.uint8)))
    assert maps.shape == (2, 1, 112, 112)
    classifier, header = load_checkpoint(run / "classifier" / "last.safetensors")
    assert header["shape"]["classes"] == 4 and header["epoch"] == 2
    assert classifier(backbone.embed(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))).shape == (1, 4)


def test_the_page_has_best_and_worst_maps_and_confusion(run):
    page = (run / "index.html").read_text()
    assert page.count('class="gallery"') == 2 and "of 8 images right" in page
    best = np.asarray(Image.open(run / "generator" / "maps-best.webp"))
    assert best.shape == (448, 4 * 224, 3) and best.std() > 20
    examples = json.loads((run / "generator" / "maps.json").read_text())
    ious = [example["box_iou"] for example in examples["best"] + examples["worst"][::-1]]
    assert len(ious) == 8 and ious == sorted(ious, reverse=True)
    header = load_checkpoint(run / "generator" / "best.safetensors")[1]
    assert np.mean(np.array(ious) >= 0.5) == pytest.approx(header["figures"]["corloc"])
    with np.load(run / "classifier" / "validation.npz") as content:
        right = np.mean(content["label"] == content["guess"])
    assert right == pytest.approx(load_checkpoint(run / "classifier" / "best.safetensors")[1]["figures"]["top1"])


def test_what_is_evaluated_is_the_average_of_the_weights(run):
    """ema_decay is 0.9: last weights are the average's, and not those that the optimiser left."""
    kept = safetensors.torch.load_file(run / "generator" / "last.safetensors")
    state = torch.load(run / "generator" / "state.pt", weights_only=True)
    assert all(torch.equal(kept[name], tensor) for name, tensor in state["ema"].items())
    assert not torch.equal(kept["head.0.weight"], state["model"]["head.0.weight"])


def figures_again(run: Path, name: str, model: torch.nn.Module, header: dict) -> dict[str, float]:
    """Of a checkpoint on the validation images, as at the end of its epoch."""
    opened, recipe = open_version(header["version"]), TrainRecipe.model_validate(header["recipe"])
    rows, backbone = load_training_rows(opened, None, recipe.seed, recipe.val_share), Backbone(BackboneSpec("pocket"))
    task = create_task(name, recipe, backbone, rows)
    if task.learns_masks:
        masks = MaskCache(run / "cache" / "again.npy").write(opened)
        dataset = MaskPairs(rows.images, masks, task.settings, backbone.size_px)
    else:
        dataset = LabelledImages(rows.images, rows.labels, None, task.settings, backbone.size_px)
    fabric = create_fabric("cpu", 1, "32-true")
    return evaluate(fabric, task, model, EpochLoader(dataset, EpochSampler(rows.val, 8, None), 0)).values()


def test_the_best_weights_give_their_figures_again(run):
    for stage, figure in (("generator", "corloc"), ("classifier", "top1")):
        model, header = load_checkpoint(run / stage / "best.safetensors")
        assert figures_again(run, stage, model, header)[figure] == header["figures"][figure]


@pytest.mark.slow
def test_ppd_is_trained_on_the_same_masks(version, tmp_path):
    summary = in_process("train", version, "--out", tmp_path / "run", "--stage", "ppd", *SMALL)
    assert set(summary["stages"]) == {"decoder", "linear"}
    assert len(losses(tmp_path / "run", "decoder")) == 2
    assert (tmp_path / "run" / "linear" / "best.safetensors").exists()
    assert list((tmp_path / "run" / "cache").glob("tokens-*.npy"))
    figures = summary["stages"]["decoder"]["figures"]
    found = load_predictor(tmp_path / "run", "cpu")(_paths(version, "val"))
    assert len(found) == 8 and abs(_corloc(version, "val", found) - figures["corloc"]) <= 1 / 8
    assert _top1(version, "val", found) == summary["stages"]["linear"]["figures"]["top1"]


def test_cached_tokens_learn_too_and_read_no_image(version, tmp_path):
    shown = ("--stage", "generator", "--cache-tokens", *SMALL)
    in_process("train", version, "--out", tmp_path / "run", *shown)
    assert losses(tmp_path / "run", "generator")[-1] < losses(tmp_path / "run", "generator")[0]
    (tokens,) = (tmp_path / "run" / "cache").glob("tokens-*.npy")
    kept = np.load(tokens)
    assert (kept.shape, kept.dtype) == ((32, 2, 192, 14, 14), np.float16)
    opened = open_version(version)
    rows = np.flatnonzero([split != "test" for split in opened.table["split"].to_pylist()])
    image = TrainRecipe and _square(opened, int(rows[5]))
    features = Backbone(BackboneSpec("pocket")).patch_features(np.stack([image, image[:, ::-1]])).numpy()
    assert np.abs(kept[5] - features).max() < 2e-2 * np.abs(features).max()


def _rows(version: str, split: str) -> list[int]:
    return np.flatnonzero([one == split for one in open_version(version).table["split"].to_pylist()]).tolist()


def _paths(version: str, split: str) -> list[Path]:
    opened = open_version(version)
    paths = opened.table["path"].to_pylist()
    return [Path(opened.provenance["catalog"]["root"], paths[row]) for row in _rows(version, split)]


def _corloc(version: str, split: str, found: list[Prediction]) -> float:
    boxes, box_rows = open_version(version).catalog_boxes()
    pairs = zip(_rows(version, split), found, strict=True)
    return float(np.mean([box_iou(one.box[None], boxes[box_rows == row]).max() >= 0.5 for row, one in pairs]))


def _top1(version: str, split: str, found: list[Prediction]) -> float:
    labels = open_version(version).catalog.table["label"].to_pylist()
    return float(np.mean([one.labels[0] == labels[row] for row, one in zip(_rows(version, split), found, strict=True)]))


def test_predictions_are_as_good_as_the_run_says(run, version):
    """Boxes here are of the original pixels, figures of the map's: they may part at an IoU of just 0.5."""
    found = load_predictor(run, "cpu")(_paths(version, "val"))
    (_, generator), (_, classifier) = (
        load_checkpoint(run / stage / "best.safetensors") for stage in ("generator", "classifier")
    )
    assert abs(_corloc(version, "val", found) - generator["figures"]["corloc"]) <= 1 / 8
    assert _top1(version, "val", found) == classifier["figures"]["top1"]


def test_a_folder_is_predicted_in_one_command(run, scenes, tmp_path):
    said = in_process("predict", run, scenes / "images", "--out", tmp_path / "found", "--device", "cpu")
    assert (said["total"], said["done"], said["failed"], said["formats"]) == (40, 40, [], ["coco", "overlay"])
    with redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "found" / "coco.json")
    assert len(coco.imgs) == 40 and len(coco.anns) <= 40 and len(coco.cats) == 4
    assert len(list((tmp_path / "found" / "overlays").rglob("*.jpg"))) == 40


def _square(opened, row: int) -> np.ndarray:
    return load_training_rows(opened, None, 0, 0.1).images.square(row, 224)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--stage", "generater"], "No --stage 'generater'; did you mean 'generator'?"),
        (["--precision", "half"], "No --precision 'half'"),
        (["--precision", "fp16", "--accelerator", "cpu"], "fp16 needs a GPU"),
        (["--recipe", "loclok"], "No training recipe 'loclok'; did you mean 'locloc'?"),
        (["--set", "generator.fit.epoch=3"], "generator.fit.epoch: no such setting; did you mean 'epochs'?"),
        (["--set", "generator.fit.epochs=0"], "generator.fit.epochs: Input should be greater than 0"),
        (["--resume"], "holds no run to resume"),
        (["--images", "/nowhere", "--stage", "generator"], "no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(locloc, version, tmp_path, arguments, complaint):
    said = locloc("train", version, "--out", tmp_path / "run", "--workers", 0, *arguments)
    (line,) = [line for line in said.stderr.splitlines() if "error" in line]
    assert said.code == 1 and complaint in line


def test_a_folder_that_is_in_use_is_left_alone(locloc, version, run, tmp_path):
    said = locloc("train", version, "--out", run)
    assert said.code == 1 and "holds a run already; resume it with --resume" in said.stderr
    said = locloc("train", version, "--out", run, "--resume", *SMALL, "--set", "generator.fit.batch_size=9")
    assert said.code == 1 and "is another run: generator.fit.batch_size = 8, not 9" in said.stderr
    (tmp_path / "thesis.tex").write_text("precious")
    said = locloc("train", version, "--out", tmp_path)
    assert said.code == 1 and "is not empty: it holds" in said.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_is_still_training_is_not_resumed_beside_it(run):
    def files() -> dict[Path, bytes]:
        found = (file for file in sorted(run.rglob("*")) if file.is_file() and file.parent.name != LEASE_FOLDER)
        return {file: file.read_bytes() for file in found}

    with RunLock(run) as lock:
        lock.acquire()
        before = files()
        with pytest.raises(TrainError, match=f"^{run} is being written to by process {os.getpid()} on .*; wait for it"):
            locloc.train(None, run, resume=True, changes=["generator.fit.epochs=3"])
        assert files() == before


def test_an_unfinished_build_is_not_trained_on(locloc, tmp_path):
    said = locloc("train", tmp_path / "nothing.store@v1", "--out", tmp_path / "run")
    assert said.code == 1 and len([line for line in said.stderr.splitlines() if line]) == 1
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_with_the_images(locloc, version, tmp_path):
    said = locloc(
        "train", version, "--out", tmp_path / "run", "--stage", "generator", *SMALL,
        "--set", "generator.fit.lr_base=1e30", "--set", "generator.fit.clip_norm=0",
    )  # fmt: skip
    assert said.code == 1
    assert "generator: the loss of" in said.stderr and "is not finite (0000" in said.stderr


def test_interrupted_it_says_how_to_go_on(version, tmp_path):
    out = tmp_path / "run"
    started = subprocess.Popen(
        command("train", version, "--out", out, "--stage", "generator", *SMALL, "--set", "generator.fit.epochs=50"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen = []
    for line in started.stderr:
        seen.append(line)
        if "steps, loss" in line:
            started.send_signal(signal.SIGTERM)
            break
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130, "".join(seen) + err
    assert f"interrupted; `locloc train --out {out} --resume` continues from there" in err
    state = torch.load(out / "generator" / "state.pt", weights_only=True)
    assert state["step"] == len(losses(out, "generator")) >= 1


def interrupted_and_resumed(run, version, tmp_path, monkeypatch) -> Path:
    """Interrupts a training in its fifth step, resumes it, and returns its folder. Its weights are those of `run`."""
    out, calls = tmp_path / "run", []

    def interrupted(*arguments: Any) -> StepLoss:
        calls.append(compute_gradients(*arguments))  # has changed the statistics of the batch norms
        if len(calls) == 5:
            signal.raise_signal(signal.SIGTERM)
        return calls[-1]

    monkeypatch.setattr(loop, "compute_gradients", interrupted)
    arguments = ("train", version, "--out", out, "--stage", "generator", *SMALL)
    assert app([*map(str, arguments)], standalone_mode=False) == 130
    state = torch.load(out / "generator" / "state.pt", weights_only=True)
    assert state["step"] == len(losses(out, "generator")) == 4
    in_process("train", "--out", out, "--workers", 0, "--resume")
    mine, theirs = (folder / "generator" / "last.safetensors" for folder in (out, run))
    assert mine.read_bytes() == theirs.read_bytes()
    return out


def test_losses_that_are_read_a_step_late_are_the_same(run, version, tmp_path, monkeypatch):
    """As on a GPU. A run that is interrupted and resumed, too."""
    monkeypatch.setattr(loop, "reads_late", lambda device: True)
    out = interrupted_and_resumed(run, version, tmp_path, monkeypatch)
    assert losses(out, "generator") == losses(run, "generator")


def test_a_step_that_is_interrupted_is_given_up_and_done_again(run, version, tmp_path, monkeypatch):
    """It may take minutes, so that a signal cannot wait for its end. The weights are those of an undisturbed run."""
    interrupted_and_resumed(run, version, tmp_path, monkeypatch)
