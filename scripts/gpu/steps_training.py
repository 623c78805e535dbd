"""Step `e`: training in bf16, killed and resumed; training steps without their data; prediction and evaluation."""

import json
import subprocess
import time
from pathlib import Path

import torch
from commands import PEAK, Finished, kill_group, locloc_command, patient, run_locloc, start_group
from measure import ON_GPU, VIT, find_synchronizations, median_seconds
from results import emit, part
from scenes import WORK
from steps_build import FAST_STORE
from timm.optim import create_optimizer_v2

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.store import open_version
from locloc.trainer.data.batches import ImageBatch
from locloc.trainer.data.splits import load_training_rows
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.training import loop
from locloc.trainer.training.distributed import create_fabric
from locloc.trainer.training.training_tasks import TrainingTask, create_task

VERSION = f"{FAST_STORE}@v1"
RUN = WORK / "run"
BATCH = 128 if ON_GPU else 4
PRECISION = "bf16" if ON_GPU else "fp32"
COMMON = ("--precision", PRECISION) if ON_GPU else ("--workers", 0)


def training() -> None:
    """GEG, LFDM, steps alone, then `predict` and `eval` with the trained generator."""
    with part("kill and resume"):
        _kill_and_resume()
    with part("classifier"):
        run = WORK / "run2"
        settings = _set("classifier", f"batch_size={BATCH}", "epochs=1")
        done = run_locloc("train", VERSION, "--out", run, "--stage", "classifier", *COMMON, *settings, limit_s=70)
        _report(run, "classifier", done)
    with part("steps without data"):
        _steps_without_data()
    with part("predict"):
        images = sorted((WORK / "few").iterdir())[: 512 if ON_GPU else 3]
        done = run_locloc("predict", RUN, *images, "--precision", PRECISION, "--json", limit_s=40)
        emit("predict", images=len(images), wall_s=done.seconds, failed=_error_of(done))
    with part("eval"):
        done = run_locloc("eval", RUN, "--json", WORK / "eval.json", "--protocol", "wsol", limit_s=60)
        emit("eval", wall_s=done.seconds, failed=_error_of(done))


def _set(task: str, *fields: str) -> list[str]:
    return [f"--set={task}.fit.{field}" for field in fields]


def _error_of(done: Finished) -> str:
    """Why a command failed; empty if it did not."""
    return f"exit {done.code}: {done.err.strip()[-200:]}" if done.code else ""


def _metrics(run: Path, task: str) -> list[dict]:
    """The complete lines of a task's metrics.jsonl."""
    file = run / task / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _kill_and_resume() -> None:
    """Kills a training run after some steps, resumes it, and checks that each step was logged once."""
    settings = _set("generator", f"batch_size={BATCH}", f"epochs={2 if ON_GPU else 6}")
    arguments = [
        "train", VERSION, "--out", RUN, "--stage", "generator", *COMMON, "--checkpoint-s", "0.2", *settings,
    ]  # fmt: skip
    process = start_group(locloc_command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begin, enough = time.monotonic(), 5 if ON_GPU else 1
    while time.monotonic() - begin < patient(60) and process.poll() is None:
        if (RUN / "generator/state.pt").exists() and len(_metrics(RUN, "generator")) >= enough:
            break
        time.sleep(0.1)
    ended = process.poll()
    if ended is None:
        kill_group(process)
    before = _metrics(RUN, "generator")
    emit(
        "killed", after_s=time.monotonic() - begin, at_step=before[-1]["step"] if before else None,
        failed="" if ended is None else f"it ended with {ended} before that",
    )  # fmt: skip
    done = run_locloc(*arguments, "--resume", limit_s=70)
    _report(RUN, "generator", done)
    steps = [line["step"] for line in _metrics(RUN, "generator") if "loss" in line]
    wrong = "" if steps and steps == sorted(set(steps)) else f"steps {steps}"
    emit("resumed", steps=len(steps), of=steps[-1] if steps else None, failed=wrong)


def _report(run: Path, task: str, done: Finished) -> None:
    """The throughput, losses and validation metrics of a run."""
    lines = _metrics(run, task)
    epochs = [line for line in lines if "seconds" in line]
    if done.code or not epochs:
        emit("train", stage=task, failed=f"exit {done.code}: {done.err.strip()[-300:]}")
        return
    last = epochs[-1]
    losses = [line["loss"] for line in lines if "loss" in line]
    peaks = [line for line in done.err.splitlines() if line.startswith(PEAK)]
    emit(
        "train", stage=task, images_s=last["images_per_s"], waiting=last["waiting"], epoch_s=last["seconds"],
        first_loss=losses[0], last_loss=losses[-1], wall_s=done.seconds, peak=peaks[-1] if peaks else None,
        figures={name: value for name, value in last.items() if name.startswith("val_")},
    )  # fmt: skip


def _steps_without_data() -> None:
    """Steps on one random batch: images per second, memory, and places where a step waits for the device."""
    rows = load_training_rows(open_version(VERSION), None, 0, 0.1)
    recipe = load_train_recipe("locloc", "synthetic")
    fabric = create_fabric("cuda" if ON_GPU else "cpu", 1, "bf16-mixed" if ON_GPU else "32-true")
    name, weights = (VIT, "random") if ON_GPU else ("pocket", None)
    backbone = Backbone(BackboneSpec(name, precision=PRECISION, weights=weights), str(fabric.device))
    for name in ("generator", "classifier"):
        task = create_task(name, recipe, backbone, rows)
        net, optimizer = fabric.setup(task.model, create_optimizer_v2(task.model, "adamw", lr=1e-4))
        net.train()
        batch = _random_batch(task)

        def step(task=task, net=net, optimizer=optimizer, batch=batch) -> None:
            losses = loop.compute_gradients(fabric, task, net, batch, BATCH)
            norm = loop.update_weights(fabric, task, net, optimizer, check=False)
            losses.start_reading(fabric, norm)

        values = {}
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        spent = median_seconds(step, 1.5 if ON_GPU else 0.1, 3 if ON_GPU else 1, 60)
        if ON_GPU:
            values["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
            values["synchronisations"] = len(find_synchronizations(step))
        emit("step without data", stage=name, batch=BATCH, images_s=BATCH / spent, **values)


def _random_batch(task: TrainingTask) -> ImageBatch:
    rgb = torch.randint(0, 256, (BATCH, 224, 224, 3), dtype=torch.uint8)
    target = torch.rand(BATCH, 224, 224) > 0.5 if task.learns_masks else torch.randint(0, 10, (BATCH,))
    return ImageBatch(rgb, target, torch.arange(BATCH))
