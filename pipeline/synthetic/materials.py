"""Colours, noise and patterns, and the look of a class.

t is a pattern value: 0 the first colour, 1 the second (clipped). Colours are RGB in [0, 255], float32. A pattern makes
a tile (TILE_PX, TILE_PX) float32 of t in the object's frame, so that it turns and scales with the object.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from .families import FAMILIES
from .polygons import Float

CLASS_KEY = 5_417  # every label's look is drawn from (CLASS_KEY, label), never from a scene's seed
TILE_PX = 128  # side of a pattern tile, in the object's frame


@dataclass(frozen=True)
class Look:
    """A class: shape family, its proportions (8 numbers in [0, 1]), two HSV colours, pattern and its scale."""

    family: int
    proportions: tuple[float, ...]
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    pattern: int
    pattern_scale: float


def fractal(rng: Generator, h: int, w: int, cells: tuple[float, float], octaves: int = 3, decay: float = 0.55) -> Float:
    """Smooth noise (h, w) of about unit variance; cells: how many lumps fit (down, across) at the coarsest octave."""
    total, power, gain = np.zeros((h, w), np.float32), 0.0, 1.0
    for octave in range(octaves):
        gh, gw = (min(max(2, round(c * 2**octave)), side) for c, side in zip(cells, (h, w), strict=True))
        grid = rng.standard_normal((gh, gw), dtype=np.float32)
        total += gain * cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
        power, gain = power + gain**2, gain * decay
    return total / np.float32(0.75 * power**0.5)


def as_rgb(plane: Float) -> Float:
    """A plane (h, w) as three equal channels (h, w, 3): much faster than broadcasting over a last axis of 3."""
    return cv2.merge((plane, plane, plane))


def blend(first: Float, second: Float, t: Float) -> Float:
    """Colours between two (3,) RGB colours by t (h, w): (h, w, 3) float32."""
    return cv2.merge([a + t * (b - a) for a, b in zip(first, second, strict=True)])


def mottled(rng: Generator, scale: float) -> Float:
    """Cloudy."""
    return fractal(rng, TILE_PX, TILE_PX, (3 * scale, 3 * scale), 4) * 0.3 + 0.4


def striped(rng: Generator, scale: float) -> Float:
    """Wavy stripes."""
    x = np.linspace(0, 2 * np.pi * 5 * scale, TILE_PX, dtype=np.float32)
    return 0.5 + 0.9 * np.sin(x + 1.2 * fractal(rng, TILE_PX, TILE_PX, (4, 3), 2))


def spotted(rng: Generator, scale: float) -> Float:
    """Spots."""
    return (fractal(rng, TILE_PX, TILE_PX, (10 * scale, 10 * scale), 1) - 0.6) * 4


def piebald(rng: Generator, scale: float) -> Float:
    """Large sharp patches."""
    return fractal(rng, TILE_PX, TILE_PX, (4 * scale, 4 * scale), 2) * 4


def chequered(rng: Generator, scale: float) -> Float:
    """A soft chequer."""
    x = np.sin(np.linspace(0, 2 * np.pi * 5 * scale, TILE_PX, dtype=np.float32))
    return 0.5 + 4 * x[:, None] * x + 0.3 * fractal(rng, TILE_PX, TILE_PX, (4, 4), 2)


def streaked(rng: Generator, scale: float) -> Float:
    """Fur or grain: noise stretched in one direction."""
    return fractal(rng, TILE_PX, TILE_PX, (4 * scale, 24 * scale), 3) * 0.35 + 0.4


def graded(rng: Generator, scale: float) -> Float:
    """A gradient from back to belly."""
    ramp = np.linspace(-0.4, 1.4, TILE_PX, dtype=np.float32)[:, None]
    return ramp + 0.15 * fractal(rng, TILE_PX, TILE_PX, (6 * scale, 6 * scale), 2)


def plain(rng: Generator, scale: float) -> Float:
    """Nearly even."""
    return 0.12 + 0.1 * fractal(rng, TILE_PX, TILE_PX, (6 * scale, 6 * scale), 3)


PATTERNS = (plain, mottled, striped, spotted, piebald, chequered, streaked, graded)


def rgb_of(hue: float, saturation: float, value: float) -> Float:
    """One HSV colour (hue in turns, the rest in [0, 1]) as (3,) float32 RGB in [0, 255]."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return (255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))).astype(np.float32)


def natural_hsv(rng: Generator) -> tuple[float, float, float]:
    """A colour as in photographs: half of them earth and grey tones, half any hue, not fully saturated."""
    if rng.random() < 0.5:
        return rng.uniform(0.03, 0.14), rng.uniform(0.05, 0.65), rng.uniform(0.12, 0.92)
    return rng.random(), rng.uniform(0.15, 0.8), rng.uniform(0.25, 0.92)


def muted_hsv(rng: Generator) -> tuple[float, float, float]:
    """A colour for large surfaces: as `natural_hsv`, with lower saturation."""
    hue, saturation, value = natural_hsv(rng)
    return hue, saturation * rng.uniform(0.3, 1), value


@functools.cache
def class_look(label: int) -> Look:
    """The look of a class, from its label alone; neighbouring labels differ in family and in hue."""
    rng = np.random.default_rng([CLASS_KEY, label])
    first, second = natural_hsv(rng), natural_hsv(rng)
    if abs(first[2] - second[2]) < 0.25:  # a pattern must show
        second = (second[0], second[1], first[2] + 0.4 if first[2] < 0.5 else first[2] - 0.4)
    pattern = int(rng.integers(len(PATTERNS)))
    return Look(label % len(FAMILIES), tuple(rng.random(8)), (first, second), pattern, float(rng.uniform(0.7, 1.5)))
