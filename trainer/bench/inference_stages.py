"""Inference from JPEG files to a class and a box, in the same stages for every system.

    decode, transforms          on the CPU, one image after the other
    copy to device              uint8, one copy per view; converted to floats on the device
    backbone, generator, classifier
    copy back, box              maps to the CPU; min-max, threshold, box of the largest contour

Each image is decoded once, although the published code of PPD reads it twice.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ...pipeline.errors import BenchError, ImageError
from ...pipeline.geometry.boxes import largest_box
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.io.images import decode_image, read_image_bytes
from ...pipeline.synthetic import make_scene
from .systems import SIZE_PX, Form, Lap, LocLoc, Ppd
from .timing import Run

STAGES = ("decode", "transforms", "copy to device", "backbone", "classifier", "generator", "copy back", "box")
MODEL_STAGES = ("backbone", "classifier", "generator")

RESIZE_PX = 256  # the short side before the central square is cut
TAU = 0.5
SCENE_PX = (300, 500)  # about the sides of CUB's photographs
KINDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

System = Ppd | LocLoc


def load_images(folder: Path | None, count: int) -> list[bytes]:
    """Loads encoded images: the first `count` of a folder by name, repeated if it has fewer; or synthetic scenes.

    Raises BenchError for a folder without an image that can be decoded.
    """
    if folder is None:
        return [_scene(index) for index in range(count)]
    if not folder.is_dir():
        raise BenchError(f"--images {folder} is no folder")
    images: list[bytes] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS):
        try:
            data = read_image_bytes(path)
            decode_image(data)
        except ImageError:
            continue
        images.append(data)
        if len(images) == count:
            break
    if not images:
        raise BenchError(f"--images {folder} holds no image ({', '.join(KINDS)}) that can be decoded")
    return [images[index % len(images)] for index in range(count)]


def _scene(index: int) -> bytes:
    scene = make_scene(3, index, 10, SCENE_PX)
    coded, data = cv2.imencode(".jpg", scene.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert coded
    return data.tobytes()


def random_views(form: Form, batch: int, device: torch.device) -> tuple[Tensor, ...]:
    """Views of noise: the model's stages take the same time for any content."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((batch, side, side, 3) for side in form.views_px)
    return tuple(torch.randint(0, 256, size, generator=generator, dtype=torch.uint8).to(device) for size in sizes)


def model_run(system: System, views: tuple[Tensor, ...]) -> Run:
    """The model's stages alone, on views on the device."""

    @torch.inference_mode()
    def run(lap: Lap) -> tuple[Tensor, Tensor]:
        return system.infer(views, lap)

    return run


def whole_run(system: System, images: list[bytes], device: torch.device) -> Run:
    """All stages, from encoded images on. Returns labels `(B,)` and boxes `(B, 4)` in the map's square."""
    form = system.form

    @torch.inference_mode()
    def run(lap: Lap) -> tuple[np.ndarray, np.ndarray]:
        decoded = [decode_image(data) for data in images]
        lap("decode")
        views = [np.stack([_view(rgb, form, number) for rgb in decoded]) for number in range(len(form.views_px))]
        lap("transforms")
        on_device = tuple(_to_device(view, device) for view in views)
        lap("copy to device")
        logits, maps = system.infer(on_device, lap)
        labels, score_maps = logits.argmax(1).cpu().numpy(), maps[:, 0].float().cpu().numpy()
        lap("copy back")
        boxes = np.stack([_box(score_map, form.map_px) for score_map in score_maps])
        lap("box")
        return labels, boxes

    return run


def _view(rgb: np.ndarray, form: Form, number: int) -> np.ndarray:
    """View 0 is the central square; view 1, PPD's for localisation, is the whole image, stretched."""
    size = rgb.shape[1::-1]
    geometry = ResizeCrop.stretch(size, form.map_px) if number else ResizeCrop.centre_crop(size, SIZE_PX, RESIZE_PX)
    return geometry.image(rgb)


def _to_device(view: np.ndarray, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(view)
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels


def _box(score_map: np.ndarray, side_px: int) -> np.ndarray:
    score_map = cv2.resize(score_map, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    return largest_box(min_max_or_zeros(score_map) > TAU)
