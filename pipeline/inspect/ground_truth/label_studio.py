"""Masks in Label Studio's JSON: the union of the brushes and polygons of a task; boxes and other regions are no masks.

A task's mask is that of its newest annotation that is not cancelled; without one, of its first prediction. Its image is
its `path` if an export of locloc wrote it, else what the address in its data ends in.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ...catalogs.unicode_names import normal_form
from ...errors import TruthError
from ...geometry.brush_rle import decode_brush
from .coco import decode_segmentation
from .pixels import UnreadableMask

_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # before the name of a file that was uploaded

Task = dict[str, Any]


@dataclass(frozen=True)
class LabelStudioMasks:
    """Tasks of the images of a data set."""

    file: Path
    tasks: dict[str, Task]  # by the image's path
    predicted: int  # tasks without an annotation, whose prediction is taken
    label: str | None  # regions that count; None: all
    unused: int  # tasks of the file that are of none of our images

    def describe(self) -> str:
        of = f" of {self.label}" if self.label is not None else ""
        predicted = f"; of {self.predicted} tasks without annotation the prediction" if self.predicted else ""
        return f"Label Studio's brushes and polygons{of}, their union{predicted}"

    def __call__(self, path: str) -> np.ndarray:
        """The mask `(H, W) bool` of an image; (1, 1) and False where nothing is marked."""
        where = f"{self.file}: task of {path}"
        mask: np.ndarray | None = None
        other = 0
        for region in _regions(self.tasks[path]):
            value = region.get("value")
            if not isinstance(value, dict):
                continue
            labels = value.get("brushlabels") or value.get("polygonlabels") or []
            if "rle" not in value and "points" not in value:
                other += 1
                continue
            if self.label is not None and self.label not in labels:
                continue
            part = _draw(region, value, where)
            if mask is not None and part.shape != mask.shape:
                raise UnreadableMask(f"{where} has regions of two sizes")
            mask = part if mask is None else mask | part
        if mask is None and other:
            raise UnreadableMask(f"{where} has {other} boxes or other regions, and no brush or polygon")
        return np.zeros((1, 1), bool) if mask is None else mask


def _draw(region: dict[str, Any], value: dict[str, Any], where: str) -> np.ndarray:
    try:
        width, height = int(region["original_width"]), int(region["original_height"])
        if "rle" in value:
            return decode_brush(value["rle"], width, height)
        points = np.array(value["points"], np.float64).reshape(-1, 2) / 100 * [width, height]
        return decode_segmentation([points.ravel().tolist()], width, height)
    except Exception as error:  # pycocotools raises whatever its Cython code meets
        raise UnreadableMask(f"{where} has a region that cannot be read: {error!r}") from None


def _regions(task: Task) -> list[dict[str, Any]]:
    """Of the newest annotation, else of the first prediction."""
    chosen = _annotations(task)[-1:] or _dicts(task.get("predictions"))[:1]
    return _dicts(chosen[0].get("result")) if chosen else []


def _annotations(task: Task) -> list[dict[str, Any]]:
    made = [one for one in _dicts(task.get("annotations")) if not one.get("was_cancelled")]
    return sorted(made, key=lambda one: str(one.get("updated_at", "")))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def read_label_studio(file: Path, paths: Sequence[str], truth_class: str | None) -> LabelStudioMasks:
    """Reads the tasks of the images `paths`. truth_class: a label's name; None or "any": all. Raises TruthError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TruthError(f"{file} cannot be read: {error.strerror}; name Label Studio's JSON export") from None
    except (ValueError, RecursionError) as error:
        raise TruthError(f"{file} is no JSON: {error}") from None
    if not isinstance(content, list) or not all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content
    ):
        raise TruthError(f"{file} is no list of Label Studio's tasks with their data; export the project as JSON")
    wanted = {normal_form(path): path for path in paths}
    by_name = Counter(PurePosixPath(path).name for path in wanted)
    one_of_name = {PurePosixPath(path).name: path for path in wanted}
    tasks: dict[str, Task] = {}
    for number, task in enumerate(content):
        names = list(_names(task["data"]))
        found = next((name for name in names if name in wanted), None)
        if found is None:
            ends = (PurePosixPath(name).name for name in names)
            bare = (one for end in ends for one in (end, _UPLOADED.sub("", end, count=1)))
            found = next((one_of_name[name] for name in bare if by_name[name] == 1), None)
        if found is None:
            continue
        if wanted[found] in tasks:
            raise TruthError(f"{file} has two tasks of {wanted[found]}, the second is [{number}]; remove one")
        tasks[wanted[found]] = task
    if not tasks:
        first = next(iter(_names(content[0]["data"])), "none") if content else "none"
        raise TruthError(
            f"{file} has none of {len(paths)} images; its tasks are of images such as {first}, the images are such as "
            f"{paths[0]}"
        )
    label = None if truth_class in (None, "any") else truth_class
    predicted = sum(not _annotations(task) for task in tasks.values())
    return LabelStudioMasks(file, tasks, predicted, label, len(content) - len(tasks))


def _names(data: dict[str, Any]) -> Iterator[str]:
    """What a task's data may call its image, the surest first."""
    for key in ("path", "image", *data):
        value = data.get(key)
        if not isinstance(value, str):
            continue
        yield normal_form(value)
        address = urlsplit(value)
        for local in parse_qs(address.query).get("d", []):
            yield normal_form(local.removeprefix("images/"))
            yield normal_form(local)
        yield normal_form(unquote(address.path).lstrip("/"))
