"""`locloc train --dry-run`: what would be trained, and how long it would take, by a few real steps. Writes nothing."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]  # re-exported without __all__

from ...pipeline.errors import LocLocError, TrainError
from ..data.batches import Batch, FeatureBatch, ImageBatch, move_batch
from ..data.mask_cache import VersionMasks
from .distributed import create_fabric
from .launchers import find_launcher
from .loop import compute_gradients, update_weights
from .plan import TaskPlan, TrainingPlan, plan_training
from .request import TrainRequest
from .resume import read_run, row_filter_of, version_of_request
from .run import (
    PRECISIONS,
    PreparedTask,
    caches_features,
    prepare_job,
    prepare_task,
    resolve_runtime,
    worker_count,
)
from .training_tasks import TrainingTask, create_task, needs_guide

STEPS = 10
"""Timed of each task, after one that is not; fewer where they take long."""

ENOUGH_S = 20.0
"""A plan is looked at; the tasks of `--stage all` take it twice."""


def dry_run(request: TrainRequest, on_step: Callable[[str], None] = lambda line: None) -> TrainingPlan:
    """The plan of a run, with the seconds of each task, on one device.

    on_step  called with a line before each task is timed

    Raises what `train` would raise before it writes.
    """
    if find_launcher().is_external:
        raise TrainError("--dry-run is for one process; start it without srun or torchrun")
    before = read_run(request.out) if request.resume else None
    version = version_of_request(request, before)
    request = replace(request, runtime=resolve_runtime(request.runtime))
    only = row_filter_of(request, before)
    fabric = create_fabric(request.runtime.accelerator, 1, PRECISIONS[request.runtime.precision])
    job = prepare_job(request, version, only, before)
    job = replace(job, masks=VersionMasks(version), workers=worker_count(request.runtime, 1))
    text = None if only is None else only.text
    plan = plan_training(version, job.rows, request.recipe, request.stage, job.backbone, None, only=text)
    timed = []
    for task in plan.tasks:
        on_step(f"{task.name}: {min(STEPS, task.steps)} steps, or {ENOUGH_S:.0f} s of them")
        guide = None
        if needs_guide(task.name, request.recipe):  # an untrained one is as fast
            backbone = prepare_task(fabric, job, "generator", None, None).backbone
            guide = create_task("generator", request.recipe, backbone, job.rows).model.to(fabric.device).eval()
        prepared = prepare_task(fabric, job, task.name, guide, None)
        timed.append(replace(task, seconds=_guess(fabric, prepared, task, caches_features(job, task.name))))
    return replace(plan, tasks=tuple(timed))


def _guess(fabric: Fabric, prepared: PreparedTask, plan: TaskPlan, caches: bool) -> float:
    """Seconds of a whole training: its steps, validation after each epoch, and features that are cached once."""
    task = prepared.task
    model, optimizer = fabric.setup(task.model, create_optimizer_v2(task.model, task.fit.optimizer, lr=1e-9))
    model.train()
    cached_s_per_image = first_s = 0.0
    seconds = []
    batches = _batches(prepared, min(STEPS + 1, plan.steps))
    started = begin = time.perf_counter()
    for number, batch in enumerate(batches):
        if caches:
            features_begin = time.perf_counter()
            batch = _cached(fabric, task, batch)
            spent = time.perf_counter() - features_begin
            cached_s_per_image = 2 * spent / len(batch.row)  # plain and flipped
            begin = time.perf_counter()  # a cached epoch reads no image
        loss = compute_gradients(fabric, task, model, batch, len(batch.row))
        update_weights(fabric, task, model, optimizer)
        loss.start_reading(fabric)(task)  # waits for the device
        if number:  # the first one compiles, allocates and starts the loading processes
            seconds.append(time.perf_counter() - begin)
        else:
            first_s = time.perf_counter() - begin
        if time.perf_counter() - started > ENOUGH_S:
            break
        begin = time.perf_counter()
    step_s = statistics.mean(seconds or [first_s])
    # Without gradients an image costs about a third, at least as long as it takes to load it.
    validation_s = step_s / min(plan.batch_size, plan.train_images) * plan.val_images * (1 / 3 if caches else 1)
    images = plan.train_images + plan.val_images
    return plan.epochs * (plan.steps_per_epoch * step_s + validation_s) + images * cached_s_per_image


def _batches(prepared: PreparedTask, count: int) -> Iterator[Batch]:
    """The first batches of the run, of as many epochs as that takes."""

    def all_epochs() -> Iterator[Batch]:
        epoch = 0
        while True:
            for batch in prepared.train.epoch(epoch):
                if isinstance(batch, LocLocError):
                    raise batch
                yield batch
            epoch += 1

    return islice(all_epochs(), count)


def _cached(fabric: Fabric, task: TrainingTask, batch: Batch) -> FeatureBatch:
    assert isinstance(batch, ImageBatch) and task.features is not None
    moved = move_batch(batch, fabric.device)
    with torch.no_grad():
        return FeatureBatch(task.features(moved.rgb).half(), moved.target, moved.row)
