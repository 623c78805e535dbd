"""Everything but the object: backdrops and plain solids.

The solids (crate, disc, stick, tent, leaf, stone, board, ring) belong to no class. They are clutter in the backdrop,
distractors beside the object and occluders in front of it.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .materials import as_rgb, blend, fractal, muted_hsv, natural_hsv, rgb_of
from .polygons import Float, ellipse, fill, limb, polar


def solid(rng: Generator, kind: int) -> list[tuple[NDArray, float]]:
    """A distractor of no class in unit coordinates: polygons with their brightness. 8 kinds of plain solid."""
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    if kind == 0:  # crate: three visible faces
        s, d = square * [0.8, rng.uniform(0.4, 0.8)], np.array([0.5, -0.35])
        return [
            (s, 1.0),
            (np.stack([s[0], s[1], s[1] + d, s[0] + d]), 1.25),
            (np.stack([s[1], s[1] + d, s[2] + d, s[2]]), 0.65),
        ]
    if kind == 1:  # disc with a highlight
        return [(ellipse(0, 0, 0.9, 0.9), 0.85), (ellipse(-0.2, -0.25, 0.5, 0.5), 1.15)]
    if kind == 2:  # stick
        return [(square * [1.5, rng.uniform(0.06, 0.16)], 1.0)]
    if kind == 3:  # tent
        return [(np.array([[-1, 0.7], [0, -0.8], [0.4, 0.8]]), 1.1), (np.array([[0.4, 0.8], [0, -0.8], [1, 0.5]]), 0.7)]
    if kind == 4:  # leaf
        a = np.linspace(0, np.pi, 14)
        edge = np.stack([np.cos(a), 0.4 * np.sin(a) ** 1.5], 1)
        return [(np.concatenate([edge, (edge * [1, -1])[::-1]]), 1.0), (limb(-1.2, 0, 1, 0, 0.03, 0.01), 0.7)]
    if kind == 5:  # irregular stone
        return [(polar(lambda a: 0.75 + 0.15 * np.sin(2 * a + rng.random() * 6) + 0.1 * np.sin(3 * a), 24), 1.0)]
    if kind == 6:  # board with a frame
        return [(square * [0.9, 0.6], 1.0), (square * [0.75, 0.45], rng.uniform(0.6, 1.5))]
    return [
        (np.concatenate([ellipse(0, 0, 0.9, 0.9, n=24), ellipse(0, 0, 0.5, 0.5, n=24)]), 1.0)
    ]  # ring: even-odd fill


def scatter(
    rng: Generator, canvas: NDArray[np.uint8], count: int, radius: tuple[float, float], low: float = 0.0
) -> None:
    """Draw `count` solids of radius in pixels on the canvas (H, W, 3) uint8, below height `low` (share of H)."""
    h, w = canvas.shape[:2]
    base = natural_hsv(rng)
    related = rng.random() < 0.5
    for _ in range(count):
        hue, sat, val = (base[0] + rng.normal(0, 0.04), base[1], base[2]) if related else natural_hsv(rng)
        colour = rgb_of(hue, sat, float(np.clip(val * rng.uniform(0.7, 1.3), 0.05, 1)))
        turn = rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else rng.uniform(0, 6.3)
        c, s = np.cos(turn), np.sin(turn)
        r = rng.uniform(*radius)
        centre = np.array([rng.uniform(0, w), rng.uniform(low * h, h)])
        for polygon, bright in solid(rng, int(rng.integers(8))):
            fill(canvas, polygon @ np.array([[c, s], [-s, c]]) * r + centre, np.clip(colour * bright, 0, 255))


def outdoors(rng: Generator, h: int, w: int) -> Float:
    """Sky, hills or hedges, ground, sometimes trunks and a fence: (h, w, 3) float32."""
    horizon = int(h * rng.uniform(0.12, 0.6))
    canvas = np.empty((h, w, 3), np.uint8)
    sky = [rgb_of(rng.uniform(0.5, 0.65), rng.uniform(0, 0.55), rng.uniform(0.6, 1)) for _ in range(2)]
    canvas[:] = np.linspace(0, 1, h)[:, None, None] * (sky[1] - sky[0]) + sky[0]
    for _ in range(int(rng.integers(1, 4))):  # hills, hedges, woods: each ridge nearer and darker
        ridge = horizon - h * rng.uniform(0.02, 0.35) * (1 + 0.5 * fractal(rng, 4, w, (2, rng.uniform(2, 14)), 3)[0])
        line = np.stack([np.arange(w), ridge], 1)
        fill(
            canvas,
            np.concatenate([line, [[w, h], [0, h]]]),
            rgb_of(rng.uniform(0.08, 0.45), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.6)),
        )
    ground = rgb_of(rng.uniform(0.06, 0.36), rng.uniform(0.08, 0.65), rng.uniform(0.25, 0.8))
    fill(canvas, np.array([[0, horizon], [w, horizon + rng.normal(0, 4)], [w, h], [0, h]]), ground)
    if rng.random() < 0.45:  # trunks
        wood = rgb_of(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.5), rng.uniform(0.12, 0.6))
        for x in rng.uniform(0, w, int(rng.integers(2, 10))):
            thick = w * rng.uniform(0.006, 0.03)
            foot = horizon + rng.uniform(0, 0.12) * h
            fill(canvas, limb(x, foot, x + rng.normal(0, 6), -5, thick, thick * 0.7), wood * rng.uniform(0.7, 1.3))
    if rng.random() < 0.35:  # fence
        paint = rgb_of(rng.uniform(0.03, 0.14), rng.uniform(0, 0.4), rng.uniform(0.2, 1))
        top, gap, thick = (
            horizon - h * rng.uniform(-0.05, 0.12),
            h * rng.uniform(0.04, 0.08),
            h * rng.uniform(0.004, 0.012),
        )
        for rail in range(int(rng.integers(2, 4))):
            fill(canvas, limb(-5, top + rail * gap, w + 5, top + rail * gap, thick, thick), paint)
        for x in np.arange(rng.uniform(0, 40), w, w * rng.uniform(0.1, 0.25)):
            fill(canvas, limb(x, top - gap * 0.4, x, top + 3 * gap, thick * 1.4, thick * 1.4), paint * 0.85)
    if rng.random() < 0.5:
        scatter(rng, canvas, int(rng.integers(3, 20)), (2, 0.05 * w), 0.4)
    image = canvas.astype(np.float32)
    rough = np.full((h, 1), 0.05, np.float32)
    rough[: horizon + 1] = rng.uniform(0.02, 0.16)
    rough[horizon:] = np.linspace(0.08, rng.uniform(0.12, 0.3), h - horizon, dtype=np.float32)[:, None]
    flat = rng.uniform(1, 3)  # ground texture is foreshortened
    return image * as_rgb(1 + rough * fractal(rng, h, w, (14 * flat, 14), 4, 0.7))


def indoors(rng: Generator, h: int, w: int) -> Float:
    """Wall, skirting board, floor boards, and clutter: (h, w, 3) float32."""
    edge = int(h * rng.uniform(0.45, 0.85))
    canvas = np.empty((h, w, 3), np.uint8)
    wall, floor = rgb_of(*muted_hsv(rng)), rgb_of(*muted_hsv(rng))
    canvas[:edge] = wall
    canvas[edge:] = floor
    if rng.random() < 0.5:  # wallpaper
        step, stripe = w * rng.uniform(0.04, 0.2), np.clip(wall * rng.uniform(0.7, 1.25), 0, 255)
        for x in np.arange(0, w, step):
            fill(canvas, np.array([[x, 0], [x + step * 0.5, 0], [x + step * 0.5, edge], [x, edge]]), stripe)
    for x in np.arange(-2 * w, 3 * w, w * rng.uniform(0.12, 0.4)):  # joints of boards run to a vanishing point
        fill(canvas, limb(w / 2 + (x - w / 2) * 0.35, edge, x, h, 0.4, 1.0), floor * 0.7)
    if rng.random() < 0.6:
        y = edge - h * 0.04
        fill(canvas, np.array([[0, y], [w, y], [w, edge], [0, edge]]), rgb_of(0.1, 0.1, rng.uniform(0.3, 1)))
    for _ in range(int(rng.integers(0, 5))):  # pictures, windows, shelves
        x, y, a, b = rng.uniform(0, w), rng.uniform(0, edge), w * rng.uniform(0.05, 0.2), h * rng.uniform(0.03, 0.18)
        quad = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [a, b] + [x, y]
        fill(canvas, quad, rgb_of(*natural_hsv(rng)))
        fill(canvas, (quad - [x, y]) * 0.8 + [x, y], rgb_of(*natural_hsv(rng)))
    scatter(rng, canvas, int(rng.integers(0, 8)), (0.02 * w, 0.08 * w), 0.3)
    return canvas * as_rgb(1 + rng.uniform(0.02, 0.09) * fractal(rng, h, w, (10, 20), 3, 0.7))


def surface(rng: Generator, h: int, w: int) -> Float:
    """A close-up texture over the whole image (leaves, pebbles, cloth, bark, blurred lights): (h, w, 3) float32."""
    first, second = rgb_of(*muted_hsv(rng)), rgb_of(*muted_hsv(rng))
    cells = rng.uniform(2, 8)
    stretch = rng.choice([1.0, 1.0, 4.0])
    mix = np.clip(0.5 + 0.35 * fractal(rng, h, w, (cells, cells * stretch), 4, 0.6), 0, 1)
    canvas = blend(first, second, mix).astype(np.uint8)
    if rng.random() < 0.75:
        kind, spread = int(rng.choice([1, 4, 5, 2])), rng.uniform(0.02, 0.07) * w
        tone = natural_hsv(rng)
        for _ in range(int(rng.integers(20, 90))):
            turn = rng.uniform(0, 6.3)
            c, s = np.cos(turn), np.sin(turn)
            value = float(np.clip(tone[2] * rng.uniform(0.5, 1.4), 0.05, 1))
            colour = rgb_of(tone[0] + rng.normal(0, 0.03), tone[1], value)
            centre = np.array([rng.uniform(0, w), rng.uniform(0, h)])
            for polygon, bright in solid(rng, kind):
                fill(
                    canvas,
                    polygon @ np.array([[c, s], [-s, c]]) * spread * rng.uniform(0.6, 1.4) + centre,
                    np.clip(colour * bright, 0, 255),
                )
    return canvas * as_rgb(1 + rng.uniform(0.03, 0.14) * fractal(rng, h, w, (20, 20), 3, 0.7))
