"""Two mixtures of Gaussians in RGB, fitted to colours in bins of 5 bits a channel instead of to pixels.

An image of 65,536 pixels has some 1,800 such bins: mixtures are fitted to their mean colours, weighted by each side's
pixel counts, and likelihoods are a table by bin. The initial components come from splitting the widest cluster at its
mean, across its principal axis (Orchard and Bouman 1991), and a few Lloyd steps: no random numbers.

n colours (used bins), K components; side 0 is the background, 1 the foreground.
"""

from typing import Any

import numpy as np

from ..numba_kernels import kernel

COMPONENTS = 5
LLOYD_STEPS = 4
# Variance inside a bin (uniform over 8 levels), lost by taking its mean. It also bounds the density of flat colours.
SPREAD = 64 / 12
NEGLIGIBLE = 25.0  # nats below the likeliest component
# Columns of a component: log of weight and norm, mean (3), inverse covariance (xx, xy, xz, yy, yz, zz), pixel count.
LOG, MEAN, INVERSE, USED, COLUMNS = 0, 1, 4, 10, 11


@kernel("Tuple((uint16[:, ::1], float64[:, ::1]))(uint8[:, :, ::1])")
def index_colours(rgb):
    """Image `(H, W, 3)` > colour number of each pixel `(H, W) uint16`, mean colour of each number `(n, 3)`."""
    height, width = rgb.shape[:2]
    index = np.empty((height, width), np.uint16)
    number = np.zeros(1 << 15, np.int32)
    for y in range(height):
        for x in range(width):
            bin = ((rgb[y, x, 0] >> 3) << 10) | ((rgb[y, x, 1] >> 3) << 5) | (rgb[y, x, 2] >> 3)
            index[y, x] = bin
            number[bin] = 1
    count = 0
    for bin in range(number.size):
        if number[bin]:
            number[bin] = count
            count += 1
    sums, pixels = np.zeros((count, 3), np.int64), np.zeros(count, np.int64)
    for y in range(height):
        for x in range(width):
            n = number[index[y, x]]
            index[y, x] = n
            pixels[n] += 1
            for c in range(3):
                sums[n, c] += rgb[y, x, c]
    return index, sums / pixels.reshape(-1, 1)


@kernel()
def _count(index, foreground, colours):
    """`(2, n)`: pixel count of each side, by colour."""
    weight = np.zeros((2, colours))
    for i in range(index.size):
        weight[foreground[i], index[i]] += 1.0
    return weight


@kernel()
def _moments(colours, weight, of, k):
    """Component k's weight, mean `(3,)` and covariance `(6,)`, summed in the order of the colours."""
    total, mean, spread = 0.0, np.zeros(3), np.zeros(6)
    for n in range(of.size):
        if of[n] == k and weight[n] > 0:
            total += weight[n]
            for c in range(3):
                mean[c] += weight[n] * colours[n, c]
    if total == 0:
        return total, mean, spread
    mean /= total
    for n in range(of.size):
        if of[n] == k and weight[n] > 0:
            r, g, b = colours[n, 0] - mean[0], colours[n, 1] - mean[1], colours[n, 2] - mean[2]
            w = weight[n]
            spread[0] += w * r * r
            spread[1] += w * r * g
            spread[2] += w * r * b
            spread[3] += w * g * g
            spread[4] += w * g * b
            spread[5] += w * b * b
    return total, mean, spread / total


@kernel()
def _principal(spread):
    """Largest eigenvalue of a symmetric matrix `(6,)` and its axis, by repeated squaring."""
    matrix = np.array(
        [[spread[0], spread[1], spread[2]], [spread[1], spread[3], spread[4]], [spread[2], spread[4], spread[5]]]
    )
    power = matrix.copy()
    for _ in range(8):
        scale = power[0, 0] + power[1, 1] + power[2, 2]
        if scale <= 0:
            return 0.0, np.array([1.0, 0.0, 0.0])
        power /= scale
        squared = np.zeros((3, 3))
        for i in range(3):
            for j in range(3):
                for m in range(3):
                    squared[i, j] += power[i, m] * power[m, j]
        power = squared
    widest = 0
    for i in range(3):
        if power[i, i] > power[widest, widest]:
            widest = i
    axis = power[widest].copy()
    length = np.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    if length <= 0:
        return 0.0, axis
    axis /= length
    value = 0.0
    for i in range(3):
        for j in range(3):
            value += axis[i] * matrix[i, j] * axis[j]
    return value, axis


@kernel()
def _split(colours, weight):
    """Cluster of each colour `(n,) int64`: COMPONENTS clusters, fewer if there are fewer colours; then Lloyd steps."""
    of = np.zeros(weight.size, np.int64)
    means, axes, widths = np.zeros((COMPONENTS, 3)), np.zeros((COMPONENTS, 3)), np.zeros(COMPONENTS)
    clusters = 1
    changed_a: Any
    changed_a, changed_b = 0, 0
    while True:
        for k in (changed_a, changed_b):
            total, mean, spread = _moments(colours, weight, of, k)
            value, axis = _principal(spread)
            means[k], axes[k], widths[k] = mean, axis, value * total
        widest = np.argmax(widths[:clusters])
        if clusters == COMPONENTS or widths[widest] <= 0:
            break
        mean, axis = means[widest], axes[widest]
        for n in range(of.size):
            if of[n] == widest:
                along = 0.0
                for c in range(3):
                    along += (colours[n, c] - mean[c]) * axis[c]
                if along > 0:
                    of[n] = clusters
        changed_a, changed_b = widest, clusters
        clusters += 1
    for _ in range(LLOYD_STEPS):
        sums, totals = np.zeros((COMPONENTS, 3)), np.zeros(COMPONENTS)
        for n in range(of.size):
            if weight[n] > 0:
                nearest, best = 0, np.inf
                for k in range(clusters):
                    r, g, b = colours[n, 0] - means[k, 0], colours[n, 1] - means[k, 1], colours[n, 2] - means[k, 2]
                    distance = r * r + g * g + b * b
                    if distance < best:
                        nearest, best = k, distance
                of[n] = nearest
                totals[nearest] += weight[n]
                for c in range(3):
                    sums[nearest, c] += weight[n] * colours[n, c]
        for k in range(clusters):
            if totals[k] > 0:
                means[k] = sums[k] / totals[k]
    return of


@kernel()
def _learn(colours, weight, of, mixture):
    """Fits the components `(K, COLUMNS)` to the colours assigned to them."""
    everything, sums = 0.0, np.zeros((COMPONENTS, 10))
    for n in range(of.size):
        w = weight[n]
        if w > 0:
            everything += w
            r, g, b = colours[n, 0], colours[n, 1], colours[n, 2]
            of_component = sums[of[n]]
            of_component[0] += w
            of_component[1] += w * r
            of_component[2] += w * g
            of_component[3] += w * b
            of_component[4] += w * r * r
            of_component[5] += w * r * g
            of_component[6] += w * r * b
            of_component[7] += w * g * g
            of_component[8] += w * g * b
            of_component[9] += w * b * b
    for k in range(COMPONENTS):
        total = sums[k, 0]
        mixture[k, USED] = total
        if total == 0:
            continue
        r, g, b = sums[k, 1] / total, sums[k, 2] / total, sums[k, 3] / total
        mixture[k, MEAN], mixture[k, MEAN + 1], mixture[k, MEAN + 2] = r, g, b
        xx, xy, xz = sums[k, 4] / total - r * r + SPREAD, sums[k, 5] / total - r * g, sums[k, 6] / total - r * b
        yy, yz, zz = (
            sums[k, 7] / total - g * g + SPREAD,
            sums[k, 8] / total - g * b,
            sums[k, 9] / total - b * b + SPREAD,
        )
        a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        determinant = xx * a + xy * b + xz * c
        mixture[k, LOG] = np.log(total / everything) - 0.5 * np.log(determinant)
        mixture[k, INVERSE] = a / determinant
        mixture[k, INVERSE + 1] = b / determinant
        mixture[k, INVERSE + 2] = c / determinant
        mixture[k, INVERSE + 3] = (xx * zz - xz * xz) / determinant
        mixture[k, INVERSE + 4] = (xy * xz - xx * yz) / determinant
        mixture[k, INVERSE + 5] = (xx * yy - xy * xy) / determinant


@kernel()
def _log_densities(mixture, colour, values):
    """Writes the log of each component's weight times density `(K,)` into `values`, without a common constant."""
    for k in range(COMPONENTS):
        if mixture[k, USED] > 0:
            r, g, b = colour[0] - mixture[k, MEAN], colour[1] - mixture[k, MEAN + 1], colour[2] - mixture[k, MEAN + 2]
            square = mixture[k, INVERSE] * r * r + mixture[k, INVERSE + 3] * g * g + mixture[k, INVERSE + 5] * b * b
            slanted = (
                mixture[k, INVERSE + 1] * r * g + mixture[k, INVERSE + 2] * r * b + mixture[k, INVERSE + 4] * g * b
            )
            values[k] = mixture[k, LOG] - 0.5 * square - slanted
        else:
            values[k] = -np.inf


@kernel()
def _likeliest(colours, weight, mixture):
    """The component with the highest density at each colour, without the component's weight, as OpenCV assigns them."""
    of, values, log_weight = np.zeros(weight.size, np.int64), np.empty(COMPONENTS), np.zeros(COMPONENTS)
    everything = mixture[:, USED].sum()
    for k in range(COMPONENTS):
        if mixture[k, USED] > 0:
            log_weight[k] = np.log(mixture[k, USED] / everything)
    for n in range(of.size):
        if weight[n] > 0:
            _log_densities(mixture, colours[n], values)
            best = -np.inf
            for k in range(COMPONENTS):
                if values[k] - log_weight[k] > best:
                    of[n], best = k, values[k] - log_weight[k]
    return of


@kernel()
def _log_likelihood(mixture, colour, values):
    """Log of the sum over the components. It never underflows, so the difference of two is finite."""
    _log_densities(mixture, colour, values)
    highest = values[0]
    for k in range(1, COMPONENTS):
        highest = max(highest, values[k])
    total = 0.0
    for k in range(COMPONENTS):
        if values[k] > highest - NEGLIGIBLE:
            total += np.exp(values[k] - highest)
    return highest + np.log(total)


@kernel("float64[::1](uint16[::1], float64[:, ::1], uint8[::1], float64[:, :, ::1], boolean)")
def compare(index, colours, labels, mixtures, first):
    """Fits both mixtures to a labelling > log likelihood of foreground minus background, by colour `(n,)`.

    labels    `(H * W,) uint8`: 1 is foreground
    mixtures  `(2, K, COLUMNS)`, updated in place; not read if `first`
    """
    weight = _count(index, labels, colours.shape[0])
    for side in range(2):
        if first:
            _learn(colours, weight[side], _split(colours, weight[side]), mixtures[side])
        _learn(colours, weight[side], _likeliest(colours, weight[side], mixtures[side]), mixtures[side])
    table, values = np.empty(colours.shape[0]), np.empty(COMPONENTS)
    background, foreground = mixtures[0], mixtures[1]
    for n in range(table.size):
        likelihood = _log_likelihood(foreground, colours[n], values)
        table[n] = likelihood - _log_likelihood(background, colours[n], values)
    return table
