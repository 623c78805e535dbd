"""Scenes on disk: images, masks and a list with boxes and splits."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import CatalogError, os_error_reason
from ..io.atomic import write_atomic
from ..io.output_folder import Results, create_output_folder
from .scene import make_scene

COLUMNS = ("path", "id", "label", "split", "boxes")
HEADER = ",".join(COLUMNS) + "\n"
SCENES = Results(r"list\.csv|images(/\d{6,}\.jpg)?|masks(/\d{6,}\.png)?", "list.csv", HEADER)


def split_of(index: int) -> str:
    """Split by index, 6 train, 2 val and 2 test of ten, so that a larger set of a seed extends a smaller one."""
    return ("train", "val", "train", "test", "train", "train", "val", "train", "test", "train")[index % 10]


def write_dataset(out: str | Path, images: int, classes: int, seed: int, overwrite: bool = False) -> None:
    """Write `images` scenes: images/*.jpg, masks/*.png (0 or 255) and list.csv (path,id,label,split,boxes as JSON).

    `out` is new or empty; with `overwrite` it may hold scenes, which are removed. Raises CatalogError otherwise.
    """
    out = Path(out)
    create_output_folder(out, "OUT", CatalogError, SCENES, overwrite)
    try:
        _write_scenes(out, images, classes, seed)
    except OSError as error:
        raise CatalogError(f"{out} cannot be written: {os_error_reason(error)}; name another OUT") from None


def _write_scenes(out: Path, images: int, classes: int, seed: int) -> None:
    write_atomic(out / "list.csv", HEADER)  # first: by it --overwrite knows what a kill or a full disk left
    for name in ("images", "masks"):
        (out / name).mkdir()
    with open(out / "list.csv", "a", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        for index in range(images):
            scene, name = make_scene(seed, index, classes), f"{index:06d}"
            bgr = scene.rgb[..., ::-1]
            _write(out / "images" / f"{name}.jpg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92]))
            _write(out / "masks" / f"{name}.png", cv2.imencode(".png", scene.mask.astype(np.uint8) * 255))
            rows.writerow([f"images/{name}.jpg", name, scene.label, split_of(index), json.dumps([list(scene.box)])])


def _write(path: Path, coded: tuple[bool, NDArray[np.uint8]]) -> None:
    path.write_bytes(coded[1].tobytes())
