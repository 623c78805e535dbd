"""True masks in a file of COCO's annotations: an image's mask is the union of its annotations that are no crowd."""

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...catalogs.unicode_names import normal_form
from ...errors import TruthError, did_you_mean
from ...io.json_objects import unique_keys

BEYOND_SHARE = 0.1  # of the image's side; hand-drawn polygons reach a little beyond


@dataclass(frozen=True)
class CocoMasks:
    """Annotations of the images of a data set."""

    file: Path
    images: dict[str, dict[str, Any]]  # COCO's image by the path of ours
    annotations: dict[Any, list[dict[str, Any]]]  # by COCO's image id, of the chosen categories
    chosen: str  # categories, in words
    unused: int  # images of the file that are none of ours

    def describe(self) -> str:
        return f"COCO annotations, the union of {self.chosen}, without crowds"

    def __call__(self, path: str) -> np.ndarray:
        """The mask `(H, W) bool` of an image at the size that the file gives; all False without an annotation."""
        entry = self.images[path]
        height, width = entry["height"], entry["width"]
        whole = np.zeros((height, width), bool)
        for annotation in self.annotations.get(entry["id"], ()):
            shape = annotation.get("segmentation")
            where = f"{self.file}: annotation {annotation.get('id')} of {entry['file_name']}"
            if not shape:
                raise TruthError(
                    f"{where} has no segmentation; leave it out, or score against boxes: a list of "
                    "images with their boxes in a column boxes_xywh, and --truth catalog"
                )
            reach = _reach(shape)
            if (reach > (1 + BEYOND_SHARE) * np.array([width, height])).any():
                raise TruthError(
                    f"{where} reaches to {reach[0]:g} x {reach[1]:g}, and the file calls the image {width} x {height}; "
                    "its polygons were drawn on another size: correct width and height, or the polygons"
                )
            try:
                part = decode_segmentation(shape, width, height)
            except Exception as error:  # pycocotools raises whatever its Cython code meets
                raise TruthError(f"{where} has a segmentation that cannot be read: {error}") from None
            if part.shape != whole.shape:
                raise TruthError(
                    f"{where} is {part.shape[1]} x {part.shape[0]}, the image {width} x {height}; correct the file"
                )
            whole |= part
        return whole


def _reach(shape: Any) -> np.ndarray:
    """The largest x and y `(2,)` of polygons; zeros of anything else, which `decode_segmentation` judges."""
    try:
        points = np.concatenate([np.asarray(part, np.float64).reshape(-1, 2) for part in shape])
        return np.asarray(points.max(0))
    except (TypeError, ValueError):
        return np.zeros(2)


def decode_segmentation(shape: Any, width: int, height: int) -> np.ndarray:
    """A segmentation, polygons or run lengths, as `(H, W) bool`. Raises any error."""
    from pycocotools import mask as rle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 with NumPy 2
        if isinstance(shape, list):
            encoded = rle.merge(rle.frPyObjects([list(map(float, part)) for part in shape], height, width))
        elif isinstance(shape["counts"], list):
            encoded = rle.frPyObjects(shape, *shape["size"])
        else:
            encoded = shape
        return np.asarray(rle.decode(encoded)).astype(bool)


def read_coco(file: Path, paths: Sequence[str], truth_class: str | None) -> CocoMasks:
    """Reads the annotations of the images `paths`.

    An image is the one whose `locloc_id` is its path, in exports of catalogs whose ids are paths; else the one whose
    `file_name` is its path, or ends in its file name, if no other of both sides has that name.

    truth_class  a category's name, or its id; None or "any": all

    Raises TruthError.
    """
    content = _load(file)
    categories = {entry["id"]: str(entry.get("name", entry["id"])) for entry in content["categories"]}
    wanted = _categories(file, categories, truth_class)
    ours = {_normal(path) for path in paths}
    by_id = {_normal(str(entry.get("locloc_id"))): entry for entry in content["images"]}
    by_id = {image_id: entry for image_id, entry in by_id.items() if image_id in ours}
    taken = {id(entry) for entry in by_id.values()}
    by_path = {_normal(entry["file_name"]): entry for entry in content["images"] if id(entry) not in taken}
    with_name = Counter(PurePosixPath(name).name for name in by_path)
    by_name = {PurePosixPath(name).name: entry for name, entry in by_path.items()}
    images_with_name = Counter(PurePosixPath(_normal(path)).name for path in paths)
    images = {}
    for path in paths:
        name = PurePosixPath(_normal(path)).name
        if (entry := by_id.get(_normal(path)) or by_path.get(_normal(path))) is not None:
            images[path] = entry
        elif with_name[name] == images_with_name[name] == 1:
            images[path] = by_name[name]
    if not images:
        first = content["images"][0]["file_name"] if content["images"] else "none"
        raise TruthError(
            f"--truth {file} has none of {len(paths)} images; its file_names are paths such as {first}, the images "
            f"such as {paths[0]}"
        )
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd") and (wanted is None or annotation.get("category_id") in wanted):
            annotations[annotation.get("image_id")].append(annotation)
    chosen = "all categories" if wanted is None else f"category {', '.join(categories[one] for one in sorted(wanted))}"
    return CocoMasks(file, images, dict(annotations), chosen, len(content["images"]) - len(images))


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
    except OSError as error:
        raise TruthError(f"--truth {file} cannot be read: {error.strerror}; name COCO's file of annotations") from None
    except (ValueError, RecursionError) as error:
        raise TruthError(f"--truth {file} is no JSON: {error}") from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise TruthError(f"--truth {file} is no file of COCO's annotations: it needs lists images and annotations")
    content.setdefault("categories", [])
    needed = {"images": ("id", "file_name", "height", "width"), "annotations": ("image_id",), "categories": ("id",)}
    for key, names in needed.items():
        for number, entry in enumerate(content[key]):
            lacking = [name for name in names if not isinstance(entry, dict) or name not in entry]
            if lacking:
                raise TruthError(f"--truth {file}: {key}[{number}] has no {lacking[0]}")
    for number, entry in enumerate(content["images"]):
        for name in ("height", "width"):
            if not isinstance(entry[name], (int, float)) or not 1 <= entry[name] == int(entry[name]):
                raise TruthError(f"--truth {file}: images[{number}] has the {name} {entry[name]!r}; it is in pixels")
            entry[name] = int(entry[name])
        if not isinstance(entry["file_name"], str):
            raise TruthError(f"--truth {file}: images[{number}] has the file_name {entry['file_name']!r}; it is text")
    return content


def _categories(file: Path, categories: dict[Any, str], truth_class: str | None) -> set[Any] | None:
    """Ids of the chosen categories; None for all."""
    if truth_class is None or truth_class == "any":
        return None
    wanted = {one for one, name in categories.items() if truth_class in (name, str(one))}
    if not wanted:
        raise TruthError(
            f"--truth {file} has no category {truth_class!r}{did_you_mean(truth_class, categories.values())}"
        )
    return wanted


def _normal(path: str) -> str:
    return normal_form(path.removeprefix("./"))
