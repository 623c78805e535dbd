"""The graph of GrabCut's energy: edge weights between neighbouring pixels, and each pixel's terminal weights.

Capacities are thousandths of a nat in int32. Sure pixels are not nodes: the weight of an edge to a sure pixel is added
to its neighbour's excess, which is exact, since a sure pixel never changes sides.
"""

from typing import Any

import numpy as np

from ..numba_kernels import kernel

UNIT = 1000.0  # capacity of one nat
MOST = 1_000_000  # largest part of the excess that comes from likelihoods: a thousand nats
RECORD, EXCESS, TREE, SOURCE = 16, 8, 9, 1  # as in fast_cut
DOWN, RIGHT = (0, 0, 1, -1, 1, -1, 1, -1), (1, -1, 0, 0, 1, -1, -1, 1)  # of its directions


@kernel("float64(uint8[:, :, ::1])")
def contrast(rgb):
    """beta: 1 / (2 * mean squared colour difference of 8 neighbours), 0 for an image of one colour."""
    height, width = rgb.shape[:2]
    numbers = rgb.reshape(height, width * 3)
    total: Any = 0
    for y in range(height):
        row, above = numbers[y], numbers[max(y - 1, 0)]  # the first row is its own neighbour: differences of 0,
        straight, slanted = np.int32(0), np.int32(0)
        for i in range(width * 3):
            straight += (np.int32(row[i]) - above[i]) ** 2
        for i in range(width * 3 - 3):
            straight += (np.int32(row[i + 3]) - row[i]) ** 2
            slanted += (np.int32(row[i + 3]) - above[i]) ** 2 + (np.int32(above[i + 3]) - row[i]) ** 2
        total += np.int64(straight) + (np.int64(slanted) if y > 0 else 0)  # but not on the diagonals
    pairs = height * (width - 1) + (height - 1) * width + 2 * (height - 1) * (width - 1)
    return pairs / (2.0 * total) if total > 0 else 0.0


@kernel()
def _prices(gamma, beta):
    """Edge weights by squared difference, `(n,) int32`: round(UNIT * gamma * exp(-beta * difference)); 0 from n on."""
    step, value = np.exp(-beta), UNIT * gamma
    most = 3 * 255 * 255 + 1
    if beta > 0:
        most = min(most, int(np.log(2 * value + 1) / beta) + 2)
    price = np.empty(most, np.int32)
    for difference in range(most):
        price[difference] = np.int32(value + 0.5)
        value *= step
    return price


@kernel("Tuple((int32[::1], int32[::1], int32[::1]))(uint8[:, :, ::1], uint8[:, ::1], float64, float64, int64)")
def link(rgb, codes, gamma, beta, directions):
    """Image `(H, W, 3)` and trimap codes `(H, W)`, of which 2 and 3 are free > record, nodes, pixels.

    record  `((H + 2) * (W + 2) * 16,) int32` with capacities, and excess from sure neighbours
    nodes   `(m,) int32`, index of each free pixel's record
    pixels  `(m,) int32`, number of each free pixel in the image
    """
    height, width = codes.shape
    stride = width + 2
    record = np.zeros((height + 2) * stride * RECORD, np.int32)
    nodes, pixels = np.empty(height * width, np.int32), np.empty(height * width, np.int32)
    straight, slanted = _prices(gamma, beta), _prices(gamma / np.sqrt(2.0), beta)
    count = 0
    for y in range(height):
        for x in range(width):
            if codes[y, x] < 2:
                continue
            node = ((y + 1) * stride + x + 1) * RECORD
            nodes[count], pixels[count] = node, y * width + x
            count += 1
            r, g, b = np.int32(rgb[y, x, 0]), np.int32(rgb[y, x, 1]), np.int32(rgb[y, x, 2])
            for d in range(directions):
                v, u = y + DOWN[d], x + RIGHT[d]
                if v < 0 or u < 0 or v >= height or u >= width:
                    continue
                code = codes[v, u]
                if code >= 2 and d & 1 == 0:
                    continue  # a pair of free pixels is linked once, by its later pixel
                difference = (r - rgb[v, u, 0]) ** 2 + (g - rgb[v, u, 1]) ** 2 + (b - rgb[v, u, 2]) ** 2
                price = slanted if d > 3 else straight
                if difference >= price.size:
                    continue
                if code < 2:
                    record[node + EXCESS] += price[difference] if code == 1 else -price[difference]
                else:
                    record[node + d] = price[difference]
                    record[((v + 1) * stride + u + 1) * RECORD + (d ^ 1)] = price[difference]
    return record, nodes[:count].copy(), pixels[:count].copy()


@kernel("void(int32[::1], int32[::1], int32[::1], int32[::1], float64[::1], uint16[::1], float32[::1])")
def charge(record, nodes, pixels, charged, table, index, prior):
    """Adds each node's log odds of foreground to its excess, minus what an earlier call added.

    charged  `(m,) int32`: what earlier calls added to each node, updated in place
    table    `(n,) float64`: log likelihood of foreground minus background, by colour
    index    `(H * W,) uint16`: colour of each pixel
    prior    `(H * W,) float32`: log odds of each pixel before its colour is seen, weighted, in nats
    """
    for i in range(nodes.size):
        value = min(max((table[index[pixels[i]]] + prior[pixels[i]]) * UNIT, -MOST), MOST)
        rounded = np.int32(np.floor(value + 0.5))
        record[nodes[i] + EXCESS] += rounded - charged[i]
        charged[i] = rounded


@kernel("int64(int32[::1], int32[::1], int32[::1], uint8[::1])")
def relabel(record, nodes, pixels, labels):
    """Writes a cut into `labels (H * W,) uint8`, 1 for the source's side; returns how many labels changed."""
    changed = 0
    for i in range(nodes.size):
        label = np.uint8(record[nodes[i] + TREE] == SOURCE)
        changed += labels[pixels[i]] != label
        labels[pixels[i]] = label
    return changed
