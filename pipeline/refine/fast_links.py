"""The graph of GrabCut's energy: what neighbouring pixels pay to be cut apart, and what each pixel pays for its side.

Capacities are thousandths in int32. Pixels that are sure are no nodes: what their neighbours would pay to be cut from
them is part of those neighbours' excess, which is exact, since a sure pixel never changes sides.
"""

import numpy as np

from .fast_jit import kernel

UNIT = 1000.0  # capacity of one nat
MOST = 1_000_000  # of a likelihood's part of the excess: a thousand nats
RECORD, EXCESS = 16, 8  # as in fast_cut


@kernel("float64(uint8[:, :, ::1], int64)")
def contrast(rgb, directions):
    """beta: 1 / (2 * mean squared colour difference of neighbours), 0 for a picture of one colour."""
    height, width = rgb.shape[:2]
    total, pairs = 0, 0
    for y in range(height):
        row = 0
        for x in range(width):
            r, g, b = np.int32(rgb[y, x, 0]), np.int32(rgb[y, x, 1]), np.int32(rgb[y, x, 2])
            if x > 0:
                row += (r - rgb[y, x - 1, 0]) ** 2 + (g - rgb[y, x - 1, 1]) ** 2 + (b - rgb[y, x - 1, 2]) ** 2
            if y > 0:
                row += (r - rgb[y - 1, x, 0]) ** 2 + (g - rgb[y - 1, x, 1]) ** 2 + (b - rgb[y - 1, x, 2]) ** 2
                if directions == 8 and x > 0:
                    above = rgb[y - 1, x - 1]
                    row += (r - above[0]) ** 2 + (g - above[1]) ** 2 + (b - above[2]) ** 2
                if directions == 8 and x + 1 < width:
                    above = rgb[y - 1, x + 1]
                    row += (r - above[0]) ** 2 + (g - above[1]) ** 2 + (b - above[2]) ** 2
        total += row
    pairs = height * (width - 1) + (height - 1) * width
    if directions == 8:
        pairs += 2 * (height - 1) * (width - 1)
    return pairs / (2.0 * total) if total > 0 else 0.0


@kernel()
def _prices(gamma, beta):
    """`(n,) int32`: round(UNIT * gamma * exp(-beta * difference)), by squared difference, until it is 0 for good."""
    price = np.zeros(3 * 255 * 255 + 1, np.int32)
    step, value = np.exp(-beta), UNIT * gamma
    for difference in range(price.size):
        price[difference] = np.int32(value + 0.5)
        if price[difference] == 0:
            break
        value *= step
    return price


@kernel("Tuple((int32[::1], int32[::1], int32[::1]))(uint8[:, :, ::1], uint8[:, ::1], float64, float64, int64)")
def link(rgb, codes, gamma, beta, directions):
    """Picture `(H, W, 3)` and trimap codes `(H, W)`, of which 2 and 3 are free > records, nodes, pixels.

    record  `((H + 2) * (W + 2) * 16,) int32` with capacities, and excess from sure neighbours
    nodes   `(m,) int32`, index of each free pixel's record
    pixels  `(m,) int32`, number of each free pixel in the picture
    """
    height, width = codes.shape
    stride = width + 2
    record = np.zeros((height + 2) * stride * RECORD, np.int32)
    nodes = np.empty(height * width, np.int32)
    pixels = np.empty(height * width, np.int32)
    straight, slanted = _prices(gamma, beta), _prices(gamma / np.sqrt(2.0), beta)
    # Each pair of neighbours once, from its later pixel: left, up, up-left, up-right, as directions 1, 3, 5, 7.
    count = 0
    for y in range(height):
        for x in range(width):
            free = codes[y, x] >= 2
            node = ((y + 1) * stride + x + 1) * RECORD
            if free:
                nodes[count], pixels[count] = node, y * width + x
                count += 1
            r, g, b = np.int32(rgb[y, x, 0]), np.int32(rgb[y, x, 1]), np.int32(rgb[y, x, 2])
            for d in range(1, directions, 2):
                v = y if d == 1 else y - 1
                u = x if d == 3 else x + 1 if d == 7 else x - 1
                if v < 0 or u < 0 or u >= width:
                    continue
                other_free = codes[v, u] >= 2
                if not free and not other_free:
                    continue
                difference = (r - rgb[v, u, 0]) ** 2 + (g - rgb[v, u, 1]) ** 2 + (b - rgb[v, u, 2]) ** 2
                price = slanted[difference] if d > 3 else straight[difference]
                other = ((v + 1) * stride + u + 1) * RECORD
                if free and other_free:
                    record[node + d] = price
                    record[other + (d ^ 1)] = price
                elif free:
                    record[node + EXCESS] += price if codes[v, u] == 1 else -price
                else:
                    record[other + EXCESS] += price if codes[y, x] == 1 else -price
    return record, nodes[:count].copy(), pixels[:count].copy()


@kernel("void(int32[::1], int32[::1], int32[::1], int32[::1], float64[::1], uint16[::1])")
def charge(record, nodes, pixels, charged, table, index):
    """Gives every node the excess that its colour asks for, less what an earlier call gave it (`charged`, updated).

    table  `(n,) float64`: log likelihood of foreground less background, by colour
    index  `(H * W,) uint16`: colour of each pixel
    """
    for i in range(nodes.size):
        value = min(max(table[index[pixels[i]]] * UNIT, -MOST), MOST)
        rounded = np.int32(np.floor(value + 0.5))
        record[nodes[i] + EXCESS] += rounded - charged[i]
        charged[i] = rounded
