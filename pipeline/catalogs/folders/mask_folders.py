"""Folders whose names say that they hold masks, and folders that hold all images of a data set."""

import os
import re
from pathlib import Path

import pyarrow.compute as pc

from ...errors import CatalogError
from ..catalog import Catalog
from ..paths import to_text
from ..split_words import split_code

MASKS = frozenset({
    "mask", "masks", "annotation", "annotations", "anno", "annots", "label", "labels", "gt", "gts", "groundtruth",
    "ground_truth", "ground-truth", "ground truth", "seg", "segs", "segmentation", "segmentations", "segmentationclass",
    "segmentationclassaug", "segmentationobject", "trimap", "trimaps", "matte", "mattes", "alpha", "saliency",
    "gtfine", "gtcoarse",
})  # fmt: skip
IMAGES = frozenset({
    "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpegimages", "jpegs", "rgb", "input",
    "inputs", "data", "leftimg8bit",
})  # fmt: skip
_ENDING = re.compile(r"[-_. ]?(?:[0-9]+|all|png|pngs|jpg|jpgs|jpeg)\Z")
_LISTS = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson")


def is_mask_folder(name: str) -> bool:
    """True for `masks`, `annotations_2`, `GT`, `train_masks`, `test-labels`."""
    return _word(name) in MASKS


def is_image_folder(name: str) -> bool:
    return _word(name) in IMAGES


def _word(name: str) -> str:
    """The word in a folder's name without numbers at its end or a split at either end."""
    word = _ENDING.sub("", name.strip().lower())
    if word in MASKS or word in IMAGES:
        return word
    for before, sign, after in (word.partition("_"), word.partition("-")):
        if sign and split_code(before):
            return after
        if sign and split_code(after):  # `seg_train` holds the images of a training set, as Kaggle names them
            return word if before in ("seg", "segs") else before
    return word


def refuse_mask_folders(catalog: Catalog) -> None:
    """Raises CatalogError where a folder holds `images` and `masks` side by side, as classes: masks are no images.

    Only where nothing else is there, so that a class of masks among others stays one (a warning names it), and only for
    catalogs of kind `folder`.
    """
    if catalog.kind != "folder":
        return
    masks = [name for name in catalog.classes if is_mask_folder(name)]
    images = [name for name in catalog.classes if is_image_folder(name)]
    if not masks or not images or len(masks) + len(images) < len(catalog.classes):
        return
    base = to_text(str(catalog.root))
    if is_split(catalog):
        raise CatalogError(
            f"Splits of {base} hold {images[0]}/ and {masks[0]}/: what is in {masks[0]}/ would be taken as images; "
            f"leave it out by --exclude '*/{masks[0]}'"
        )
    lists = lists_beside(catalog.root)
    if "list.csv" in lists:
        remedy = f"give --catalog synthetic (scenes of `locloc data synth`) or name the list {base}/list.csv"
    elif lists:
        remedy = f"name the list {base}/{lists[0]} or the folder {base}/{images[0]}"
    else:
        remedy = f"name the folder {base}/{images[0]}"
    raise CatalogError(
        f"{base} holds {images[0]}/ and {masks[0]}/: what is in {masks[0]}/ would be taken as images; {remedy}, "
        f"or leave it out by --exclude {masks[0]}"
    )


def is_split(catalog: Catalog) -> bool:
    """True where images of a folder lie in splits, and so classes one level lower."""
    return bool(pc.any(pc.greater(catalog.table["split"], 0)).as_py())


def lists_beside(root: Path | str) -> list[str]:
    """Names of the list files directly in a local folder, `list.csv` first."""
    if isinstance(root, str):
        return []
    try:
        names = [to_text(name) for name in os.listdir(root) if name.lower().endswith(_LISTS) and name[0] != "."]
    except OSError:
        return []
    return sorted(names, key=lambda name: (name != "list.csv", name))
