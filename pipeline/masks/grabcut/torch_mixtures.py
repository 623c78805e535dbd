"""Two colour mixtures an image, fitted to colours in bins of 5 bits a channel: fast_colours.py for many images at once.

No random numbers, no host read, and no operation that has to know how many bins are used: on a GPU the tables have room
for all of them. Sums of products of colours are batched matrix products in float64, since covariances are small
differences of large sums, and a Gaussian's log density is linear in the same products. 3 x 3 matrices are inverted by
their cofactors.

Shapes: B images, N pixels, M bins; K = 2 sides x COMPONENTS Gaussians, the background's first; 10 products 1, r, g, b,
rr, rg, rb, gg, gb, bb of colours minus 128.
"""

from dataclasses import dataclass

import torch

from .fast import COMPONENTS

BINS = 1 << 15
LLOYD_STEPS = 4
SPREAD = 64 / 12  # variance inside a bin (uniform over 8 levels), lost by taking its mean
SQUARINGS = 8  # of a matrix, for its principal axis: as in fast_colours


@dataclass(frozen=True)
class Colours:
    """An image's colours in bins."""

    index: torch.Tensor  # (B, N) int64, each pixel's bin
    products: torch.Tensor  # (B, M, 10) float64, of the bins' mean colours; 1 and zeros where a bin has no pixels

    @classmethod
    def of(cls, rgb: torch.Tensor, compact: bool | None = None) -> "Colours":
        """Of `(B, N, 3) uint8`.

        compact  True: M is the number of bins in use, for which a GPU would have to be waited for. None: on CPUs
        """
        compact = rgb.device.type == "cpu" if compact is None else compact
        batch, pixels = rgb.shape[:2]
        high = (rgb >> 3).long()
        index = (high[..., 0] << 10) | (high[..., 1] << 5) | high[..., 2]
        bins = BINS
        if pixels < BINS or compact:  # number the bins in use, of which there are at most `pixels`
            number = torch.zeros((batch, BINS), dtype=torch.int64, device=rgb.device)
            number = number.scatter_(1, index, 1).cumsum(1) - 1
            index = number.gather(1, index)
            bins = int(index.max()) + 1 if compact else pixels
        count = _sums_by_bin(torch.ones_like(index, dtype=torch.int32), index, bins)
        # 32 bits hold sums of 16 million pixels, and sums of integers do not depend on their order
        sums = torch.stack([_sums_by_bin(rgb[..., channel].int(), index, bins) for channel in range(3)], dim=2)
        mean = torch.where((count > 0)[..., None], sums.double() / count.clamp(min=1)[..., None] - 128, 0.0)
        r, g, b = mean.split(1, dim=2)
        products = [torch.ones_like(r), r, g, b, r * r, r * g, r * b, g * g, g * b, b * b]
        return cls(index, torch.cat(products, dim=2))

    def counts(self, foreground: torch.Tensor) -> torch.Tensor:
        """Foreground `(B, N) bool` > pixels of each side by bin, `(B, 2, M) float64`."""
        bins = self.products.shape[1]
        both = _sums_by_bin(torch.ones_like(self.index, dtype=torch.int32), self.index + bins * foreground, 2 * bins)
        return both.view(len(both), 2, bins).double()


def compare(
    colours: Colours, foreground: torch.Tensor, density: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fits both mixtures to a labelling `(B, N) bool`, from the densities of the round before if there is one.

    Returns each pixel's log likelihood as background minus that as foreground, `(B, N) float64`, and the densities.
    """
    counts = colours.counts(foreground)
    if density is None:
        density, _ = fit(colours, counts, first_components(colours, counts))
    density, log_weight = fit(colours, counts, likeliest_components(colours, density))
    background, foreground = log_likelihoods(colours, density, log_weight)
    return background - foreground, density


def first_components(colours: Colours, counts: torch.Tensor) -> torch.Tensor:
    """Counts `(B, 2, M)` > each side's component of each bin, `(B, 2, M) int64` below COMPONENTS.

    Each side is split at most COMPONENTS - 1 times: the cluster with the most scatter along its principal axis, at its
    mean (Orchard and Bouman 1991); then Lloyd's steps.
    """
    component = torch.zeros(counts.shape, dtype=torch.int64, device=counts.device)
    numbers = torch.arange(COMPONENTS, device=counts.device)
    exists = (numbers == 0).expand(*counts.shape[:2], COMPONENTS)
    for new in range(1, COMPONENTS):
        count, mean, covariance = _moments(colours, counts, component)
        value, axis = _principal(covariance)
        width, widest = (value * count).max(2, keepdim=True)  # (B, 2, 1)
        normal = axis.take_along_dim(widest[..., None], 2)[:, :, 0]  # (B, 2, 3)
        middle = mean.take_along_dim(widest[..., None], 2)[:, :, 0]
        along = normal @ colours.products[..., 1:4].transpose(1, 2) - (normal * middle).sum(2, keepdim=True)
        component = torch.where((component == widest) & (along > 0) & (width > 0), new, component)
        exists = exists | ((numbers == new) & (width > 0))
    mean = torch.zeros_like(_moments(colours, counts, component)[1])
    for _ in range(LLOYD_STEPS):
        count, latest, _ = _moments(colours, counts, component)
        mean = torch.where((count > 0)[..., None], latest, mean)
        distance = mean.square().sum(3)[..., None] - 2 * mean @ colours.products[:, None, :, 1:4].transpose(2, 3)
        component = distance.masked_fill(~exists[..., None], torch.inf).argmin(2)
    return component


def fit(colours: Colours, counts: torch.Tensor, component: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each component's log density as coefficients of `products` `(B, 10, K)`, and its log weight `(B, K)`.

    A component without pixels has a log weight and a constant of -inf, and zeros otherwise.
    """
    count, mean, covariance = _moments(colours, counts, component)
    xx, xy, xz, yy, yz, zz = covariance.unbind(3)
    xx, yy, zz = xx + SPREAD, yy + SPREAD, zz + SPREAD
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * a + xy * b + xz * c
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    a, b, c, d, e, f = (cofactor / determinant for cofactor in (a, b, c, d, e, f))
    r, g, blue = mean.unbind(3)
    linear = (a * r + b * g + c * blue, b * r + d * g + e * blue, c * r + e * g + f * blue)
    square = linear[0] * r + linear[1] * g + linear[2] * blue
    constant = -0.5 * (determinant.log() + square)
    coefficients = torch.stack([constant, *linear, -a / 2, -b, -c, -d / 2, -e, -f / 2], dim=2)  # (B, 2, 10, C)
    empty = count == 0
    coefficients = torch.where(empty[:, :, None], 0.0, coefficients)
    coefficients[:, :, 0].masked_fill_(empty, -torch.inf)
    log_weight = (count / count.sum(2, keepdim=True).clamp(min=1)).log()
    return coefficients.transpose(1, 2).flatten(2), log_weight.flatten(1)


def likeliest_components(colours: Colours, density: torch.Tensor) -> torch.Tensor:
    """The component of highest density, without its weight, as OpenCV assigns them: `(B, 2, M) int64`."""
    return _log_densities(colours, density).unflatten(2, (2, COMPONENTS)).argmax(3).transpose(1, 2)


def log_likelihoods(
    colours: Colours, density: torch.Tensor, log_weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log likelihoods of each pixel under background and foreground, `(B, N) float64` each, less a common constant."""
    by_bin = (_log_densities(colours, density) + log_weight[:, None]).unflatten(2, (2, COMPONENTS)).logsumexp(3)
    background, foreground = by_bin.unbind(2)
    return background.gather(1, colours.index), foreground.gather(1, colours.index)


def _sums_by_bin(values: torch.Tensor, index: torch.Tensor, bins: int) -> torch.Tensor:
    """`(B, N)` > `(B, bins)` of the same dtype."""
    return values.new_zeros((len(values), bins)).scatter_add_(1, index, values)


def _log_densities(colours: Colours, density: torch.Tensor) -> torch.Tensor:
    """`(B, M, K)`. The constant is added apart: -inf times 0 is NaN."""
    return density[:, None, 0] + colours.products[..., 1:] @ density[:, 1:]


def _moments(
    colours: Colours, counts: torch.Tensor, component: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count `(B, 2, C)`, mean `(B, 2, C, 3)` and covariance `(B, 2, C, 6)`; 0 where there are no pixels."""
    numbers = torch.arange(COMPONENTS, device=component.device)
    member = (component[:, :, None] == numbers[:, None]) * counts[:, :, None]  # (B, 2, C, M)
    sums = (member.flatten(1, 2) @ colours.products).unflatten(1, (2, COMPONENTS))
    count = sums[..., 0]
    means = sums[..., 1:] / count.clamp(min=1)[..., None]
    mean = means[..., :3]
    r, g, b = mean.split(1, dim=3)
    return count, mean, means[..., 3:] - torch.cat([r * r, r * g, r * b, g * g, g * b, b * b], dim=3)


def _principal(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest eigenvalue `(B, 2, C)` of symmetric matrices `(B, 2, C, 6)` and its axis `(B, 2, C, 3)`, by squaring."""
    xx, xy, xz, yy, yz, zz = covariance.unbind(3)
    matrix = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=3).unflatten(3, (3, 3))
    power, tiny = matrix, torch.finfo(matrix.dtype).tiny
    for _ in range(SQUARINGS):
        power = power / power.diagonal(dim1=3, dim2=4).sum(3).clamp(min=tiny)[..., None, None]
        power = power @ power
    widest = power.diagonal(dim1=3, dim2=4).argmax(3)
    axis = power.take_along_dim(widest[..., None, None], 3)[..., 0, :]
    axis = axis / axis.square().sum(3, keepdim=True).sqrt().clamp(min=tiny)
    return ((axis[..., None, :] @ matrix)[..., 0, :] * axis).sum(3), axis
