"""One scene from (seed, index): layers from back to front, then the effects of a camera.

h, w height and width in pixels. Layers: backdrop, distractors, cast shadow, object, occluder; then light, lens, sensor
noise and JPEG.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .backdrops import indoors, outdoors, scatter, solid, surface
from .families import FAMILIES
from .materials import PATTERNS, TILE_PX, Look, as_rgb, blend, class_look, fractal, natural_hsv, rgb_of
from .polygons import Float, Part, box_of, fill, limb

MIN_AREA, MAX_AREA = 0.05, 0.60  # visible share of the image that the object may take
MIN_CONTRAST = 48.0  # smallest RGB distance between the mean colours of object and backdrop


@dataclass(frozen=True)
class Scene:
    """One image with its truth: rgb (H, W, 3) uint8, mask (H, W) bool, box x0 y0 x1 y1 (exclusive ends), label."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    label: int


def place(parts: list[Part], rng: Generator, h: int, w: int) -> tuple[list[Part], NDArray[np.float64]]:
    """Place a shape in the image: its parts in pixels, and the (2, 3) affine from pixels back to object units."""
    upright = rng.random() < 0.7
    turn = rng.normal(0, 0.18) if upright else rng.uniform(0, 2 * np.pi)
    flip = rng.choice([-1.0, 1.0])
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([flip, 1.0])
    matrix = matrix @ np.array([[rng.uniform(0.85, 1.18), rng.normal(0, 0.07)], [0, 1]])
    outline = np.concatenate([polygon for polygon, _ in parts]) @ matrix.T
    low, span = outline.min(0), np.ptp(outline, axis=0)
    probe = np.zeros((96, 96), np.uint8)
    for polygon, _ in parts:
        fill(probe, (polygon @ matrix.T - low) / span.max() * 95, 255)
    unit_area = (probe > 127).mean() * span.max() ** 2  # in squared object units
    share = np.exp(rng.uniform(np.log(0.075), np.log(0.5)))
    cut = rng.random() < 0.2  # some objects are cut by the frame
    scale = min((share * h * w / unit_area) ** 0.5, *((1.12 if cut else 0.97) * np.array([w, h]) / span))
    room = np.array([w, h]) - scale * span
    slack = (0.12 if cut else 0.0) * scale * span
    a, b = np.minimum(0, room) - slack, np.maximum(0, room) + slack
    shift = rng.uniform(a, b) - scale * low
    inverse = np.linalg.inv(scale * matrix)
    return [(polygon @ (scale * matrix).T + shift, n) for polygon, n in parts], np.column_stack(
        [inverse, -inverse @ shift]
    )


def paint(parts: list[Part], look: Look, to_unit: NDArray, rng: Generator, h: int, w: int) -> tuple[Float, Float]:
    """Colour (h, w, 3) and opacity (h, w) in [0, 1] of the object, with its material and a light from one side."""
    first, second = (
        rgb_of(
            hue + rng.normal(0, 0.02),
            np.clip(sat * rng.uniform(0.75, 1.2), 0, 1),
            np.clip(val * rng.uniform(0.8, 1.2), 0.06, 1),
        )
        for hue, sat, val in look.colours
    )
    number = np.zeros((h, w), np.uint8)  # which part is on top
    opacity = np.zeros((h, w), np.uint8)
    for polygon, n in parts:
        fill(opacity, polygon, 255)
        cv2.fillPoly(number, [np.rint(polygon * 16).astype(np.int32)], int(n) + 1, cv2.LINE_8, 4)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    (a, b, c), (d, e, f) = to_unit.astype(np.float32) * TILE_PX / 2.4
    u, v = a * x + b * y + c + TILE_PX / 2, d * x + e * y + f + TILE_PX / 2
    t = cv2.remap(
        PATTERNS[look.pattern](rng, look.pattern_scale), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    t = np.clip(t, 0, 1)
    t[number == 2] = 1 - 0.6 * t[number == 2]
    colour = blend(first, second, t)
    colour[number == 3] *= 0.35
    # rounded form: blurred opacity rises from the edge inwards; its slope approximates the surface normal
    size = max(3.0, float(np.sqrt(opacity.mean() / 255 * h * w)) * 0.09)
    small = cv2.resize(opacity, (w // 2, h // 2), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    form = cv2.GaussianBlur(small, (0, 0), size / 2)
    light = rng.uniform(0, 2 * np.pi) if rng.random() < 0.3 else rng.normal(-np.pi / 2, 0.6)
    slope = float(np.cos(light)) * cv2.Sobel(form, -1, 1, 0) + float(np.sin(light)) * cv2.Sobel(form, -1, 0, 1)
    shade = 1 - rng.uniform(0.25, 0.6) * slope * size / 2 + rng.uniform(0.1, 0.4) * (form - 0.8)
    shade = cv2.resize(shade, (w, h)) * (1 + rng.uniform(0.01, 0.07) * fractal(rng, h, w, (24, 24), 3, 0.7))
    return colour * as_rgb(shade), opacity.astype(np.float32) / 255


def cast_shadow(opacity: Float, rng: Generator) -> Float:
    """Darkening factor (h, w) in (0, 1] of the shadow of an opacity map, on the ground or on a wall behind."""
    h, w = opacity.shape
    rows = np.flatnonzero(opacity.max(1) > 0.5)
    foot = rows[-1]
    if rng.random() < 0.6:  # on the ground: folded down and sheared about the feet
        squash, shear = -rng.uniform(0.08, 0.4), rng.normal(0, 0.7)
        matrix = np.array([[1, -shear, shear * foot], [0, squash, foot * (1 - squash) - 2]])
    else:
        matrix = np.array([[1, 0, rng.normal(0, 0.05) * w], [0, 1, rng.uniform(0.01, 0.08) * h]])
    shadow = cv2.warpAffine(opacity, matrix, (w, h))
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.006, 0.025) * w)
    return 1 - rng.uniform(0.2, 0.6) * shadow


def occluder(rng: Generator, h: int, w: int, box: tuple[int, int, int, int]) -> Float:
    """Opacity (h, w) in [0, 1] of an occluder: grass from below, a solid at the object's rim, or a branch."""
    canvas = np.zeros((h, w), np.uint8)
    x0, y0, x1, y1 = box
    kind = rng.random()
    if kind < 0.45:  # blades of grass over the feet
        top = y1 - rng.uniform(0.05, 0.25) * (y1 - y0)
        for x in rng.uniform(0, w, int(rng.integers(15, 60))):
            thick = w * rng.uniform(0.003, 0.012)
            fill(canvas, limb(x, h + 5, x + rng.normal(0, 8), top + rng.exponential(0.1) * h, thick, 0.3), 255)
    elif kind < 0.8:  # a solid at a corner or a side
        side = rng.uniform(0.1, 0.22) * (x1 - x0 + y1 - y0)
        centre = np.array([rng.choice([x0, x1, (x0 + x1) / 2]), rng.choice([y0, y1])])
        turn = rng.uniform(0, 6.3)
        c, s = np.cos(turn), np.sin(turn)
        for polygon, _ in solid(rng, int(rng.choice([0, 3, 4, 5, 6]))):
            fill(canvas, polygon @ np.array([[c, s], [-s, c]]) * side + centre, 255)
    else:  # a thin branch right across
        thick = w * rng.uniform(0.006, 0.02)
        fill(canvas, limb(-5, rng.uniform(y0, y1), w + 5, rng.uniform(y0, y1), thick, thick * 0.4), 255)
    return canvas.astype(np.float32) / 255


def _ramp(n: int) -> Float:
    return np.linspace(-1, 1, n, dtype=np.float32)


def photograph(image: Float, rng: Generator) -> NDArray[np.uint8]:
    """Light, lens, sensor and JPEG: (h, w, 3) float32 in [0, 255] to uint8."""
    h, w = image.shape[:2]
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.45)
    ramp = _ramp(w) * float(np.cos(turn)) + _ramp(h)[:, None] * float(np.sin(turn))
    light = 1 + strength * ramp * 0.6
    if rng.random() < 0.3:  # patchy light, as under trees
        light *= 1 + rng.uniform(0.05, 0.2) * fractal(rng, h, w, (3, 3), 2)
    tint = (1 + rng.normal(0, 0.05, 3)) * rng.uniform(0.85, 1.2)
    image = image * cv2.merge([light * float(gain) for gain in tint])
    haze = rng.uniform(0, 0.2) if rng.random() < 0.3 else 0.0
    image = image * (1 - haze) + 190 * haze
    blur = abs(rng.normal(0, 0.5)) * w / 256
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    noise = rng.standard_normal((h, w), dtype=np.float32) * rng.uniform(0.5, 7)
    photo = cv2.convertScaleAbs((image + as_rgb(noise)).clip(0, 255))
    quality = int(rng.integers(45, 96))
    _, coded = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    bgr = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1])


def make_scene(seed: int, index: int, classes: int, size_px: tuple[int, int] = (200, 400)) -> Scene:
    """One scene; sides are drawn between the two sizes of `size_px`, equal ones give a square image.

    The scene depends on (seed, index, classes, size_px) and on nothing else: any order, any number of processes.
    """
    rng = np.random.default_rng([seed, index])
    label = int(rng.integers(classes))
    h, w = (int(side) for side in rng.integers(size_px[0], size_px[1], 2, endpoint=True))
    look = class_look(label)
    while True:  # ends after few rounds: only shapes that the frame cuts too small are drawn again
        parts, to_unit = place(FAMILIES[look.family](look.proportions, rng), rng, h, w)
        colour, opacity = paint(parts, look, to_unit, rng, h, w)
        solid_px = opacity > 0.5
        if MIN_AREA * 1.1 < solid_px.mean() < MAX_AREA:
            break
    box = box_of(solid_px)
    kind = rng.random()
    image = (outdoors if kind < 0.5 else indoors if kind < 0.72 else surface)(rng, h, w)
    image = np.clip(image, 0, 255)
    gap = np.subtract(cv2.mean(image)[:3], cv2.mean(colour, solid_px.astype(np.uint8))[:3])
    distance = float(np.sqrt((gap**2).sum())) + 1e-3
    if distance < MIN_CONTRAST:
        image += (gap / distance * (MIN_CONTRAST - distance)).astype(np.float32)
    if rng.random() < 0.45:  # out of focus behind the object
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 3.5) * w / 256)
    things = image.clip(0, 255).astype(np.uint8)
    reach = (0.5 * solid_px.mean() / np.pi * h * w) ** 0.5  # a disc of half the object's area
    scatter(rng, things, int(rng.integers(1, 6)), (0.25 * reach, 0.85 * reach))
    image = things * as_rgb(cast_shadow(opacity, rng) * (1 + 0.04 * fractal(rng, h, w, (20, 20), 3, 0.7)))
    image += as_rgb(opacity) * (colour - image)
    if rng.random() < 0.35:
        cover = occluder(rng, h, w, box)
        left = solid_px & (cover < 0.5)
        if left.mean() > MIN_AREA and left.sum() > 0.7 * solid_px.sum():
            tone = rgb_of(*natural_hsv(rng))
            veil = blend(tone, tone * 1.25, fractal(rng, h, w, (12, 12), 3, 0.7))
            image += as_rgb(cover) * (veil - image)
            solid_px = left
    return Scene(photograph(image, rng), solid_px, box_of(solid_px), label)
