"""Problems for refinement engines: an image and a trimap, from saliency simulated from a true mask or from attention.

Both simulations have the resolution of a 14 x 14 attention map, resized to the mask. With thresholds 0.1, 0.35 and
0.6, on photographs of horses at 224 px, about a third of the pixels is unknown; the map thresholded at 0.35 has a mean
IoU with the truth of .77 (smooth) and .44 (rough).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry.normalize import min_max_or_zeros
from ..masks.saliency import SaliencySettings, make_trimap, saliency_map
from .images import INPUT_PX, BenchImage

GRID = 14
THRESHOLDS = SaliencySettings(background_below=0.1, threshold=0.35, foreground_from=0.6)


def smooth_saliency(truth: np.ndarray, seed: int) -> np.ndarray:
    """Simulation A: truth `(S, S) bool` > saliency `(S, S) float32` in [0, 1]: the whole object, unevenly."""
    rng = np.random.default_rng(seed)
    coarse = _coarse(truth.astype(np.float32))
    return _resized(coarse * rng.uniform(0.3, 1.0, coarse.shape), rng, truth.shape)


def rough_saliency(truth: np.ndarray, seed: int) -> np.ndarray:
    """Simulation B: truth `(S, S) bool` > saliency `(S, S) float32` in [0, 1].

    Two or three blobs over parts of the object, cut at its outline; with each, with a probability of 30 %, a spurious
    blob centred in the background.
    """
    rng, (height, width) = np.random.default_rng(seed), truth.shape
    y, x = np.mgrid[:height, :width]
    object_side = np.sqrt(truth.sum())

    def blob(inside: np.ndarray, strength: float) -> np.ndarray:
        middle_y, middle_x = inside[rng.integers(len(inside))]
        radius = object_side * rng.uniform(0.22, 0.37)
        return strength * np.exp(-((y - middle_y) ** 2 + (x - middle_x) ** 2) / (2 * radius**2), dtype=np.float32)

    salient, spurious = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.float32)
    for _ in range(rng.integers(2, 4)):
        salient = np.maximum(salient, blob(np.argwhere(truth), rng.uniform(0.7, 1)))
        if rng.random() < 0.3:
            spurious = np.maximum(spurious, blob(np.argwhere(~truth), rng.uniform(0.4, 0.9)))
    return _resized(_coarse(np.maximum(salient * truth, spurious)), rng, truth.shape)


def _coarse(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (GRID, GRID), interpolation=cv2.INTER_AREA)


def _resized(coarse: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Adds noise, normalises, and resizes to `(H, W)`."""
    coarse = coarse + 0.05 * rng.random(coarse.shape)
    coarse = min_max_or_zeros(coarse).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)


SIMULATIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"A": smooth_saliency, "B": rough_saliency}


ATTENTION = "pocket"
"""Backbone and recipe for images without truth."""


@dataclass(frozen=True)
class Problem:
    """The input of an engine, and the truth its mask is compared with."""

    rgb: np.ndarray  # (S, S, 3) uint8
    trimap: np.ndarray  # (S, S) uint8, OpenCV's codes
    truth: np.ndarray | None  # (S, S) bool
    seed: int
    void: np.ndarray | None = None  # (S, S) bool, left out of the comparison with the truth

    def without_void(self, mask: np.ndarray) -> np.ndarray:
        return mask if self.void is None else mask & ~self.void


def simulated_problems(images: list[BenchImage], simulation: str) -> tuple[list[Problem], float]:
    """A problem per image, all of which have a truth, and the mean seconds of a trimap."""
    problems, spent_s = [], 0.0
    for seed, image in enumerate(images):
        assert image.truth is not None
        saliency = SIMULATIONS[simulation](image.truth, seed)
        began = time.process_time()
        trimap = make_trimap(saliency, THRESHOLDS)
        spent_s += time.process_time() - began
        problems.append(Problem(image.rgb, trimap, image.truth, seed, image.void))
    return problems, spent_s / len(problems)


def attended_problems(images: list[BenchImage]) -> tuple[list[Problem], float, float]:
    """A problem per image whose attention is not flat; mean seconds of the ViT and of a trimap.

    Uses the bundled backbone and its recipe, one image at a time.
    """
    from ..backbones.spec import BackboneSpec
    from ..backbones.vit import load_backbone  # imports torch and timm, which simulations do not need
    from ..recipe import load_recipe

    settings, backbone = load_recipe(ATTENTION).saliency, load_backbone(BackboneSpec(ATTENTION, INPUT_PX))
    backbone.cls_attention(images[0].inputs[None])  # warm-up
    problems, vit_s, trimap_s = [], 0.0, 0.0
    for seed, image in enumerate(images):
        began = time.process_time()
        attention = backbone.cls_attention(image.inputs[None])[0].half().numpy()
        vit_done = time.process_time()
        saliency = saliency_map(attention, settings, image.rgb.shape[0])
        trimap = None if saliency is None else make_trimap(saliency, settings)
        vit_s, trimap_s = vit_s + vit_done - began, trimap_s + time.process_time() - vit_done
        if trimap is not None:
            problems.append(Problem(image.rgb, trimap, image.truth, seed, image.void))
    return problems, vit_s / len(images), trimap_s / len(images)
