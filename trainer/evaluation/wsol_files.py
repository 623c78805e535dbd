"""Metadata and score maps in the layout of wsolevaluation (Choe et al. 2020), read and written.

METADATA[/SPLIT]/
  image_ids.txt      a line an image: its path, which is its id
  image_sizes.txt    id,width,height
  class_labels.txt   id,label
  localization.txt   id,x0,y0,x1,y1 in whole pixels, a line a box; or id,mask,ignore: paths of images, a line a mask
MAPS/ID.npy          (224, 224) float64 in 0..1 of the whole image; ID with or without the image's own suffix

In masks every pixel that is not black counts, as in wsolevaluation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from ...pipeline.errors import TrainError, os_error_reason

MAP_PX = 224

NAME_BYTES = 255

FILES = ("image_ids.txt", "image_sizes.txt", "class_labels.txt", "localization.txt")


@dataclass(frozen=True)
class Metadata:
    """N images of one split."""

    folder: Path
    ids: list[str]
    sizes: np.ndarray  # (N, 2) int64
    labels: np.ndarray  # (N,) int64, -1: none
    boxes: dict[int, np.ndarray]  # (n, 4) float64, by row
    masks: dict[int, tuple[list[str], str]]  # paths of object masks, path of the ignored area or "", by row


def read_metadata(folder: Path, split: str) -> Metadata:
    """Reads FOLDER/SPLIT, or FOLDER itself if it holds the files. Raises TrainError that names the faulty line."""
    at = folder / split if (folder / split / FILES[0]).is_file() else folder
    if not (at / FILES[0]).is_file():
        raise TrainError(f"--metadata {folder} has neither {FILES[0]} nor {split}/{FILES[0]}")
    ids = [line for _, line in _lines(at / FILES[0])]
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    if len(row_of) < len(ids):
        twice = next(image_id for row, image_id in enumerate(ids) if row_of[image_id] != row)
        raise TrainError(f"{at / FILES[0]}: {twice} is there twice")
    if not ids:
        raise TrainError(f"{at / FILES[0]} names no images")
    sizes, labels = np.zeros((len(ids), 2), np.int64), np.full(len(ids), -1)
    for row, where, (width, height) in _rows(at / FILES[1], row_of, 2):
        sizes[row] = _numbers(where, (width, height))
        if (sizes[row] < 1).any():
            raise TrainError(f"{where}: {width} x {height} is no size of an image")
    if not sizes.all():
        raise TrainError(f"{at / FILES[1]} lacks {ids[int(np.argmin(sizes.all(1)))]}")
    if (at / FILES[2]).is_file():
        for row, where, (label,) in _rows(at / FILES[2], row_of, 1):
            labels[row] = _numbers(where, (label,))[0]
    boxes: dict[int, list[list[int]]] = {}
    masks: dict[int, tuple[list[str], str]] = {}
    for row, where, parts in _rows(at / FILES[3], row_of, 4, 2):
        if len(parts) == 4:
            box = _numbers(where, parts)
            if box[2] < box[0] or box[3] < box[1] or min(box) < 0:
                raise TrainError(
                    f"{where}: {','.join(parts)} is no box; x0,y0,x1,y1 with x1 >= x0 >= 0 and y1 >= y0 >= 0"
                )
            boxes.setdefault(row, []).append(box)
        else:
            paths, ignored = masks.get(row, ([], ""))
            masks[row] = ([*paths, parts[0]], ignored or parts[1])
    return Metadata(at, ids, sizes, labels, {row: np.array(of, np.float64) for row, of in boxes.items()}, masks)


def read_true_mask(metadata: Metadata, row: int, root: Path | None) -> np.ndarray | None:
    """`(224, 224) uint8`: 0 background, 1 object, 255 ignored; None for an image without masks.

    root  folder that the paths are relative to; None: the metadata's folder, or else the one above it
    """
    if row not in metadata.masks:
        return None
    paths, ignored = metadata.masks[row]
    objects = np.any([_read_mask(metadata, path, root) for path in paths], 0)
    out = objects.astype(np.uint8)
    if ignored:
        out[_read_mask(metadata, ignored, root) & ~objects] = 255
    return out


def read_score_map(folder: Path, image_id: str) -> np.ndarray:
    """Reads an unchanged map `(224, 224) float64`. Raises TrainError for a missing file or one without a map."""
    file = folder / f"{image_id}.npy"
    if not file.is_file():
        file = (folder / image_id).with_suffix(".npy")
    if not file.is_file():
        raise TrainError(f"No score map of {image_id}: neither {folder / image_id}.npy nor {file} is there")
    try:
        score_map = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainError(f"{file} is no array of NumPy's: {error}") from None
    if not isinstance(score_map, np.ndarray) or score_map.shape != (MAP_PX, MAP_PX):
        shape = getattr(score_map, "shape", "an archive")
        raise TrainError(
            f"{file} holds {shape}, not ({MAP_PX}, {MAP_PX}): resize the map bicubically before it is saved"
        )
    if score_map.dtype.kind not in "fiub":
        raise TrainError(f"{file} holds {score_map.dtype}, not numbers")
    score_map = score_map.astype(np.float64)
    if not np.isfinite(score_map).all():
        y, x = np.argwhere(~np.isfinite(score_map))[0]
        raise TrainError(f"{file} is not finite: {score_map[y, x]} at row {y}, column {x}")
    return score_map


def write_metadata(folder: Path, images: Iterable[tuple[str, tuple[int, int], int, np.ndarray]]) -> int:
    """Writes id, (width, height), label and ground-truth boxes `(n, 4)` of each image; returns how many were written.

    Images without a box are left out, since wsolevaluation expects one of every image. Boxes are rounded to whole
    pixels.
    """
    lines: dict[str, list[str]] = {name: [] for name in FILES}
    for image_id, (width, height), label, boxes in images:
        if not len(boxes):
            continue
        check_score_map_ids([image_id], folder)
        lines[FILES[0]].append(image_id)
        lines[FILES[1]].append(f"{image_id},{width},{height}")
        lines[FILES[2]].append(f"{image_id},{label}")
        for box in np.rint(boxes).astype(int).tolist():
            lines[FILES[3]].append(",".join(map(str, [image_id, *box])))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in lines.items():
            (folder / name).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    except OSError as error:
        raise TrainError(f"{folder} cannot be written: {os_error_reason(error)}") from None
    return len(lines[FILES[0]])


def write_score_map(folder: Path, image_id: str, score_map: np.ndarray) -> None:
    """Writes a map `(224, 224)` in 0..1 to FOLDER/ID.npy."""
    check_score_map_ids([image_id], folder)
    file = folder / f"{image_id}.npy"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, score_map.astype(np.float64))
    except OSError as error:
        raise TrainError(f"{file} cannot be written: {os_error_reason(error)}") from None


def check_score_map_ids(ids: Iterable[str], folder: Path) -> None:
    """Raises TrainError for the first id that cannot be a file below `folder`, or stand in the metadata."""
    for image_id in ids:
        if set(",\r\n") & set(image_id):
            raise TrainError(f"{image_id!r} cannot stand in these files: it has a comma or a line break")
        path = PurePosixPath(f"{image_id}.npy")
        if path.is_absolute() or ".." in path.parts:
            raise TrainError(f"{image_id} leads out of {folder}; give the images ids without '..'")
        longest = max(len(part.encode()) for part in path.parts)
        if longest > NAME_BYTES:
            raise TrainError(
                f"{image_id}: a file's name has at most {NAME_BYTES} bytes, and with .npy this one has {longest}; "
                "give the image a shorter id"
            )


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    # Not splitlines: U+2028 and the like are letters of a name.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line]


def _rows(file: Path, row_of: dict[str, int], *counts: int) -> Iterator[tuple[int, str, list[str]]]:
    """Yields row, FILE:LINE and fields of each line `id,field,...` whose id is in image_ids.txt.

    counts  allowed numbers of fields
    """
    for number, line in _lines(file):
        where = f"{file}:{number}"
        image_id, *parts = line.split(",")
        if len(parts) not in counts:
            raise TrainError(
                f"{where}: {line!r} has {len(parts)} fields after the id, not {' or '.join(map(str, counts))}"
            )
        if image_id in row_of:
            yield row_of[image_id], where, parts


def _numbers(where: str, parts: Iterable[str]) -> list[int]:
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise TrainError(f"{where}: {','.join(parts)!r} are not whole numbers") from None


def _read_mask(metadata: Metadata, path: str, root: Path | None) -> np.ndarray:
    """A mask `(224, 224) bool`, resized by the nearest pixel."""
    roots = [root] if root is not None else [metadata.folder, metadata.folder.parent]
    for folder in roots:
        grey = cv2.imread(str(folder / path), cv2.IMREAD_GRAYSCALE) if (folder / path).is_file() else None
        if grey is not None:
            return cv2.resize(grey, (MAP_PX, MAP_PX), interpolation=cv2.INTER_NEAREST) > 0
    raise TrainError(f"Mask {path} cannot be read below {roots[0]}; name the folder of masks with --truth")
