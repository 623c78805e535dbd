"""`locloc masks tune`: the recipe with the best masks of a version's images, among many tried on its kept maps.

Only images of one split are looked at, so that others can say what the recipe is worth.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ...backbones.spec import backbone_family
from ...catalogs.paths import parse_location
from ...errors import TruthError, check_known
from ...io.machine import usable_cores
from ...recipe import Recipe, built_recipe, load_recipe, recipe_names, recorded_revisions
from ...recipes.choice import MADE_FOR
from ...status import DONE
from ...store.reader import Version
from ..true_objects import FIGURES, TrueObjects, rows_of_split
from .images import KeptImage
from .search import Trial, search, standard_error
from .space import Space
from .workers import scorer

Metric = Literal["mask-iou", "box-iou", "corloc"]
COLUMN = {"mask-iou": "mask_iou", "box-iou": "box_iou", "corloc": "corloc"}

MOST_IMAGES = 5000
MOST_BYTES = 2_000_000_000  # of pixels, in all processes together


@dataclass(frozen=True)
class TuneOptions:
    """What is searched, on which images, and by which processes. Masks of a seed do not depend on `workers`."""

    trials: int = 100
    split: str = "val"
    metric: Metric | None = None  # None: mask-iou, or box-iou if the ground truth is boxes only
    seed: int = 0
    workers: int | None = None  # None: one for each core
    boxes_in: str = "upright"
    truth_class: str | None = None
    root: str | None = None  # where the images are, if they were moved


@dataclass(frozen=True)
class TunedRecipe:
    """A recipe and its means over the images, in [0, 1]; those of masks are None if the ground truth is boxes only."""

    name: str  # "trial 12", "recipe contrast", or the version's name for its own
    mask_iou: float | None
    precision: float | None
    recall: float | None
    box_iou: float
    corloc: float
    recipe: Recipe

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"recipe": self.recipe.model_dump(mode="json")}


@dataclass(frozen=True)
class TuneReport:
    """Result of `tune_version`."""

    version: str
    truth: str  # as it was named
    described: str  # how many images have ground truth, and how it was read
    split: str
    images: int
    metric: Metric
    trials: int
    given_up: int  # trials that were clearly worse on a part of the images
    seed: int
    seconds: float
    known: list[TunedRecipe]  # the version's own recipe, then built-in ones that fit, best first
    best: list[TunedRecipe]  # trials on all images, best first
    gain: float  # of the winner over the version's own recipe
    gain_error: float  # standard error of that difference over the images
    warnings: list[str]

    @property
    def winner(self) -> TunedRecipe:
        """The best of all, which is a known recipe where no trial is better."""
        return max([*self.known, *self.best], key=lambda one: _rank(one, self.metric))

    def as_json(self) -> dict[str, Any]:
        content = {name: value for name, value in vars(self).items() if name not in ("known", "best")}
        lists = {name: [one.as_json() for one in getattr(self, name)] for name in ("known", "best")}
        return content | {"winner": self.winner.as_json()} | lists


def tune_version(
    version: Version,
    truth: str,
    options: TuneOptions = TuneOptions(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TuneReport:
    """Searches the settings of saliency and refinement that give the best masks on one split of a version.

    truth        folder of masks, a .json file of COCO's annotations, or "catalog" for its boxes
    on_progress  called with the number of recipes tried and of all

    Images without a map or without ground truth are left out; more than fit into memory are drawn evenly. Both are said
    in the report's warnings.

    Raises StoreError for a split without images, TruthError for ground truth that cannot be used, LocLocError if a
    process dies.
    """
    began = time.perf_counter()
    recipe = built_recipe(version.provenance, version.name)
    warnings: list[str] = []
    rows = rows_of_split(version, options.split)
    if options.split == "test":
        warnings.append("the recipe is chosen on the split test, so its figures there say nothing about other images")
    done = np.isin(version.status[rows], DONE)
    if not done.all():
        warnings.append(f"{len(rows) - done.sum()} images of the split {options.split} have no attention: left out")
    objects = TrueObjects(version, truth, recipe, options.boxes_in, options.truth_class, rows[done], options.root)
    metric = _metric(options.metric, objects)
    objects.rows = _at_most(objects.rows, recipe.mask_px, warnings)
    images = _shuffled(_kept_images(version, objects), options.seed)
    warnings += objects.warnings()
    if not images:
        raise _nothing(version, truth, options.split, objects)
    settings = recipe.backbone
    space = Space(recipe, version.attention_shape[0] - settings.contrast_maps - settings.generator_maps)
    start = [(version.name, recipe), *_fitting(space)]
    root = parse_location(options.root or version.provenance["catalog"]["root"])
    engines = [one.refine for _, one in start]
    revisions = recorded_revisions(version.provenance)
    with scorer(images, root, recipe, options.workers or usable_cores(), engines, revisions) as scores:
        if scores.unreadable:
            first, reason = next(iter(sorted(scores.unreadable.items())))
            warnings.append(f"{len(scores.unreadable)} images cannot be read (first {first}: {reason}): left out")
        if not scores.images:
            raise TruthError(
                f"none of {len(images)} images can be read; if they were moved, name their folder with --root"
            )
        column, count = FIGURES.index(COLUMN[metric]), scores.images
        tried = search(space, start, scores, count, column, options.trials, options.seed, on_progress)
    return _report(version, truth, objects.describe(), options, metric, count, tried, len(start), warnings, began)


def checked_metric(name: str | None) -> Metric | None:
    """Raises TruthError for a name that is no metric."""
    if name is not None:
        check_known(TruthError, "--metric", name, get_args(Metric))
    return name  # type: ignore[return-value]


def _metric(given: Metric | None, objects: TrueObjects) -> Metric:
    if given == "mask-iou" and not objects.has_masks:
        raise TruthError("--metric mask-iou needs true masks, and --truth catalog has boxes; use box-iou or corloc")
    return given or ("mask-iou" if objects.has_masks else "box-iou")


def _at_most(rows: np.ndarray, mask_px: int, warnings: list[str]) -> np.ndarray:
    """Rows, evenly drawn where their pixels would not fit into memory."""
    limit = min(MOST_IMAGES, MOST_BYTES // (3 * mask_px * mask_px))
    if len(rows) <= limit:
        return rows
    warnings.append(f"{limit} of {len(rows)} images are used, evenly drawn: more do not fit into memory")
    drawn: np.ndarray = rows[np.linspace(0, len(rows) - 1, limit).astype(int)]
    return drawn


def _kept_images(version: Version, objects: TrueObjects) -> list[KeptImage]:
    if not len(rows := objects.rows):
        return []
    maps, digests = version.read_attention(rows), version.read_column("input_digest", rows)
    paths, number = version.table["path"], {row: number for number, row in enumerate(rows.tolist())}
    return [
        KeptImage.of(version.ids[row], paths[row].as_py(), digests[number[row]], maps[number[row]], truth)
        for row, truth in objects
    ]


def _shuffled(images: list[KeptImage], seed: int) -> list[KeptImage]:
    """Ids are sorted, often by class: the first part of them has to be like the rest."""
    return [images[number] for number in np.random.default_rng(seed).permutation(len(images))]


def _nothing(version: Version, truth: str, split: str, objects: TrueObjects) -> TruthError:
    return TruthError(
        f"--truth {truth}: no image of the split {split} of {version.name} has ground truth; {objects.describe()}"
    )


def _fitting(space: Space) -> list[tuple[str, Recipe]]:
    """Built-in recipes that can be had from the kept maps, and whose thresholds are for this backbone and size."""
    kept = space.base.backbone
    fitting = []
    for name in recipe_names():
        recipe = load_recipe(name)
        saliency = recipe.saliency
        if saliency.strategy not in space.strategies:
            continue
        if saliency.strategy == "absolute" and (
            MADE_FOR[name] != backbone_family(kept.name)
            or recipe.backbone.size_px != kept.size_px
            or (isinstance(saliency.heads, tuple) and max(saliency.heads) >= space.heads)
        ):
            continue
        same = space.base.model_copy(update={"saliency": saliency, "refine": recipe.refine})
        if same != space.base:
            fitting.append((f"recipe {name}", same))
    return fitting


def _report(
    version: Version,
    truth: str,
    described: str,
    options: TuneOptions,
    metric: Metric,
    images: int,
    tried: list[Trial],
    known_count: int,
    warnings: list[str],
    began: float,
) -> TuneReport:
    known, trials = tried[:known_count], tried[known_count:]
    complete = [trial for trial in trials if trial.complete]
    column = FIGURES.index(COLUMN[metric])

    def by_figure(some: list[Trial]) -> list[TunedRecipe]:
        return sorted(map(_means, some), key=lambda one: _rank(one, metric), reverse=True)

    best = max([*known, *complete], key=lambda trial: _rank(_means(trial), metric))
    difference = best.figures[:, column] - known[0].figures[:, column]
    return TuneReport(
        version.name,
        truth,
        described,
        options.split,
        images,
        metric,
        len(trials),
        len(trials) - len(complete),
        options.seed,
        time.perf_counter() - began,
        [_means(known[0]), *by_figure(known[1:])],
        by_figure(complete),
        float(difference.mean()),
        standard_error(difference),
        warnings,
    )


def _means(trial: Trial) -> TunedRecipe:
    iou, precision, recall, box_iou, corloc = trial.figures.mean(0).tolist()
    if np.isnan(iou):
        return TunedRecipe(trial.name, None, None, None, box_iou, corloc, trial.recipe)
    return TunedRecipe(trial.name, iou, precision, recall, box_iou, corloc, trial.recipe)


def _rank(one: TunedRecipe, metric: Metric) -> tuple[float, float]:
    """High is good. Box IoU decides among equal ones: CorLoc has few values."""
    return getattr(one, COLUMN[metric]), one.box_iou
