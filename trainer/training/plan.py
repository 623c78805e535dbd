"""What a run takes: images by split and class, what is left out and why, models and steps; checked before any work.

Everything that would stop a later task is found here, before the first one is trained.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...pipeline.backbones.spec import BackboneSpec
from ...pipeline.catalogs.catalog import SPLITS
from ...pipeline.errors import TrainError
from ...pipeline.status import DONE, Status
from ...pipeline.store import Version
from ..data.loader import EpochSampler
from ..data.splits import TrainingRows, too_few_images
from ..recipe import TrainRecipe
from .input_sizes import task_inputs
from .request import TASK_GROUPS
from .training_tasks import check_classifier_rows, create_task, load_guide, needs_guide

IMAGES_PER_DEVICE = 2
"""Of a batch, at least: batch norm takes a variance."""

FEW_IMAGES = 50
FEW_VALIDATION_IMAGES = 10
FEW_STEPS, SMALL_BATCH = 8, 16
"""Fewer steps an epoch are few, where batches are larger than that."""


@dataclass(frozen=True)
class TaskPlan:
    """One model to train."""

    name: str
    parameters: int
    train_images: int
    val_images: int
    batch_size: int
    steps_per_epoch: int
    epochs: int
    seconds: float | None = None  # of the whole training, guessed by a dry run
    sizes: dict[str, int] = field(default_factory=dict)  # of its images (input_sizes.py)
    notes: tuple[str, ...] = ()  # a line for each size that is not the recipe's

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


@dataclass(frozen=True)
class TrainingPlan:
    """The images and models of a run."""

    version: str
    images: int  # of the version
    only: str | None
    splits: dict[str, int]  # train, val and test: images that have a mask
    val_drawn: bool  # whether val was drawn from train
    left_out: dict[str, int]  # why: how many images
    classes: dict[str, tuple[int, int]]  # by name or number: images in train and in val
    tasks: tuple[TaskPlan, ...] = ()
    notes: tuple[str, ...] = field(default=())  # what to know before the work


def plan_training(
    version: Version,
    rows: TrainingRows,
    recipe: TrainRecipe,
    stage: str,
    backbone: BackboneSpec,
    out: Path | None,
    devices: int = 1,
    only: str | None = None,
    notes: tuple[str, ...] = (),
) -> TrainingPlan:
    """Creates each model once, on the CPU, with its initial weights.

    out      of the run, whose generator a guided classifier needs; None: an untrained one takes its place
    devices  ranks that share a batch

    Raises TrainError, BackboneError or RecipeError for a task that could not be trained.
    """
    names = TASK_GROUPS[stage]
    for name in names:
        _check_rows(name, rows, version.name, devices, only)
    tasks = tuple(_plan_task(name, rows, recipe, names, backbone, out, devices) for name in names)
    classes = _classes(version, rows)
    plan = TrainingPlan(
        version.name, len(version), only,
        {name: len(split) for name, split in (("train", rows.train), ("val", rows.val), ("test", rows.test))},
        rows.val_drawn, _left_out(version, rows), classes, tasks,
    )  # fmt: skip
    sizes = [note for task in tasks for note in task.notes]
    return replace(plan, notes=(*notes, *sizes, *rows.warnings, *_warnings(plan)))


def learns_masks(name: str) -> bool:
    return name in ("generator", "decoder")


def task_rows(name: str, rows: TrainingRows) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that a task is trained on and selected by: masks that are empty teach nothing."""
    if not learns_masks(name):
        return rows.train, rows.val
    return rows.train[rows.learned[rows.train]], rows.val[rows.with_mask[rows.val]]


def _check_rows(name: str, rows: TrainingRows, version: str, devices: int, only: str | None) -> None:
    train, val = task_rows(name, rows)
    least = IMAGES_PER_DEVICE * devices
    if len(train) < least or not len(val):
        images = f"{len(train)} {'image' if len(train) == 1 else 'images'}{' with masks' if learns_masks(name) else ''}"
        needed = f"at least {least} are needed{f' on {devices} devices' if devices > 1 else ''}"
        raise too_few_images(version, f"{images} to train {name} on ({needed})", val, rows, only)
    if not learns_masks(name):
        check_classifier_rows(rows)


def _plan_task(
    name: str,
    rows: TrainingRows,
    recipe: TrainRecipe,
    names: tuple[str, ...],
    spec: BackboneSpec,
    out: Path | None,
    devices: int,
) -> TaskPlan:
    settings = getattr(recipe, name)
    inputs = task_inputs(name, recipe, spec, "cpu")
    recipe, backbone = inputs.recipe, inputs.backbone
    guide = None
    if needs_guide(name, recipe):
        if out is None or "generator" in names:
            guide = create_task("generator", recipe, backbone, rows).model
        else:
            guide = load_guide(out, recipe)
    task = create_task(name, recipe, backbone, rows, guide)
    train, val = task_rows(name, rows)
    sampler = EpochSampler(train, settings.fit.batch_size, recipe.seed, 0, devices)
    if len(sampler.steps(0)[-1]) < IMAGES_PER_DEVICE * devices:
        raise TrainError(
            f"{name}: batches of {settings.fit.batch_size} images are too small for {devices} devices; "
            f"--set {name}.fit.batch_size={IMAGES_PER_DEVICE * devices}, or more"
        )
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    fit = settings.fit
    counts = (len(train), len(val), fit.batch_size, len(sampler), fit.epochs)
    return TaskPlan(name, parameters, *counts, sizes=inputs.sizes, notes=inputs.notes)


def _left_out(version: Version, rows: TrainingRows) -> dict[str, int]:
    """Why images of the version are not used, most frequent first."""
    status, codes = version.status, version.catalog.table["split"].to_numpy()
    reasons: Counter[str] = Counter()
    not_chosen = ~rows.chosen
    not_chosen[rows.test] = False  # `--only` leaves them whole
    reasons["not chosen by --only"] = int(not_chosen.sum())
    for number in np.unique(status[rows.chosen]).tolist():
        if number not in DONE:
            reasons[f"status {Status(number).label}"] = int((status[rows.chosen] == number).sum())
    used = np.zeros(len(rows.done), bool)
    for split in (rows.train, rows.val, rows.test):
        used[split] = True
    for code in np.unique(codes).tolist():
        unused = int((~used & rows.done & rows.chosen & (codes == code)).sum())
        reasons[f"in split {SPLITS[code]!r}, which is not used" if code else "in no split, where others are"] = unused
    trained = np.concatenate([rows.train, rows.val])
    reasons["with an empty mask, for models of masks"] = int((~rows.with_mask[trained]).sum())
    too_bad = rows.with_mask[rows.train] & ~rows.learned[rows.train]
    reasons["below data.min_quality, for models of masks"] = int(too_bad.sum())
    return {reason: count for reason, count in reasons.most_common() if count}


def _classes(version: Version, rows: TrainingRows) -> dict[str, tuple[int, int]]:
    """Images of each class in train and val: of all named classes, else of the labels that there are."""
    names, counted = version.catalog.classes, [Counter(rows.labels[part].tolist()) for part in (rows.train, rows.val)]
    labels = range(len(names)) if names else sorted((set(counted[0]) | set(counted[1])) - {-1})
    return {names[label] if names else str(label): (counted[0][label], counted[1][label]) for label in labels}


def _warnings(plan: TrainingPlan) -> list[str]:
    """What makes figures of a run doubtful, or a part of it useless."""
    found = []
    train, val = plan.splits["train"], plan.splits["val"]
    used = [name for name, (count, _) in plan.classes.items() if count]
    empty = [name for name, (count, _) in plan.classes.items() if not count]
    classifies = any(not learns_masks(task.name) for task in plan.tasks)
    if classifies and len(used) == 1:
        found.append(f"one class, {used[0]}: a classifier has nothing to tell apart; --stage generator leaves it out")
    if classifies and empty:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        found.append(f"{len(empty)} of {len(plan.classes)} classes have no training image: {shown}")
    if train < FEW_IMAGES:
        found.append(f"{train} training images are few: what is learnt will depend on them one by one")
    if val < FEW_VALIDATION_IMAGES:
        found.append(f"{val} validation images choose the weights and the threshold: a figure of theirs says little")
    for task in plan.tasks:
        if task.steps_per_epoch == 1 or (task.steps_per_epoch < FEW_STEPS and task.batch_size > SMALL_BATCH):
            steps = "one step" if task.steps_per_epoch == 1 else f"{task.steps_per_epoch} steps"
            found.append(
                f"{task.name}: {steps} an epoch, {task.steps} in all, of {task.train_images} images; "
                f"--set {task.name}.fit.batch_size={max(2, task.train_images // FEW_STEPS)} makes more"
            )
    return found
