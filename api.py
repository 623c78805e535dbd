"""The functions of the public API, which call what the commands call. Import them from `locloc` itself."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from .pipeline.build.build import BuildRequest, build_version
from .pipeline.build.cluster.spec import ClusterSpec
from .pipeline.build.incremental import refine_again, refine_from
from .pipeline.build.progress import BuildProgress
from .pipeline.build.spec import BuildSummary, RunSettings
from .pipeline.catalogs.catalog import Catalog
from .pipeline.catalogs.registry import read_catalog
from .pipeline.inspect.ground_truth.boxes import upright_catalog
from .pipeline.io.machine import usable_cores
from .pipeline.recipe import Recipe
from .pipeline.recipes.choice import SECOND_ROUND, choose_recipe, choose_refinement
from .pipeline.store.reader import Version, open_version
from .trainer.evaluation.evaluate import Evaluation
from .trainer.evaluation.evaluate import evaluate as _evaluate
from .trainer.evaluation.protocols import protocols_named
from .trainer.evaluation.resolve import resolve_targets
from .trainer.recipe import TrainRecipe
from .trainer.training.loop import TrainingProgress
from .trainer.training.request import RuntimeConfig, TrainArguments, resolve_request
from .trainer.training.run import OnProgress as OnTrainingProgress
from .trainer.training.run import TrainSummary
from .trainer.training.run import train as _train
from .trainer.training.second_round import open_run


def build_masks(
    images: str | Path | Catalog,
    store: str | Path,
    *,
    catalog: str | None = None,
    root: str | Path | None = None,
    exclude: Sequence[str] = (),
    label: str | None = None,
    boxes_in: Literal["upright", "stored"] = "upright",
    recipe: str | Path | Recipe | None = None,
    backbone: str | None = None,
    weights: str | Path | None = None,
    precision: Literal["fp32", "tf32", "bf16", "fp16", "auto"] | None = None,
    from_run: str | Path | None = None,
    name: str | None = None,
    workers: int | None = None,
    gpus: int | None = None,
    scheduler: str | None = None,
    slurm: str | Path | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuildSummary:
    """Makes masks for images, as a new version of a store, as `locloc masks build` does.

    images       folder, list file, tar shards, `hf:NAME` or a URL; or a catalog
    store        folder or URL; created if it does not exist
    catalog      the layout of `images`, as `--catalog` takes it; None: folder, list for a file, webdataset for a .tar,
                 hf for `hf:NAME`
    root         for lists and files of COCO: the folder or URL their paths are relative to
    label        coco, voc: "largest", "first" or "error", the class of an image with several; parquet, hf: the column
    boxes_in     "stored": boxes were drawn on the pixels before EXIF turns an image; they are turned upright
    exclude      globs of ids of images that are left out, such as "raw" or "*_mask.png"
    recipe       a built-in name, a TOML file or a Recipe; None: the default for the backbone, which also fills up a
                 file that names no `base`
    backbone     a timm name; None: the recipe's, or the bundled `pocket` where no recipe is given either
    weights      a file, or "random"; None: the backbone's published ones
    precision    "fp32", "bf16", "fp16" or "tf32" (GPUs), or "auto"; None: the recipe's
    from_run     a trained run, whose generator's maps take the place of the attention; backbone and weights are its own
    name         of the version; None: the next v1, v2, ...
    workers      processes on this machine; None: one for each core
    gpus         of this machine; None: all
    scheduler    address of a Dask scheduler whose workers are used instead
    slurm        TOML file of SLURM jobs that are used instead
    on_progress  called after every block, and with every message

    The same call resumes an interrupted build. Where the store has a version of the same images, weights and recipe,
    nothing is done; where that has another name than `name`, it is a StoreError. A recipe whose thresholds were made
    for another backbone is a UserWarning, and in the summary's `warnings`. Raises a subclass of LocLocError.
    """
    image_catalog = images if isinstance(images, Catalog) else read_catalog(images, catalog, root, exclude, label=label)
    if boxes_in == "stored":
        image_catalog = upright_catalog(image_catalog)
    maps = None
    if from_run is not None:
        maps = open_run(from_run)
        recipe, backbone = recipe or SECOND_ROUND, backbone or maps.source.backbone_name
        weights = weights or maps.source.backbone_weights
    choice = choose_recipe(recipe, backbone, str(store))
    choice = replace(choice, recipe=choice.recipe.with_precision(precision))
    for warning in choice.warnings:
        warnings.warn(warning, stacklevel=2)
    cluster = ClusterSpec(
        usable_cores() if workers is None else workers, gpus, scheduler, Path(slurm) if slurm else None
    )
    request = BuildRequest(
        image_catalog,
        store,
        choice.recipe,
        choice.name,
        str(weights) if weights else None,
        name,
        RunSettings(cluster),
        choice.why,
        maps,
    )
    return replace(build_version(request, on_progress or _ignore), warnings=choice.warnings)


def refine_masks(
    version: str | Version,
    *,
    recipe: str | Path | None = None,
    from_run: str | Path | None = None,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    name: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuildSummary:
    """Makes masks of a version's images anew, as `locloc masks refine` does.

    version   "STORE@V", or an open one
    recipe    a built-in name or a TOML file; None: "second_round", with `from_run` only
    from_run  a trained run, whose generator's maps take the place of the attention
    root      where the images are now; None: where they were
    weights   of the backbone, with `from_run`; None: where they were
    name, workers, on_progress  as in `build_masks`

    Raises a subclass of LocLocError.
    """
    opened = open_version(version) if isinstance(version, str) else version
    if recipe is None and from_run is None:
        raise TypeError("refine_masks needs a recipe, or from_run")
    maps = open_run(from_run) if from_run is not None else None
    choice = choose_refinement(
        recipe or SECOND_ROUND, opened.name, opened.provenance, str(opened.store), with_generator=maps is not None
    )
    run = RunSettings(ClusterSpec(usable_cores() if workers is None else workers))
    report = on_progress or _ignore
    if maps is None:
        return refine_again(opened, choice.recipe, choice.name, run, root, name, report, choice.why)
    file = str(weights) if weights else None
    return refine_from(opened, choice.recipe, choice.name, maps, run, root, file, name, report, choice.why)


def train(
    version: str | Version | None,
    out: str | Path,
    *,
    recipe: str | Path | TrainRecipe | None = None,
    changes: Iterable[str] = (),
    stage: Literal["all", "generator", "classifier", "ppd"] | None = None,
    images: str | Path | None = None,
    weights: str | Path | None = None,
    allow_changed_images: bool = False,
    boxes_in: Literal["upright", "stored"] = "upright",
    only: str | Path | None = None,
    resume: bool = False,
    runtime: RuntimeConfig | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainSummary:
    """Trains a localizer and a classifier on a version of masks, as `locloc train` does.

    version               "STORE@V", or an open one; None with `resume`: the run's
    out                   new or empty folder for the run; with `resume` the folder of the run
    recipe                a built-in name, a TOML file or a TrainRecipe; None: "locloc", or the resumed run's
    changes               changed settings, such as "generator.fit.epochs=5"; not with a TrainRecipe
    stage                 "all" (generator and classifier), one of them, or "ppd", the baseline; None: "all", or the
                          resumed run's
    images, weights       where the images and the backbone's weights are now; None: where they were
    allow_changed_images  use images that differ from those the masks were made from
    boxes_in              "stored": true boxes were drawn on the pixels before EXIF turns an image
    only                  part of the images: "split=train and class in (a, b)", or a file with an id a line
    runtime               devices, precision, loading processes, cached features; None: the defaults
    on_progress           called after every step; with several devices it must be a function of a module

    Raises a subclass of LocLocError.
    """
    changes = tuple(changes)
    if isinstance(recipe, TrainRecipe) and changes:
        raise TypeError("changes need a recipe's name or file; use TrainRecipe.model_copy")
    given = TrainArguments(
        version.name if isinstance(version, Version) else version,
        Path(out),
        str(images) if images else None,
        stage,
        str(recipe) if isinstance(recipe, Path) else recipe,
        changes,
        runtime.precision if runtime is not None else None,
        resume=resume,
        weights=str(weights) if weights else None,
        allow_changed_images=allow_changed_images,
        boxes_in=boxes_in,
        only=None if only is None else str(only),
        runtime=runtime or RuntimeConfig(),
    )
    request = resolve_request(given)
    return _train(request, partial(_callback, on_progress or _ignore))


def evaluate(
    targets: str | Path | Iterable[str | Path],
    *,
    images: str | Path | None = None,
    catalog: str | None = None,
    split: str = "test",
    protocols: str = "all",
    tau: float | Literal["val", "sweep"] = "val",
    truth: str | Path | None = None,
    boxes_in: Literal["upright", "stored"] = "upright",
    truth_class: str | None = None,
    allow_changed_images: bool = False,
    device: str = "auto",
    precision: str = "fp32",
    backbone: str | None = None,
    weights: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    masks_in: Literal["upright", "stored"] | None = None,
) -> Evaluation:
    """Localization and classification metrics under the field's protocols, as `locloc eval` does.

    targets             runs, also "hf:USER/NAME", or "STORE@V" for the masks themselves
    images, catalog     where the images are; `catalog` for images without masks
    split               "test", "val" or "train"
    protocols           "all", or names with commas: locloc, locloc-official, ppd, wsol
    tau                 "val": best on validation images; "sweep": best on the split itself, and marked so; or 0..1
    truth               ground-truth masks, a folder or COCO's annotations, for mask IoU, PxAP and missing boxes
    truth_class         what is object in them, as `--truth-class`; None: decided by what they hold
    boxes_in            "stored": true boxes and masks were drawn on the pixels before EXIF turns an image
    masks_in            the same for masks alone, where boxes were drawn on other pixels; None: as `boxes_in`
    device, precision, backbone, weights  for runs, as in `load`
    on_progress         called with the number of images done and of all images

    Raises a subclass of LocLocError.
    """
    several = [targets] if isinstance(targets, (str, Path)) else list(targets)
    options = {
        "device": device,
        "precision": precision,
        "models": "auto",
        "backbone": backbone,
        "weights": str(weights) if weights else None,
    }
    dataset, predictors = resolve_targets(
        [str(target) for target in several],
        str(images) if images else None,
        catalog,
        Path(truth) if truth else None,
        allow_changed_images,
        options,
        boxes_in,
        truth_class,
        masks_in=masks_in,
    )
    chosen = protocols_named(protocols)
    return _evaluate(dataset, predictors, chosen, split, tau, on_done=on_progress or _ignore)


def _ignore(*_: object) -> None:
    """The default of `on_progress`."""


def _callback(on_progress: OnTrainingProgress) -> AbstractContextManager[OnTrainingProgress]:
    """A context of `on_progress`; a function of a module, so that spawned ranks can unpickle it."""
    return nullcontext(on_progress)
