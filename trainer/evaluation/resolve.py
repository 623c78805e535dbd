"""Resolves the arguments of `locloc eval`, runs, versions or score maps, to a dataset and predictors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...pipeline.catalogs.catalog import Catalog
from ...pipeline.catalogs.registry import read_catalog
from ...pipeline.errors import TrainError
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.inspect.ground_truth.boxes import check_boxes
from ...pipeline.store import Version, open_version
from ..data.splits import recorded_filter
from ..data.trained_version import open_trained_version
from ..models.localizer import load_localizer
from .eval_dataset import EvalDataset, dataset_of_catalog, dataset_of_version
from .evaluate import TauChoice
from .predictors import EvalPredictor, LoadedImage, RunPredictor, ScoreMapFiles, StoredMasks, load_batches
from .protocols import PROTOCOLS
from .score_maps import resample_map
from .targets import split_targets
from .wsol_files import (
    check_score_map_ids,
    read_metadata,
    read_score_map,
    read_true_mask,
    write_metadata,
    write_score_map,
)


def resolve_targets(
    targets: list[str],
    images: str | None,
    catalog: str | None,
    truth: Path | None,
    allow_changed_images: bool,
    options: dict[str, Any],
    boxes_in: str = "upright",
    truth_class: str | None = None,
    on_catalog: Callable[[Catalog], None] = lambda catalog: None,
    masks_in: str | None = None,
) -> tuple[EvalDataset, list[EvalPredictor]]:
    """Resolves runs and STORE@VERSIONs.

    images   where the images are; with `catalog`, its kind, these are evaluated. Otherwise the images of the first
             version that is named, or that a run was trained on
    truth    folder of ground-truth masks, or COCO's annotations; truth_class: what is object in them
    options  arguments of `load_localizer`
    boxes_in "stored" for true boxes and masks that were drawn before EXIF turns an image
    masks_in "stored" or "upright" for masks that were drawn on other pixels than boxes
    on_catalog  called with the catalog that `catalog` and `images` name, once it is read

    The masks that a run was trained on become a predictor too. Raises a subclass of LocLocError.
    """
    runs, versions = split_targets(targets, images, catalog, options.get("models", "auto"))
    models = [RunPredictor(run, load_localizer(run, **options)) for run in dict.fromkeys(runs)]
    if catalog is not None and images is not None:
        on_catalog(read := read_catalog(images, catalog))
        return dataset_of_catalog(read, truth, boxes_in, truth_class=truth_class, masks_in=masks_in), [*models]
    headers = [next(iter(model.localizer.headers.values())) for model in models]
    trained = next((header for header in headers if "version" in header), None)
    if not versions and trained is None:
        raise TrainError(
            f"{runs[0]} was imported or is of the hub, and names no store here: name images with --catalog KIND "
            "--images ROOT, or a STORE@VERSION made of them"
        )
    recipe: dict[str, Any] = {}
    only, run = None, models[headers.index(trained)].name if trained is not None else ""
    if versions or trained is None:
        name = versions[0]
        version = open_version(name)
    else:
        name = trained["version"]
        version = open_trained_version(name, run, f"locloc eval {run} STORE@VERSION")
    if trained is not None and _is_trained_on(trained, version):
        recipe = trained["recipe"]
        only = recorded_filter(trained, Path(run))
    dataset = dataset_of_version(
        version,
        images,
        recipe.get("seed", 0),
        recipe.get("val_share", 0.1),
        allow_changed_images,
        truth,
        boxes_in,
        truth_class,
        only,
        masks_in,
    )
    masks = [_stored_masks(open_version(name), dataset) for name in dict.fromkeys([*versions, name])]
    return dataset, [*models, *masks]


def _is_trained_on(header: dict[str, Any], version: Version) -> bool:
    """Whether a run was trained on the version, wherever that is now."""
    same_masks = header.get("masks_fingerprint") == version.provenance["fingerprint"]
    return same_masks or bool(header["version"] == version.name)


def _stored_masks(version: Version, dataset: EvalDataset) -> StoredMasks:
    return StoredMasks(f"masks of {Path(version.name).name}", version, _version_row(version, dataset))


def _version_row(version: Version, dataset: EvalDataset) -> Callable[[int], int]:
    """From a row of the dataset to the version's, which raises StoreError for an image that it does not hold."""
    if version.ids == dataset.ids:
        return lambda row: row
    return lambda row: version.row(dataset.ids[row])


def resolve_score_maps(
    folder: Path, metadata: Path, split: str, root: Path | None, tau: TauChoice
) -> tuple[EvalDataset, list[EvalPredictor], TauChoice]:
    """Resolves score maps and metadata in wsolevaluation's layout. root: of the ground-truth masks.

    The layout has score maps of one split only. Thresholds that validation images would decide are swept, and marked:
    the third value replaces `tau`.
    """
    if not folder.is_dir():
        raise TrainError(f"--score-maps {folder} is no folder")
    known = read_metadata(metadata, split)
    for image_id in known.ids:  # report a missing map before the first hour of work
        if not (folder / f"{image_id}.npy").is_file() and not (folder / image_id).with_suffix(".npy").is_file():
            read_score_map(folder, image_id)

    def decode(row: int) -> np.ndarray:
        raise TrainError(f"{known.ids[row]}: score maps are evaluated without their images")

    boxes = [known.boxes.get(row, np.zeros((0, 4))) for row in range(len(known.ids))]
    checked = check_boxes(
        np.concatenate(boxes),
        np.repeat(np.arange(len(boxes)), [len(of) for of in boxes]),
        known.sizes,
        np.ones(len(boxes), np.uint8),  # the layout knows no EXIF: sizes are those of the pixels that boxes are in
        lambda row: known.ids[row],
        str(known.folder),
    )
    dataset = EvalDataset(
        str(known.folder),
        "wsol",
        known.ids,
        known.labels,
        {row: known.boxes[row] for row in checked.boxes},
        {split: np.arange(len(known.ids))},
        known.sizes,
        decode,
        lambda row: read_true_mask(known, row, root),
        lambda: [*checked.warnings],
    )
    return dataset, [ScoreMapFiles(str(folder), folder, known.ids, read_score_map)], "sweep" if tau == "val" else tau


def export_score_maps(
    dataset: EvalDataset, predictor: EvalPredictor, split: str, out: Path, on_done: Callable[[int, int], None]
) -> str:
    """Writes a predictor's maps as `wsol` resamples them to OUT/ID.npy, and OUT/metadata/SPLIT. Returns a summary."""
    if not predictor.has_maps:
        raise TrainError(f"{predictor.name} draws no maps: it has a classifier alone")
    check_score_map_ids([dataset.ids[row] for row in dataset.rows(split).tolist() if row in dataset.boxes], out)
    frame = PROTOCOLS["wsol"].frame
    view = predictor.map_view(frame.fit)
    rows = np.array([row for row in dataset.rows(split).tolist() if row in dataset.boxes], np.int64)
    written, done = [], 0
    for batch in load_batches(dataset, rows, set() if view is None else {view}):
        images = [image for image in batch if isinstance(image, LoadedImage)]
        maps = predictor.maps(images, frame.fit) if images else []
        for image, (score_map, geometry) in zip(images, maps, strict=True):
            image_id, label = dataset.ids[image.row], int(dataset.labels[image.row])
            write_score_map(out, image_id, min_max_or_zeros(resample_map(score_map, geometry, frame)))
            written.append((image_id, image.size_px, label, dataset.true_boxes(image.row)))
        done += len(batch)
        on_done(done, len(rows))
    count = write_metadata(out / "metadata" / split, written)
    left_out = len(dataset.rows(split)) - count
    return f"{out}: {count} score maps of {predictor.name}" + (
        f"; {left_out} images have no box or cannot be read" if left_out else ""
    )
