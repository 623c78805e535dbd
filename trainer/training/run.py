"""`locloc train`: trains the tasks of a stage on the masks of a version. `loop.fit` trains each task."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ...pipeline.backbones.precision import why_no_precision
from ...pipeline.backbones.spec import BackboneSpec, recorded_weights
from ...pipeline.backbones.tf32 import set_tf32
from ...pipeline.backbones.vit import Backbone
from ...pipeline.catalogs.row_filter import RowFilter
from ...pipeline.errors import LocLocError, TrainError, os_error_reason
from ...pipeline.io.machine import usable_cores
from ...pipeline.io.output_folder import check_writable_folder
from ...pipeline.store import Version
from ..data.datasets import LabelledImages, MaskPairs
from ..data.feature_cache import CachedMaskPairs
from ..data.loader import EpochLoader, EpochSampler
from ..data.mask_cache import MaskCache, Masks
from ..data.splits import TrainingRows, load_training_rows
from ..models import is_guided
from .cache_features import cache_features
from .distributed import (
    Precision,
    create_fabric,
    is_connection_loss,
    launch_ranks,
    raise_on_all_ranks,
    rank_gone,
)
from .input_sizes import inputs_metadata, task_inputs
from .launchers import find_launcher
from .loop import TrainingProgress, fit
from .map_examples import draw_map_examples
from .plan import TrainingPlan, plan_training, task_rows
from .request import TASK_GROUPS, RuntimeConfig, TrainRequest
from .resume import RunBefore, check_new, check_resumed, read_run, row_filter_of, version_of_request
from .run_dir import TaskDir
from .run_lock import RunLock
from .run_metadata import begin_run, cache_key, record_changes, recorded_choice, run_fingerprint, run_metadata
from .run_page import write_run_page
from .second_round import write_seen
from .training_tasks import TrainingTask, create_task, load_guide, needs_guide

PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

OnProgress = Callable[[TrainingProgress], None]
ProgressBar = Callable[[], AbstractContextManager[OnProgress]]


@dataclass(frozen=True)
class TrainSummary:
    run: str
    version: str
    stages: dict[str, dict[str, Any]]  # by task: the best epoch and its validation metrics
    plan: TrainingPlan | None = None


@dataclass(frozen=True)
class Job:
    """The arguments of every rank of a run."""

    request: TrainRequest
    version: str
    rows: TrainingRows
    masks: Masks
    backbone: BackboneSpec
    metadata: dict[str, Any]
    cache_key: str
    workers: int


@dataclass(frozen=True)
class PreparedTask:
    """A task on a device, with its loaders."""

    task: TrainingTask
    backbone: Backbone
    train: EpochLoader
    val: EpochLoader
    metadata: dict[str, Any]  # for the headers of its checkpoints


def train(
    request: TrainRequest,
    progress_bar: ProgressBar | None = None,
    on_plan: Callable[[TrainingPlan], None] = lambda plan: None,
) -> TrainSummary:
    """Trains the tasks of a stage one after the other. A resumed run continues where it was interrupted.

    progress_bar  returns a context manager that yields an `on_progress`; called on rank 0, which may be a spawned
                  process, so it must be a function of a module
    on_plan       called on rank 0 with what will be trained on what, before anything is

    Raises TrainError, StoreError, RecipeError, CatalogError and BackboneError before anything is written; TrainError
    later.
    """
    launcher, out = find_launcher(), request.out
    leads = launcher.rank == 0
    before = read_run(out) if request.resume else None
    version = version_of_request(request, before)
    runtime = resolve_runtime(request.runtime)
    request = replace(request, runtime=runtime)
    only = row_filter_of(request, before)
    job = prepare_job(request, version, only, before)
    fabric = create_fabric(
        runtime.accelerator,
        runtime.devices or (torch.cuda.device_count() if runtime.accelerator == "cuda" else 1),
        PRECISIONS[runtime.precision],
        unused=request.recipe.generator.wiring == "published",
    )
    job = replace(job, workers=worker_count(runtime, fabric.world_size))
    if launcher.is_external:
        fabric.launch()
    with RunLock(out) as lock:
        error: LocLocError | None = None
        plan: TrainingPlan | None = None
        if leads:
            try:
                plan = _begin(job, version, only, before, fabric.world_size, launcher.note, on_plan, lock)
            except LocLocError as caught:
                error = caught
            except OSError as caught:
                error = TrainError(f"{out} cannot be written: {os_error_reason(caught)}")
        if launcher.is_external:
            raise_on_all_ranks(fabric, error)
        elif error is not None:
            raise error
        spawned = fabric.world_size > 1 and not launcher.is_external
        check = None if spawned else lock.check  # this process keeps the lock
        train_rank = partial(_train_rank, job=job, progress_bar=progress_bar or _no_progress, check=check)
        result = launch_ranks(fabric, train_rank) if spawned else train_rank(fabric)
        if isinstance(result, LocLocError):
            raise result
        if leads:
            with suppress(OSError):  # a full disk: the weights are there, and --resume makes the page again
                write_run_page(out)
    return TrainSummary(str(out), version.name, result, plan)


def prepare_job(request: TrainRequest, version: Version, only: RowFilter | None, before: RunBefore | None) -> Job:
    """Reads the rows of the version; writes nothing."""
    recipe, runtime = request.recipe, request.runtime
    rows = load_training_rows(
        version, request.images, recipe.seed, recipe.val_share, request.allow_changed_images, request.boxes_in, only,
        recipe.data,
    )  # fmt: skip
    chosen = None if only is None else recorded_choice(only, rows)
    metadata = run_metadata(version, recipe, request.recipe_name, runtime.precision, runtime.cache_tokens, chosen)
    key = cache_key(metadata if before is None else before.metadata)
    masks = MaskCache(request.out / "cache" / f"masks-{key[:16]}.npy")
    return Job(request, version.name, rows, masks, _backbone_spec(version, request), metadata, key, 0)


def _begin(
    job: Job,
    version: Version,
    only: RowFilter | None,
    before: RunBefore | None,
    devices: int,
    note: str,
    on_plan: Callable[[TrainingPlan], None],
    lock: RunLock,
) -> TrainingPlan:
    """On rank 0: checks everything, shows the plan, takes the lock, and writes the first files of the run."""
    request, recipe = job.request, job.request.recipe
    differing: list[str] = []
    if before is None:
        check_new(request.out)
    else:
        check_writable_folder(request.out, "--out", TrainError)
        lock.acquire()
        before = read_run(request.out)  # as the last holder left it
        differing = check_resumed(before, job.metadata, run_fingerprint(version, before.recipe, job.metadata))
    auto = [f"precision {request.runtime.precision}, {request.auto}"] if request.auto else []
    notes = (*([note] if note else []), *auto, *differing)
    text = None if only is None else only.text
    plan = plan_training(version, job.rows, recipe, request.stage, job.backbone, request.out, devices, text, notes)
    on_plan(plan)
    if before is None:
        lock.acquire()
        sizes = {task.name: task.sizes for task in plan.tasks}
        metadata = job.metadata | {"request": _asked(request), "inputs": sizes}
        begin_run(request.out, recipe, metadata, None if only is None else only.ids)
        write_seen(request.out, version, job.rows)
    elif differing:
        record_changes(before, recipe, job.metadata, differing)
    assert isinstance(job.masks, MaskCache)
    job.masks.write(version)
    return plan


def _asked(request: TrainRequest) -> dict[str, Any]:
    """What a resumed run takes over, unless it is given again."""
    images = request.images
    return {
        "stage": request.stage,
        "images": images if images is None or "://" in images else str(Path(images).absolute()),
        "weights": request.weights if request.weights in (None, "random") else str(Path(request.weights).absolute()),
        "allow_changed_images": request.allow_changed_images,
        "boxes_in": request.boxes_in,
    }


def _train_rank(
    fabric: Fabric, job: Job, progress_bar: ProgressBar, check: Callable[[], None] | None
) -> dict[str, dict[str, Any]] | LocLocError:
    """Trains on one rank. Returns LocLocErrors instead of raising them: a spawned rank would print a traceback."""
    if fabric.device.type == "cpu" and fabric.world_size > 1:
        torch.set_num_threads(max(1, usable_cores() // fabric.world_size))
    best: dict[str, dict[str, Any]] = {}
    try:
        with progress_bar() if fabric.is_global_zero else nullcontext(lambda _: None) as on_progress:
            for name in TASK_GROUPS[job.request.stage]:
                best[name] = _train_task(fabric, job, name, on_progress, check)
    except LocLocError as error:
        return error
    except RuntimeError as error:
        if fabric.world_size > 1 and is_connection_loss(error):
            return rank_gone(fabric, error)
        raise
    except OSError as error:
        return TrainError(f"{job.request.out}: {os_error_reason(error)}; make room, and continue with --resume")
    return best


def _train_task(
    fabric: Fabric, job: Job, name: str, on_progress: OnProgress, check: Callable[[], None] | None
) -> dict[str, Any]:
    """Trains one task; returns the header of its best weights. check: called before each write."""
    request = job.request
    guide = load_guide(request.out, request.recipe).to(fabric.device) if needs_guide(name, request.recipe) else None
    prepared = prepare_task(fabric, job, name, guide, on_progress)
    with TaskDir(request.out / name, name, prepared.metadata, fabric.is_global_zero, check) as task_dir:
        best = fit(
            fabric, prepared.task, request.recipe.seed, prepared.train, prepared.val, task_dir,
            request.runtime.checkpoint_s, on_progress,
        )  # fmt: skip
    if prepared.task.learns_masks and fabric.is_global_zero:
        pairs = MaskPairs(job.rows.images, job.masks, prepared.task.settings, prepared.backbone.size_px)
        with suppress(LocLocError, OSError):  # the weights are there; the page has no examples then
            draw_map_examples(fabric, prepared.task, pairs, job.rows, task_dir.folder, best)
    return best


def prepare_task(
    fabric: Fabric, job: Job, name: str, guide: torch.nn.Module | None, on_progress: OnProgress | None
) -> PreparedTask:
    """A task with its data. on_progress: of the feature cache; None: features are not cached."""
    set_tf32(job.request.runtime.precision == "tf32")  # in each rank, for the models that learn too
    rows = job.rows
    inputs = task_inputs(name, job.request.recipe, job.backbone, str(fabric.device))
    recipe, backbone = inputs.recipe, inputs.backbone
    task = create_task(name, recipe, backbone, rows, guide)
    train_rows, val_rows = task_rows(name, rows)
    dataset = _dataset(fabric, job, task, backbone, on_progress)
    ranks = (fabric.global_rank, fabric.world_size)
    # Features that are not cached, of a dry run, are those of whole images.
    seed = None if on_progress is None and caches_features(job, name) else recipe.seed
    train, val = (
        EpochLoader(dataset, samples, job.workers, pin=fabric.device.type == "cuda")
        for samples in (
            EpochSampler(train_rows, task.fit.batch_size, seed, *ranks),
            EpochSampler(val_rows, task.fit.batch_size, None, *ranks),
        )
    )
    metadata = job.metadata | {"shape": task.shape, "stage": name} | inputs_metadata(inputs.sizes)
    return PreparedTask(task, backbone, train, val, metadata)


def _dataset(
    fabric: Fabric, job: Job, task: TrainingTask, backbone: Backbone, on_progress: OnProgress | None
) -> MaskPairs | CachedMaskPairs | LabelledImages:
    rows, settings, size_px = job.rows, task.settings, backbone.size_px
    if not task.learns_masks:
        needs_masks = getattr(settings, "enhance", False) or is_guided(getattr(settings, "keep_tokens", 1.0))
        return LabelledImages(rows.images, rows.labels, job.masks if needs_masks else None, settings, size_px)
    pairs = MaskPairs(rows.images, job.masks, settings, size_px)
    # PPD's decoder is always trained on cached features of whole images, as PPD was trained.
    if task.features is None or on_progress is None or not caches_features(job, task.name):
        return pairs
    cached_rows = np.concatenate(task_rows(task.name, rows))

    start = time.monotonic()

    def report(done: int, total: int) -> None:
        rate = done / max(time.monotonic() - start, 1e-6)
        nan, left_s = float("nan"), (total - done) / rate
        on_progress(TrainingProgress(f"{task.name}: tokens of images", 0, 0, done, total, nan, 0.0, rate, left_s))

    key = json.dumps([job.cache_key, backbone.sha256, size_px, job.request.runtime.precision])
    cache_dir = job.request.out / "cache"
    features = cache_features(fabric, pairs, cached_rows, task.features, key, cache_dir, job.workers, report)
    return CachedMaskPairs(features, job.masks, getattr(settings, "flip", False), size_px)


def caches_features(job: Job, name: str) -> bool:
    return name == "decoder" or (name == "generator" and job.request.runtime.cache_tokens)


def resolve_runtime(runtime: RuntimeConfig) -> RuntimeConfig:
    """Replaces `auto` by the accelerator. Raises TrainError for settings that this machine cannot run."""
    gpus = torch.cuda.device_count()
    accelerator = runtime.accelerator if runtime.accelerator != "auto" else ("cuda" if gpus else "cpu")
    if accelerator == "cuda" and (runtime.devices or 1) > gpus:
        raise TrainError(f"--devices {runtime.devices or 1}, but this machine has {gpus} GPUs")
    if (why := why_no_precision(runtime.precision, accelerator == "cuda")) is not None:
        raise TrainError(f"--{why}")
    return replace(runtime, accelerator=accelerator)


def worker_count(runtime: RuntimeConfig, devices: int) -> int:
    """Loading processes of each device."""
    if runtime.workers is not None:
        return runtime.workers
    return min(8, max(1, usable_cores() // devices - 1))


def _backbone_spec(version: Version, request: TrainRequest) -> BackboneSpec:
    """The backbone of the masks, checked by the digest of its weights."""
    recorded, settings = version.provenance["backbone"], version.provenance["recipe"]["backbone"]
    weights = request.weights or recorded_weights(recorded)
    if weights not in (None, "random"):
        weights = str(Path(weights).absolute())
        if not Path(weights).is_file():
            raise TrainError(f"The backbone's weights are no longer at {weights}; name their file with --weights")
    return BackboneSpec(settings["name"], settings["size_px"], request.runtime.precision, weights, recorded["sha256"])


def _no_progress() -> AbstractContextManager[OnProgress]:
    return nullcontext(lambda _: None)
