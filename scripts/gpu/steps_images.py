"""Step `g`: JPEGs decoded on the GPU by torchvision's nvJPEG: speed, pixels beside Pillow's, masks, unusual files."""

import io
import statistics

import numpy as np
import torch
from measure import DEVICE, ON_GPU, median_seconds
from PIL import Image
from results import emit, part
from scenes import add_noise, make
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg

from locloc.pipeline.bench.problems import THRESHOLDS, smooth_saliency
from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.pipeline.io.images import decode_image
from locloc.pipeline.masks.grabcut import FastGrabCut
from locloc.pipeline.masks.saliency import make_trimap
from locloc.pipeline.synthetic import Scene

SCENES = 48 if ON_GPU else 3


def nvjpeg() -> None:
    """All parts. Without CUDA torchvision decodes on the CPU."""
    scenes, rng = [make(index) for index in range(SCENES)], np.random.default_rng(0)
    images = [add_noise(scene.rgb, rng) for scene in scenes]
    files = [_encode(rgb, quality=92, subsampling="4:2:0") for rgb in images]
    with part("pixels"):
        for subsampling in ("4:2:0", "4:4:4"):
            _compare_pixels(images[:24], subsampling)
    with part("masks"):
        _compare_masks(scenes[:24], files[:24])
    megapixels = statistics.fmean(rgb.shape[0] * rgb.shape[1] for rgb in images) / 1e6
    kb = statistics.fmean(map(len, files)) / 1e3
    data = _bytes_tensors((files * 12)[: 512 if ON_GPU else 3])
    for batch in (1, 16, 64, 128, 256, 512) if ON_GPU else (1, 3):
        with part(f"decode {batch}"):
            emit("nvjpeg", batch=batch, images_s=_decode_rate(data, batch), mpixels=megapixels, mean_kb=kb)
    with part("resize"):
        for side_px in (224, 256):
            _resize(_decode(files[:32]), side_px)
    for name, file in _unusual(images[0], files[0]).items():
        _decode_unusual(name, file)


def _encode(rgb: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", **options)
    return file.getvalue()


def _bytes_tensors(files: list[bytes]) -> list[torch.Tensor]:
    return [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]


def _decode(files: list[bytes]) -> list[torch.Tensor]:
    """Rgb `(3, H, W) uint8` of each file, on the device."""
    return decode_jpeg(_bytes_tensors(files), mode=ImageReadMode.RGB, device=DEVICE)


def _decode_to_numpy(files: list[bytes]) -> list[np.ndarray]:
    return [pixels.permute(1, 2, 0).cpu().numpy() for pixels in _decode(files)]


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(float) - b)


def _square(rgb: np.ndarray, side_px: int) -> np.ndarray:
    return ResizeCrop.stretch(rgb.shape[1::-1], side_px).image(rgb)


def _compare_pixels(images: list[np.ndarray], subsampling: str) -> None:
    files = [_encode(rgb, quality=92, subsampling=subsampling) for rgb in images]
    pairs = list(zip(map(decode_image, files), _decode_to_numpy(files), strict=True))
    full = [_difference(a, b) for a, b in pairs]
    squares = [_difference(_square(a, 256), _square(b, 256)) for a, b in pairs]
    emit(
        "pixels beside Pillow's", subsampling=subsampling,
        mean=float(np.mean([difference.mean() for difference in full])),
        worst=int(max(difference.max() for difference in full)),
        at_256_mean=float(np.mean([difference.mean() for difference in squares])),
        at_256_worst=int(max(difference.max() for difference in squares)),
    )  # fmt: skip


def _compare_masks(scenes: list[Scene], files: list[bytes]) -> None:
    """IoU between masks from the pixels of the two decoders, with the same trimap."""
    ious, refine = [], FastGrabCut()
    for seed, (scene, file, pixels) in enumerate(zip(scenes, files, _decode_to_numpy(files), strict=True)):
        truth = _square(scene.mask.astype(np.uint8) * 255, 256) > 127
        trimap = make_trimap(smooth_saliency(truth, seed), THRESHOLDS)
        squares = (_square(decode_image(file), 256), _square(pixels, 256))
        ious.append(mask_iou(*(refine(square, trimap) for square in squares)))
    emit("masks of one decoder and the other", iou_mean=float(np.mean(ious)), iou_min=float(min(ious)))


def _decode_rate(data: list[torch.Tensor], batch: int) -> float:
    """Images per second."""
    some = data if batch > 1 else data[:64]

    def decode() -> None:
        for start in range(0, len(some), batch):
            decode_jpeg(some[start : start + batch], mode=ImageReadMode.RGB, device=DEVICE)

    return len(some) / median_seconds(decode, 1.0, 1, 8)


def _resize(images: list[torch.Tensor], side_px: int) -> None:
    """Resizing on the device, one image after the other, and its difference from Pillow's."""
    size = (side_px, side_px)

    def resize() -> list[torch.Tensor]:
        return [F.interpolate(pixels[None].float(), size, mode="bicubic", antialias=True) for pixels in images]

    resized = [pixels.clamp(0, 255).round()[0].permute(1, 2, 0).cpu().numpy() for pixels in resize()]
    expected = [_square(pixels.permute(1, 2, 0).cpu().numpy(), side_px) for pixels in images]
    differences = [_difference(a, b) for a, b in zip(resized, expected, strict=True)]
    emit(
        "resize on the device, an image at a time", side=side_px, images_s=len(images) / median_seconds(resize, 0.5),
        beside_pillow_mean=float(np.mean([difference.mean() for difference in differences])),
        worst=float(max(difference.max() for difference in differences)),
    )  # fmt: skip


def _unusual(rgb: np.ndarray, file: bytes) -> dict[str, bytes]:
    cmyk = io.BytesIO()
    Image.fromarray(rgb).convert("CMYK").save(cmyk, "JPEG")
    return {
        "progressive": _encode(rgb, quality=92, progressive=True),
        "grey": _encode(rgb[..., 0], quality=92),
        "4:2:2": _encode(rgb, quality=92, subsampling="4:2:2"),
        "truncated": file[: len(file) // 2],
        "not a jpeg": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "cmyk": cmyk.getvalue(),
    }


def _decode_unusual(name: str, file: bytes) -> None:
    try:
        (pixels,) = _decode_to_numpy([file])
    except Exception as error:  # any class: the result is what the decoder says
        emit("odd file", name=name, error=str(error).splitlines()[0][:160])
        return
    try:
        expected = decode_image(file)
        same_size = pixels.shape == expected.shape
        apart = float(_difference(pixels, expected).mean()) if same_size else "other size"
    except Exception as error:
        apart = f"Pillow: {error}"
    emit("odd file", name=name, shape=list(pixels.transpose(2, 0, 1).shape), mean_apart=apart)
