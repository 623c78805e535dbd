"""The four models that a run can train: their inputs, losses, and the metric that selects the best weights.

To add one, put its settings in recipe.py, its model in a file of `models`, and its task in `TASKS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...pipeline.backbones.vit import Backbone
from ...pipeline.errors import BackboneError, TrainError
from ..data.batches import Batch, FeatureBatch, GuidedBatch
from ..data.splits import TrainingRows
from ..models import is_guided
from ..models.checkpoint import create_model, load_checkpoint, same_layers, vit_shape
from ..models.classifier import Classifier
from ..models.generator import GENERATORS, Generator
from ..models.ppd import LAST_CLS, Decoder, LinearClassifier
from ..models.token_selection import select_tokens, select_tokens_in_training, shared_block_count
from ..recipe import FitSettings, TrainRecipe
from .validation_metrics import VALIDATION_TAUS, ClassMetrics, ImageValues, MaskMetrics

Inputs = Callable[[Batch], tuple[Tensor | None, ...]]


@dataclass(frozen=True)
class TrainingTask:
    """One model in training.

    settings     its section of the recipe
    shape        arguments that create the model without its weights; stored in checkpoints
    inputs       a batch > the model's arguments
    features     rgb `(B, S, S, 3) uint8` > cached features; None where augmentation makes a cache useless
    losses       output and target > `(B,)`
    metrics      rows > empty metrics for their images
    best         the metric that selects the best weights; higher is better
    ids          rows > ids
    weights      (N,) float32: the factor of each row's loss in training; None: 1
    """

    name: str
    settings: Any
    model: nn.Module
    shape: dict[str, Any]
    inputs: Inputs
    features: Callable[[Tensor], Tensor] | None
    losses: Callable[[Tensor, Tensor], Tensor]
    metrics: Callable[[np.ndarray], MaskMetrics | ClassMetrics]
    best: str
    ids: Callable[[np.ndarray], list[str]]
    weights: Tensor | None = None

    @property
    def fit(self) -> FitSettings:
        return self.settings.fit

    @property
    def learns_masks(self) -> bool:
        return self.best != "top1"


MOST_CLASSES = 50_000
"""More are taken only if a tenth of them have images: ImageNet's largest set has 21,843."""


def create_task(
    name: str, recipe: TrainRecipe, backbone: Backbone, rows: TrainingRows, guide: nn.Module | None = None
) -> TrainingTask:
    """One of TASKS, with initial weights that depend on the recipe's seed.

    guide  the trained generator that selects tokens of images that are not augmented, where `needs_guide`
    """
    settings = getattr(recipe, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if needs_guide(name, recipe):
            assert guide is not None
            return _guided_classifier(name, settings, backbone, rows, guide)
        return TASKS[name](name, settings, backbone, rows)


def needs_guide(name: str, recipe: TrainRecipe) -> bool:
    """Whether a task is validated with tokens that the run's generator selects, as at inference."""
    return name == "classifier" and is_guided(recipe.classifier.keep_tokens)


def load_guide(run: Path, recipe: TrainRecipe) -> nn.Module:
    """The run's trained generator, frozen. Raises TrainError where it has none."""
    file = run / "generator" / "best.safetensors"
    if not file.is_file():
        raise TrainError(
            f"classifier.keep_tokens = {recipe.classifier.keep_tokens:g} takes the tokens that the generator's maps "
            f"select, and {run} has no generator yet; train it first, as --stage all does"
        )
    return load_checkpoint(file)[0].requires_grad_(False)


def _generator(name: str, settings: Any, backbone: Backbone, rows: TrainingRows) -> TrainingTask:
    shape = {
        "channels": backbone.width,
        **GENERATORS[settings.kind],
        "wiring": settings.wiring,
        "bn_momentum": settings.bn_momentum,
    }
    model = Generator(**shape).to(memory_format=torch.channels_last)  # a third faster, on CPUs and GPUs
    return _mask_task(name, settings, model, shape, lambda batch: (_features(backbone, batch),), backbone, rows)


def _decoder(name: str, settings: Any, backbone: Backbone, rows: TrainingRows) -> TrainingTask:
    shape = {"channels": backbone.width}

    def inputs(batch: Batch) -> tuple[Tensor]:
        return (backbone.norm_features(_features(backbone, batch)),)

    model = Decoder(**shape).to(memory_format=torch.channels_last)
    return _mask_task(name, settings, model, shape, inputs, backbone, rows)


def _classifier(name: str, settings: Any, backbone: Backbone, rows: TrainingRows) -> TrainingTask:
    check_classifier_rows(rows)
    shared = shared_block_count(len(backbone.model.blocks), settings.shared_blocks)
    guided = {"keep_tokens": settings.keep_tokens, "shared_blocks": shared}
    model = Classifier(backbone.model, rows.classes, backbone.grid, **guided)
    shape = {"vit": vit_shape(backbone.model), "classes": rows.classes, "grid": list(backbone.grid), **guided}
    _check_header_suffices(model, shape, backbone.name)
    return _class_task(name, settings, model, shape, lambda rgb: (backbone.embed(rgb, shared),), rows)


def _guided_classifier(
    name: str, settings: Any, backbone: Backbone, rows: TrainingRows, guide: nn.Module
) -> TrainingTask:
    """Selects tokens of augmented images by the places in their batch, of others by the guide, as at inference."""
    plain, share = _classifier(name, settings, backbone, rows), settings.keep_tokens
    shared = plain.shape["shared_blocks"]

    def inputs(batch: Batch) -> tuple[Tensor | None, ...]:
        rgb = _rgb(batch)
        if isinstance(batch, GuidedBatch):
            return backbone.embed(rgb, shared), select_tokens_in_training(batch.places, backbone.grid, share)
        tokens, patches = backbone.embed_and_patch_features(rgb, shared)
        with torch.no_grad():
            maps = guide(patches.contiguous(memory_format=torch.channels_last))
        return tokens, select_tokens(maps, backbone.grid, share)

    return replace(plain, inputs=inputs)


def _linear(name: str, settings: Any, backbone: Backbone, rows: TrainingRows) -> TrainingTask:
    check_classifier_rows(rows)
    shape = {"channels": backbone.width, "classes": rows.classes}

    def image_inputs(rgb: Tensor) -> tuple[Tensor]:
        return (backbone.last_cls_tokens(rgb, LAST_CLS),)

    return _class_task(name, settings, LinearClassifier(**shape), shape, image_inputs, rows)


TASKS = {"generator": _generator, "classifier": _classifier, "decoder": _decoder, "linear": _linear}
"""By name, which is also their section of a recipe: GEG and LFDM of the paper, decoder and linear classifier of PPD."""


def _features(backbone: Backbone, batch: Batch) -> Tensor:
    """Patch features `(B, D, h, w)` of a batch, cached or computed."""
    features = batch.features.float() if isinstance(batch, FeatureBatch) else backbone.patch_features(batch.rgb)
    return features.contiguous(memory_format=torch.channels_last)


def _rgb(batch: Batch) -> Tensor:
    if isinstance(batch, FeatureBatch):
        raise TypeError("cached features have no pixels")
    return batch.rgb


def mask_losses(maps: Tensor, masks: Tensor) -> Tensor:
    """Half the mean squared error between maps `(B, 1, h, w)` and masks `(B, S, S) bool` averaged to h x w: `(B,)`."""
    target = F.interpolate(masks[:, None].float(), size=maps.shape[-2:], mode="area")
    return 0.5 * (maps.float() - target).square().mean((1, 2, 3))


def class_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits `(B, K)` and labels `(B,)`: `(B,)`."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def _mask_task(
    name: str,
    settings: Any,
    model: nn.Module,
    shape: dict[str, Any],
    inputs: Inputs,
    backbone: Backbone,
    rows: TrainingRows,
) -> TrainingTask:
    def metrics(subset: np.ndarray) -> MaskMetrics:
        known = any(row in rows.boxes for row in subset.tolist())
        return MaskMetrics(rows, known, each=ImageValues(subset, 2 + len(VALIDATION_TAUS)))

    best = metrics(rows.val).name
    weights = None if rows.quality is None or rows.quality.weights is None else torch.from_numpy(rows.quality.weights)
    return TrainingTask(
        name, settings, model, shape, inputs, backbone.patch_features, mask_losses, metrics, best, rows.ids, weights
    )


def _class_task(
    name: str,
    settings: Any,
    model: nn.Module,
    shape: dict[str, Any],
    image_inputs: Callable[[Tensor], tuple[Tensor, ...]],
    rows: TrainingRows,
) -> TrainingTask:
    return TrainingTask(
        name,
        settings,
        model,
        shape,
        lambda batch: image_inputs(_rgb(batch)),
        None,
        class_losses,
        lambda subset: ClassMetrics(each=ImageValues(subset, 2)),
        "top1",
        rows.ids,
    )


def _check_header_suffices(model: Classifier, shape: dict[str, Any], name: str) -> None:
    """Raises BackboneError where a checkpoint's header would not recreate the model."""
    if shape["vit"].get("architecture", "") is None or not same_layers(create_model("classifier", shape), model):
        raise BackboneError(
            f"{name}: its blocks are not plain ones, nor those of an architecture of timm, which LFDM is made of; "
            "--stage generator and --stage ppd train on it"
        )


def check_classifier_rows(rows: TrainingRows) -> None:
    """Raises TrainError where images have no class, or where labels would make an absurd number of classes."""
    used = np.concatenate([rows.train, rows.val])
    unlabelled = used[rows.labels[used] < 0]
    if len(unlabelled):
        raise TrainError(
            f"{len(unlabelled)} of {len(used)} images have no class, {rows.ids(unlabelled[:1])[0]} among them, which a "
            "classifier cannot learn from; train the generator alone with --stage generator"
        )
    distinct = len(np.unique(rows.labels[used]))
    if rows.classes > MOST_CLASSES and rows.classes > 10 * distinct:
        row = used[rows.labels[used].argmax()]
        raise TrainError(
            f"Labels go up to {rows.labels[row]} ({rows.ids(np.array([row]))[0]}), but {distinct} classes have images: "
            f"a classifier would have {rows.classes} outputs; number the classes from 0 on, or name them"
        )
