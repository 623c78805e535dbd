"""`locloc train`: trains the tasks of a stage on the masks of a version. `loop.fit` trains each task."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric

from ...pipeline.backbones.spec import BackboneSpec, recorded_weights
from ...pipeline.backbones.vit import Backbone
from ...pipeline.errors import LocLocError, TrainError
from ...pipeline.io.machine import usable_cores
from ...pipeline.store import Version, open_version
from ..data.datasets import LabelledImages, MaskPairs
from ..data.feature_cache import CachedMaskPairs
from ..data.loader import EpochLoader, EpochSampler
from ..data.mask_cache import MaskCache
from ..data.splits import TrainingRows, load_training_rows
from ..models.token_selection import is_guided
from ..recipe import TrainRecipe
from .cache_features import cache_features
from .distributed import Precision, create_fabric, is_rank_zero, launched_externally, raise_on_all_ranks
from .loop import TrainingProgress, fit
from .run_dir import TaskDir
from .run_metadata import begin_run, run_metadata
from .training_tasks import TASK_GROUPS, TrainingTask, create_task, load_guide, needs_guide

PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

OnProgress = Callable[[TrainingProgress], None]


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how a run is trained. Settings other than the precision change results by rounding errors only."""

    devices: int | None = None  # None: every GPU, or one CPU process
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: int | None = None  # loading processes of each device; None: by the cores
    cache_tokens: bool = False
    checkpoint_s: float = 300.0  # between saved states within an epoch


@dataclass(frozen=True)
class TrainRequest:
    version: str  # STORE@V
    out: Path
    recipe: TrainRecipe
    recipe_name: str
    stage: str = "all"  # a key of TASK_GROUPS
    images: str | None = None  # where the images are now; None: where they were
    weights: str | None = None  # where the backbone's weights are now; None: where they were
    allow_changed_images: bool = False
    resume: bool = False
    runtime: RuntimeConfig = RuntimeConfig()
    boxes_in: str = "upright"  # "stored": true boxes were drawn before EXIF turns an image


@dataclass(frozen=True)
class TrainSummary:
    run: str
    version: str
    stages: dict[str, dict[str, Any]]  # by task: the best epoch and its validation metrics


@dataclass(frozen=True)
class _Job:
    """The arguments of every rank of a run."""

    request: TrainRequest
    version: str
    rows: TrainingRows
    masks: MaskCache
    backbone: BackboneSpec
    metadata: dict[str, Any]
    workers: int


def train(
    request: TrainRequest, progress_bar: Callable[[], AbstractContextManager[OnProgress]] | None = None
) -> TrainSummary:
    """Trains the tasks of a stage one after the other. A resumed run continues where it was interrupted.

    progress_bar  returns a context manager that yields an `on_progress`; called on rank 0, which may be a spawned
                  process, so it must be a function of a module

    Raises TrainError, StoreError, RecipeError and BackboneError before anything is written; TrainError later.
    """
    version = open_version(request.version)
    runtime, recipe = _resolve_runtime(request.runtime), request.recipe
    rows = load_training_rows(
        version, request.images, recipe.seed, recipe.val_share, request.allow_changed_images, request.boxes_in
    )
    metadata = run_metadata(version, recipe, request.recipe_name, runtime.precision, runtime.cache_tokens)
    masks = MaskCache(request.out / "cache" / f"masks-{metadata['fingerprint'][:16]}.npy")
    fabric = create_fabric(
        runtime.accelerator,
        runtime.devices or (torch.cuda.device_count() if runtime.accelerator == "cuda" else 1),
        PRECISIONS[runtime.precision],
        unused=recipe.generator.wiring == "published",
    )
    if launched_externally():
        fabric.launch()
    error: LocLocError | None = None
    if is_rank_zero():
        try:
            begin_run(request.out, recipe, metadata, request.resume)
            masks.write(version)
        except LocLocError as caught:
            error = caught
    if launched_externally():
        raise_on_all_ranks(fabric, error)
    elif error is not None:
        raise error
    workers = _worker_count(runtime, fabric.world_size)
    job = _Job(
        replace(request, runtime=runtime),
        version.name,
        rows,
        masks,
        _backbone_spec(version, request),
        metadata,
        workers,
    )
    train_rank = partial(_train_rank, job=job, progress_bar=progress_bar or _no_progress)
    spawned = fabric.world_size > 1 and not launched_externally()
    result = fabric.launch(train_rank) if spawned else train_rank(fabric)
    if isinstance(result, LocLocError):
        raise result
    return TrainSummary(str(request.out), version.name, result)


def _train_rank(
    fabric: Fabric, job: _Job, progress_bar: Callable[[], AbstractContextManager[OnProgress]]
) -> dict[str, dict[str, Any]] | LocLocError:
    """Trains on one rank. Returns LocLocErrors instead of raising them: a spawned rank would print a traceback."""
    if fabric.device.type == "cpu" and fabric.world_size > 1:
        torch.set_num_threads(max(1, usable_cores() // fabric.world_size))
    best: dict[str, dict[str, Any]] = {}
    try:
        with progress_bar() if fabric.is_global_zero else nullcontext(lambda _: None) as on_progress:
            for name in TASK_GROUPS[job.request.stage]:
                best[name] = _train_task(fabric, job, name, on_progress)
    except LocLocError as error:
        return error
    return best


def _train_task(fabric: Fabric, job: _Job, name: str, on_progress: OnProgress) -> dict[str, Any]:
    """Trains one task; returns the header of its best weights."""
    recipe, rows, runtime = job.request.recipe, job.rows, job.request.runtime
    spec = replace(job.backbone, size_px=getattr(getattr(recipe, name), "size_px", job.backbone.size_px))
    backbone = Backbone(spec, str(fabric.device))
    guide = load_guide(job.request.out, recipe).to(fabric.device) if needs_guide(name, recipe) else None
    task = create_task(name, recipe, backbone, rows, guide)
    train_rows, val_rows = (
        split[rows.with_mask[split]] if task.learns_masks else split for split in (rows.train, rows.val)
    )
    if not len(train_rows) or not len(val_rows):
        raise TrainError(
            f"{job.version}: {len(train_rows)} masks to train {name} on and {len(val_rows)} to select it by"
        )
    dataset = _dataset(fabric, job, task, backbone, on_progress)
    ranks = (fabric.global_rank, fabric.world_size)
    sampler = EpochSampler(train_rows, task.fit.batch_size, recipe.seed, *ranks)
    if len(sampler.steps(0)[-1]) < 2 * fabric.world_size:  # batch norm needs two images
        raise TrainError(f"{name}: {len(train_rows)} images are too few to train on with --devices {fabric.world_size}")
    train, val = (
        EpochLoader(dataset, samples, job.workers, pin=fabric.device.type == "cuda")
        for samples in (sampler, EpochSampler(val_rows, task.fit.batch_size, None, *ranks))
    )
    metadata = job.metadata | {"shape": task.shape, "stage": name, "backbone_size_px": spec.size_px}
    with TaskDir(job.request.out / name, name, metadata, fabric.is_global_zero) as task_dir:
        return fit(fabric, task, recipe.seed, train, val, task_dir, runtime.checkpoint_s, on_progress)


def _dataset(
    fabric: Fabric, job: _Job, task: TrainingTask, backbone: Backbone, on_progress: OnProgress
) -> MaskPairs | CachedMaskPairs | LabelledImages:
    rows, settings, size_px = job.rows, task.settings, backbone.size_px
    if not task.learns_masks:
        needs_masks = getattr(settings, "enhance", False) or is_guided(getattr(settings, "keep_tokens", 1.0))
        return LabelledImages(rows.images, rows.labels, job.masks if needs_masks else None, settings, size_px)
    pairs = MaskPairs(rows.images, job.masks, settings, size_px)
    # PPD's decoder is always trained on cached features of whole images, as PPD was trained.
    if task.features is None or not (job.request.runtime.cache_tokens or task.name == "decoder"):
        return pairs
    cached_rows = np.concatenate([rows.train, rows.val])
    cached_rows = cached_rows[rows.with_mask[cached_rows]]

    def report(done: int, total: int) -> None:
        on_progress(TrainingProgress(f"{task.name}: tokens", 1, 1, done, total, float("nan"), 0.0, 0.0, float("nan")))

    key = json.dumps([job.metadata["fingerprint"], backbone.sha256, size_px, job.request.runtime.precision])
    cache_dir = job.request.out / "cache"
    features = cache_features(fabric, pairs, cached_rows, task.features, key, cache_dir, job.workers, report)
    return CachedMaskPairs(features, job.masks, getattr(settings, "flip", False), size_px)


def _resolve_runtime(runtime: RuntimeConfig) -> RuntimeConfig:
    """Replaces `auto` by the accelerator. Raises TrainError for settings that this machine cannot run."""
    gpus = torch.cuda.device_count()
    accelerator = runtime.accelerator if runtime.accelerator != "auto" else ("cuda" if gpus else "cpu")
    if accelerator == "cuda" and (runtime.devices or 1) > gpus:
        raise TrainError(f"--devices {runtime.devices or 1}, but this machine has {gpus} GPUs")
    if accelerator == "cpu" and runtime.precision == "fp16":
        raise TrainError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16")
    return replace(runtime, accelerator=accelerator)


def _worker_count(runtime: RuntimeConfig, devices: int) -> int:
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
