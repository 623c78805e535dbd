"""Shape families of the labelled objects: each turns a class's proportions and a random pose into parts.

A family takes p, the class's eight proportions in [0, 1], and a generator for the pose in this scene. It returns parts
from back to front, in units in which the object is about 2 across. To add one, write such a function and list it in
FAMILIES. A label's family is the label modulo their number, so a new family changes what labels mean: recompute the
figures of `pocket` and every golden value.
"""

import numpy as np
from numpy.random import Generator

from .polygons import Part, chain, ellipse, limb, polar

Proportions = tuple[float, ...]


def quadruped(p: Proportions, rng: Generator) -> list[Part]:
    """Body, four jointed legs, neck, head, tail; some classes with mane and dark socks."""
    half, deep = 0.48 + 0.2 * p[0], 0.17 + 0.1 * p[1]
    leg, thick = 0.32 + 0.4 * p[2], 0.045 + 0.035 * p[3]
    down, parts = np.pi / 2, []
    tail = np.pi * (0.6 + 0.5 * rng.random())
    parts += chain((-half * 0.95, -deep * 0.4), [(tail, 0.2 + 0.2 * p[4], 0.05), (tail - 0.5, 0.2, 0.03)], 0.04, 1)
    for x, side in ((-half * 0.75, 0), (-half * 0.62, 1), (half * 0.6, 0), (half * 0.75, 1)):
        bend, swing = rng.normal(0, 0.28), rng.normal(0, 0.3)
        low = (down + swing + bend, leg * 0.5, thick * 0.75)
        parts += chain(
            (x, deep * 0.4), [(down + swing, leg * 0.55, thick), low], thick * 2.0, 0 if side else 2 * (p[5] > 0.7)
        )
        foot = parts[-1][0][:, 1].argmax()
        foot_x, foot_y = parts[-1][0][foot]
        parts.append((ellipse(foot_x, foot_y, thick * 1.3, thick), 1 + (p[6] > 0.5)))
    parts += [
        (ellipse(-half * 0.55, -0.02, half * 0.5, deep * 1.1), 0),
        (ellipse(half * 0.5, 0, half * 0.45, deep * 1.1), 0),
    ]
    parts.append((ellipse(0, 0, half, deep), 0))
    rise, reach = -(0.35 + 0.55 * p[7]) - rng.normal(0, 0.15), 0.28 + 0.3 * p[4]
    hx, hy = half * 0.75 + reach * np.cos(rise), -deep * 0.4 + reach * np.sin(rise)
    parts.append((limb(half * 0.68, -deep * 0.25, hx, hy, deep * 0.8, 0.1), 0))
    if p[6] > 0.35:  # mane
        parts.append((limb(half * 0.5, -deep * 0.9, hx - 0.06, hy - 0.06, 0.05, 0.05), 1))
    nod = 0.5 + rng.normal(0, 0.2)
    parts += [(limb(hx - 0.02, hy - 0.12, hx - 0.05, hy - 0.23 - 0.1 * p[5], 0.035, 0.015), 0)]
    muzzle = 0.16 + 0.14 * p[0]
    parts.append((limb(hx, hy, hx + muzzle * np.cos(nod), hy + muzzle * np.sin(nod), 0.12, 0.065), 0))
    return [*parts, (ellipse(hx + 0.04, hy - 0.03, 0.02, 0.02, n=10), 2)]


def bird(p: Proportions, rng: Generator) -> list[Part]:
    """Body, head with beak, legs, tail and a wing, sometimes raised."""
    half, deep, tilt = 0.45 + 0.15 * p[0], 0.2 + 0.13 * p[1], rng.normal(-0.15, 0.15)
    hx, hy = half * (0.8 + 0.3 * p[2]), -0.22 - 0.35 * p[2] + rng.normal(0, 0.04)
    parts = chain((-half * 0.8, 0.02), [(np.pi + rng.normal(0, 0.2), 0.3 + 0.4 * p[3], 0.05 + 0.08 * p[4])], 0.1, 1)
    parts += chain((0.02, deep * 0.8), [(1.5, 0.2 + 0.3 * p[5], 0.02)], 0.03, 2)
    parts += chain((0.12, deep * 0.8), [(1.7, 0.2 + 0.3 * p[5], 0.02)], 0.03, 2)
    parts += [(ellipse(0, 0, half, deep, tilt), 0), (limb(half * 0.6, -0.08, hx, hy, deep * 0.7, 0.11), 0)]
    parts += [(ellipse(hx, hy, 0.14, 0.13), int(p[6] > 0.6))]
    parts.append((limb(hx + 0.1, hy, hx + 0.2 + 0.2 * p[7], hy + 0.04, 0.05, 0.01), 2))
    if rng.random() < 0.3:  # a raised wing
        parts.append((limb(-0.05, -deep * 0.4, -0.3, -deep - 0.5, 0.2, 0.04), 1))
    else:
        parts.append((ellipse(-0.1, 0.01, half * 0.7, deep * 0.55, tilt - 0.15), 1))
    return [*parts, (ellipse(hx + 0.05, hy - 0.03, 0.022, 0.022, n=10), 2)]


def fish(p: Proportions, rng: Generator) -> list[Part]:
    """Bent body with tail and fins."""
    x = np.linspace(-1, 1, 24)
    deep = (0.25 + 0.3 * p[0]) * (1 - np.abs(x) ** (1.6 + p[1])) * (1 + 0.35 * x) + 0.02
    bend = rng.normal(0, 0.12) * x**2
    body = np.concatenate([np.stack([0.7 * x, bend - deep], 1), np.stack([0.7 * x, bend + deep], 1)[::-1]])
    y0, span = bend[0], 0.2 + 0.25 * p[2]
    tail = np.array([[-0.6, y0], [-1.0, y0 - span], [-0.88 + 0.1 * p[3], y0], [-1.0, y0 + span]])
    fin = np.array([[-0.3, -deep[7]], [0.0, -deep[12] - 0.12 - 0.3 * p[4]], [0.3, -deep[17] * 0.9], [0, 0]])
    belly = np.array([[-0.1, deep[10] * 0.7], [-0.3, deep[10] + 0.08 + 0.2 * p[5]], [0.15, deep[14] * 0.8]])
    eye = ellipse(0.5, bend[20] - 0.05, 0.045, 0.045, n=12)
    return [(tail, 1), (fin, 1), (belly, 1), (body, 0), (ellipse(0.15, 0.05, 0.13, 0.06, 0.6), 1), (eye, 2)]


def butterfly(p: Proportions, rng: Generator) -> list[Part]:
    """Two pairs of wings with spots, feelers."""
    parts, spread = [], 0.75 + 0.3 * rng.random()
    for side in (-1, 1):
        fore = ellipse(side * 0.45 * spread, -0.3, 0.48 * spread, 0.24 + 0.15 * p[0], -side * (0.35 + 0.4 * p[1]))
        hind = ellipse(side * 0.32 * spread, 0.28, 0.34 * spread, 0.22 + 0.12 * p[2], side * (0.4 + 0.5 * p[3]))
        spot = ellipse(side * 0.55 * spread, -0.36, 0.12, 0.08 + 0.05 * p[4])
        parts += [(hind, int(p[5] > 0.4)), (fore, 0), (spot, 1)]
        parts += chain((0, -0.35), [(-np.pi / 2 + side * 0.5, 0.35, 0.01)], 0.015, 2)
    return [*parts, (limb(0, -0.35, 0, 0.45, 0.06 + 0.03 * p[6], 0.03), 2)]


def vase(p: Proportions, rng: Generator) -> list[Part]:
    """A turned profile with a band."""
    y = np.linspace(-1, 1, 40)
    r = 0.3 + 0.17 * np.sin(1.6 * y + 3 * p[0]) + (0.1 + 0.06 * p[1]) * np.sin(3.2 * y + 6 * p[2])
    r = np.maximum(r * (0.75 + 0.5 * p[3]), 0.09)
    side = np.stack([r, y], 1)
    band = slice(int(10 + 12 * p[4]), int(16 + 14 * p[4] + 4 * p[5]))
    parts: list[Part] = [(np.concatenate([side, (side * [-1, 1])[::-1]]), 0)]
    parts.append((np.concatenate([side[band], (side[band] * [-1, 1])[::-1]]), 1))
    return [*parts, (ellipse(0, -1, r[0], 0.05 + 0.05 * rng.random()), 2)]


def teapot(p: Proportions, rng: Generator) -> list[Part]:
    """Belly, jointed handle, spout, lid."""
    wide, tall = 0.5 + 0.1 * p[0], 0.36 + 0.2 * p[1]
    grip = [(-2.6, 0.25, 0.05), (np.pi * 0.75, 0.3 + 0.1 * p[2], 0.05), (1.2, 0.3, 0.05), (0.2, 0.25, 0.05)]
    parts = chain((-wide * 0.7, -tall * 0.4), grip, 0.06, 1)
    parts += chain(
        (wide * 0.7, tall * 0.2), [(-0.5, 0.3, 0.09), (-1.0 - 0.4 * p[3], 0.25 + 0.15 * p[4], 0.05)], 0.14, 0
    )
    parts += [(ellipse(0, 0, wide, tall), 0), (ellipse(0, -tall * 0.85, wide * 0.6, 0.1), 1)]
    parts += [(ellipse(0, -tall - 0.1, 0.07, 0.07), 1 + (p[5] > 0.5)), (ellipse(0, tall * 0.9, wide * 0.6, 0.08), 1)]
    return parts


def mushroom(p: Proportions, rng: Generator) -> list[Part]:
    """Cap, sometimes with spots, on a leaning stem."""
    wide, tall, stem = 0.5 + 0.3 * p[0], 0.3 + 0.4 * p[1], 0.5 + 0.4 * p[2]
    lean = rng.normal(0, 0.12)
    cap = ellipse(0, 0, wide, tall, n=40)
    cap[:, 1] = np.minimum(cap[:, 1], 0.1 + 0.05 * np.cos(cap[:, 0] * 4))
    parts: list[Part] = [(limb(0, 0, lean, stem, 0.1 + 0.09 * p[3], 0.13 + 0.12 * p[4]), 1), (cap, 0)]
    parts.append((ellipse(0, 0.1, wide * 0.93, 0.06), 2 if p[5] > 0.5 else 1))
    for dx in (-0.45, 0.05, 0.5) if p[6] > 0.4 else ():
        parts.append((ellipse(dx * wide, -tall * (0.6 - abs(dx) * 0.5), 0.09, 0.07), 1))
    return parts


def flower(p: Proportions, rng: Generator) -> list[Part]:
    """A bloom of 4 to 8 petals, with or without stem and leaf."""
    petals, depth = 4 + int(5 * p[0]), 0.2 + 0.25 * p[1]
    turn = rng.random() * 6.3
    sharp = 0.5 + 1.2 * p[2]
    bloom = polar(lambda a: 0.85 * (1 - depth + depth * (2 * np.abs(np.cos((a - turn) * petals / 2)) ** sharp - 1)))
    parts: list[Part] = []
    if p[3] > 0.4:
        parts += chain((0, 0.2), [(np.pi / 2 + rng.normal(0, 0.15), 0.8, 0.04), (1.7, 0.5, 0.04)], 0.05, 2)
        parts.append((ellipse(0.25, 1.1, 0.28, 0.09, -0.5), 2))
    return [*parts, (bloom, 0), (ellipse(0, 0, 0.2 + 0.1 * p[4], 0.2 + 0.1 * p[4]), 1)]


def vehicle(p: Proportions, rng: Generator) -> list[Part]:
    """Hull, cabin with panes, two wheels."""
    half, low, roof = 0.85, 0.2 + 0.12 * p[0], 0.25 + 0.2 * p[1]
    a, b = -0.6 + 0.5 * p[2], 0.3 + 0.4 * p[3]
    cabin = np.array(
        [[a - 0.2 * p[4], -low + 0.02], [a, -low - roof], [b, -low - roof], [b + 0.1 + 0.25 * p[5], -low + 0.02]]
    )
    pane = cabin * [0.82, 0.82] + [0.02, -0.06]
    hull = np.array(
        [[-half, low], [-half, -low * 0.6], [-half + 0.08, -low], [half * 0.7, -low], [half, -low * 0.3], [half, low]]
    )
    parts: list[Part] = [
        (cabin, 0),
        (pane, 2),
        (hull, 0),
        (np.array([[-half, 0], [half, 0], [half, 0.07], [-half, 0.07]]), 1),
    ]
    post = (a + b) / 2
    parts.append(
        (
            np.array(
                [[post - 0.03, -low - roof], [post + 0.03, -low - roof], [post + 0.03, -low], [post - 0.03, -low]]
            ),
            0,
        )
    )
    wheel = 0.16 + 0.1 * p[6]
    for x in (-0.5, 0.5):
        parts += [(ellipse(x, low, wheel, wheel), 2), (ellipse(x, low, wheel * 0.5, wheel * 0.5), 1)]
    return parts


def boat(p: Proportions, rng: Generator) -> list[Part]:
    """Hull, mast and two sails."""
    half, deep = 0.7 + 0.2 * p[0], 0.18 + 0.15 * p[1]
    x = np.linspace(-1, 1, 16)
    keel = np.stack([half * x * 0.85, 0.35 + deep * (1 - np.abs(x) ** 3)], 1)
    hull = np.concatenate([[[-half, 0.25]], keel, [[half * 1.1, 0.2]]])
    top, mast = -0.7 - 0.4 * p[2], -0.1 + 0.3 * p[3]
    belly = 0.15 * rng.random()
    main = np.array(
        [[mast - 0.04, top], [mast - 0.25 - belly, top * 0.3], [mast - 0.3 - 0.45 * p[4], 0.12], [mast - 0.04, 0.14]]
    )
    jib = np.array(
        [
            [mast + 0.05, top * 0.9],
            [mast + 0.25 + belly, top * 0.2],
            [mast + 0.35 + 0.3 * p[5], 0.12],
            [mast + 0.05, 0.12],
        ]
    )
    return [(limb(mast, 0.3, mast, top, 0.03, 0.02), 2), (main, 0), (jib, 0 if p[6] > 0.5 else 1), (hull, 1)]


def lamp(p: Proportions, rng: Generator) -> list[Part]:
    """Shade on a foot."""
    top, wide, tall = 0.18 + 0.25 * p[0], 0.5 + 0.15 * p[1], 0.5 + 0.25 * p[2]
    shade = np.array([[-top, -tall], [top, -tall], [wide, 0], [-wide, 0]])
    foot = 0.25 + 0.2 * p[3]
    lean = rng.normal(0, 0.05)
    parts: list[Part] = [(limb(0, 0, lean, 0.65, 0.05 + 0.1 * p[4], 0.06), 1), (ellipse(lean, 0.7, foot, 0.1), 1)]
    if p[5] > 0.5:
        parts.append((ellipse(lean / 2, 0.35, 0.16 + 0.1 * p[6], 0.18), 1))
    return [*parts, (shade, 0), (np.array([[-wide, -0.06], [wide, -0.06], [wide, 0], [-wide, 0]]), 2)]


def guitar(p: Proportions, rng: Generator) -> list[Part]:
    """Two bouts, neck and head."""
    big, small, neck = 0.4 + 0.1 * p[0], 0.28 + 0.1 * p[1], 0.5 + 0.25 * p[2]
    parts: list[Part] = [(limb(0, 0, 0, -0.3 - neck, 0.06, 0.05), 2)]
    parts.append((limb(0, -0.3 - neck, 0, -0.5 - neck, 0.08, 0.1), 1))
    parts += [(ellipse(0, 0.3, big, big * 0.9), 0), (ellipse(0, -0.12, small, small * 0.8), 0)]
    if p[3] > 0.5:
        parts.append((limb(small * 0.6, -0.2, small * 0.9, -0.42, 0.1, 0.05), 0))
    return [*parts, (ellipse(0, 0.08, 0.12, 0.12), 2), (limb(-0.12, 0.45, 0.12, 0.45, 0.03, 0.03), 1)]


def turtle(p: Proportions, rng: Generator) -> list[Part]:
    """Domed shell with rim, legs, head on a neck."""
    half, tall = 0.6 + 0.12 * p[0], 0.32 + 0.22 * p[1]
    shell = ellipse(0, 0, half, tall, n=40)
    shell[:, 1] = np.minimum(shell[:, 1], 0.12)
    parts: list[Part] = []
    for x in (-0.42, -0.25, 0.3, 0.45):
        parts.append((limb(x, 0.08, x + rng.normal(0, 0.07), 0.3 + 0.1 * p[2], 0.1, 0.08 + 0.03 * p[3]), 1))
    reach, rise = 0.22 + 0.15 * rng.random(), -0.15 - 0.25 * p[4] + rng.normal(0, 0.06)
    parts.append((limb(half * 0.8, 0, half + reach, rise, 0.11, 0.1 + 0.04 * p[5]), 1))
    parts.append((limb(-half * 0.9, 0.08, -half - 0.2, 0.18, 0.05, 0.01), 1))
    rim = np.array([[-half, 0.06], [half, 0.06], [half * 0.95, 0.16], [-half * 0.95, 0.16]])
    return [
        *parts,
        (shell, 0),
        (rim, 1 + (p[6] > 0.6)),
        (ellipse(half + reach + 0.03, rise - 0.03, 0.025, 0.025, n=10), 2),
    ]


def figure(p: Proportions, rng: Generator) -> list[Part]:
    """A person with arms and legs in any pose."""
    down, wide = np.pi / 2, 0.15 + 0.1 * p[0]
    parts: list[Part] = []
    for side in (-1, 1):
        hip, arm = rng.normal(0.12, 0.15), rng.uniform(0.1, 1.6)
        knee = (down - side * hip * 0.5, 0.4, 0.06)
        parts += chain((side * wide * 0.5, 0.3), [(down - side * hip, 0.35 + 0.1 * p[1], 0.08), knee], 0.12, 1)
        fore = (down - side * (arm + rng.normal(0, 0.5)), 0.27, 0.05)
        parts += chain((side * wide, -0.25), [(down - side * arm, 0.3, 0.06), fore], 0.09, 0)
    torso = np.array([[-wide - 0.05, -0.3], [wide + 0.05, -0.3], [wide, 0.38], [-wide, 0.38]])
    parts += [(torso, 0), (limb(0, -0.3, 0, -0.45, 0.07, 0.07), 1)]
    parts.append((ellipse(rng.normal(0, 0.03), -0.56, 0.14 + 0.05 * p[2], 0.17 + 0.04 * p[3]), 1))
    parts.append((ellipse(0, -0.68, 0.17, 0.1 + 0.05 * p[4]), 2))
    return parts


FAMILIES = (
    quadruped,
    bird,
    vase,
    fish,
    vehicle,
    mushroom,
    butterfly,
    teapot,
    turtle,
    flower,
    boat,
    figure,
    lamp,
    guitar,
)
