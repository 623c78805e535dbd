"""Names on the command line > images to evaluate on, and what is evaluated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...pipeline.catalogs import CATALOGS, read_catalog
from ...pipeline.errors import TrainError, did_you_mean
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.store import Version, open_version
from ..models.localizer import load_localizer
from .eval_dataset import ImageSet, images_of_catalog, images_of_version
from .predictors import EvalPredictor, Models, ScoreMaps, StoredMasks, batches
from .protocols import PROTOCOLS, Protocol, framed
from .wsol_files import read_metadata, read_score_map, read_true_mask, write_metadata, write_score_map


def sources(
    targets: list[str],
    images: str | None,
    catalog: str | None,
    truth: Path | None,
    allow_changed_images: bool,
    options: dict[str, Any],
) -> tuple[ImageSet, list[EvalPredictor]]:
    """Runs and STORE@VERSIONs. Images are those of the first version that is named, or that a run was trained on;
    of `catalog` where that is given. A run's own masks are a subject too, where their store is there.
    """
    if not targets:
        raise TrainError("Nothing to evaluate: name runs or STORE@VERSIONs, or --score-maps and --metadata")
    if catalog is not None and (catalog not in CATALOGS or images is None):
        raise TrainError(
            f"No --catalog {catalog!r}{did_you_mean(catalog, CATALOGS)}"
            if catalog not in CATALOGS
            else "--catalog needs --images, the images' folder or list"
        )
    runs = [target for target in targets if "@" not in Path(target).name]
    named = [target for target in targets if target not in runs]
    models = [Models(run, load_localizer(run, **options)) for run in dict.fromkeys(runs)]
    headers = [next(iter(model.localizer.headers.values())) for model in models]
    known = next((header for header in headers if "version" in header), None)
    name = named[0] if named else known["version"] if known else None
    if catalog is not None:
        return images_of_catalog(read_catalog(images, catalog), truth), [*models, *_masks(named, None)]
    if name is None:
        raise TrainError(
            f"{runs[0]} was imported, and is of no store: name its images with --catalog KIND --images ROOT, "
            "or a STORE@VERSION made of them"
        )
    version = open_version(name)
    recipe = known["recipe"] if known is not None and known["version"] == version.name else {}
    found = images_of_version(
        version, images, recipe.get("seed", 0), recipe.get("val_share", 0.1), allow_changed_images, truth
    )
    return found, [*models, *_masks(list(dict.fromkeys([*named, name])), found)]


def _masks(names: list[str], images: ImageSet | None) -> list[StoredMasks]:
    if images is None and names:
        raise TrainError(f"{names[0]} has images of its own; leave --catalog out")
    found = []
    for name in names:
        version = open_version(name)
        found.append(StoredMasks(f"masks of {Path(version.name).name}", version, _row_of(version, images)))
    return found


def _row_of(version: Version, images: ImageSet) -> Callable[[int], int]:
    if version.ids == images.ids:
        return lambda row: row
    return lambda row: version.row(images.ids[row])  # raises StoreError for an image that it does not hold


def score_map_sources(
    folder: Path, metadata: Path, split: str, root: Path | None, tau: float | str, protocols: list[Protocol]
) -> tuple[ImageSet, list[EvalPredictor], float | str]:
    """Of wsolevaluation's files.

    That layout has score maps of one split: thresholds that validation images would decide are swept, and marked.
    """
    if not folder.is_dir():
        raise TrainError(f"--score-maps {folder} is no folder")
    known = read_metadata(metadata, split)
    for image_id in known.ids:  # before the first hour of work
        if not (folder / f"{image_id}.npy").is_file() and not (folder / image_id).with_suffix(".npy").is_file():
            read_score_map(folder, image_id)

    def unread(row: int) -> np.ndarray:
        raise TrainError(f"{known.ids[row]}: score maps are evaluated without their images")

    images = ImageSet(
        str(known.folder), "wsol", known.ids, known.labels, known.boxes, {split: np.arange(len(known.ids))},
        known.sizes, unread, lambda row: read_true_mask(known, row, root),
    )  # fmt: skip
    return images, [ScoreMaps(str(folder), folder, known.ids, read_score_map)], "sweep" if tau == "val" else tau


def write_wsol(
    images: ImageSet, predictor: EvalPredictor, split: str, out: Path, on_done: Callable[[int, int], None]
) -> str:
    """OUT/ID.npy and OUT/metadata/SPLIT: what `wsol` sees of a subject. Returns what was done, in words."""
    if not predictor.has_maps:
        raise TrainError(f"{predictor.name} draws no maps: it has a classifier alone")
    rows, frame = images.rows(split), PROTOCOLS["wsol"].frame
    view, written, done = predictor.map_view(frame.shown), [], 0
    rows = np.array([row for row in rows.tolist() if row in images.boxes], np.int64)
    for batch in batches(images, rows, {view} - {None}):
        good = [image for image in batch if image.size is not None]
        for image, (one, made) in zip(good, predictor.maps(good, frame.shown) if good else [], strict=True):
            whole = framed(one, made, frame, ResizeCrop.stretch(image.size, frame.size_px))
            write_score_map(out, images.ids[image.row], min_max_or_zeros(whole))
            written.append((images.ids[image.row], image.size, int(images.labels[image.row]), images.truths(image.row)))
        done += len(batch)
        on_done(done, len(rows))
    count = write_metadata(out / "metadata" / split, written)
    left = len(images.rows(split)) - count
    return f"{out}: {count} score maps of {predictor.name}" + (
        f"; {left} images have no box or cannot be read" if left else ""
    )
