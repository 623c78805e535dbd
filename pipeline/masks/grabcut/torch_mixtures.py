"""Two colour mixtures per image, of full-covariance Gaussians, for many images at once; no random numbers.

Fitting a mixture needs sums of products of its pixels' colours, and a Gaussian's log density is linear in the same
products: both are batched matrix products. Shapes: B images, N pixels; K = 2 sides x COMPONENTS Gaussians, the
background's first; 10 products 1, r, g, b, rr, rg, rb, gg, gb, bb of colours minus 128, in float64, since covariances
are small differences of large sums.
"""

import torch

COMPONENTS = 5
LLOYD_STEPS = 4
NOISE = 0.01  # variance added to each Gaussian: a component of one colour has a variance of 0

_ROW, _COLUMN = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)


def products(rgb: torch.Tensor) -> torch.Tensor:
    """Colours `(B, N, 3) uint8` > `(B, N, 10) float64`."""
    colour = rgb.double() - 128
    return torch.cat([torch.ones_like(colour[..., :1]), colour, colour[..., _ROW] * colour[..., _COLUMN]], dim=2)


def first_components(features: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Foreground `(B, N) bool` > component `(B, N) int64`, by Orchard and Bouman's splits (1991) and Lloyd's steps.

    Each side is split COMPONENTS - 1 times: the component with the most scatter along one direction, at its mean.
    """
    batch = torch.arange(len(features), device=features.device)
    component = foreground.long() * COMPONENTS
    for new in range(1, COMPONENTS):
        count, mean, covariance = _moments(features, component)
        spread, directions = torch.linalg.eigh(covariance * count[..., None, None])
        for side in (0, COMPONENTS):
            split = side + spread[:, side : side + COMPONENTS, 2].argmax(1)  # (B,)
            direction, middle = directions[batch, split, :, 2], mean[batch, split]
            along = ((features[..., 1:4] - middle[:, None]) @ direction[..., None])[..., 0]
            component = torch.where((component == split[:, None]) & (along > 1e-6), side + new, component)
    for _ in range(LLOYD_STEPS):
        count, mean, _ = _moments(features, component)
        distance = mean.square().sum(2)[:, None] - 2 * features[..., 1:4] @ mean.transpose(1, 2)
        component = _of_own_side(-distance.masked_fill(count[:, None] == 0, torch.inf), foreground).argmax(2)
    return component


def fit(features: torch.Tensor, component: torch.Tensor) -> torch.Tensor:
    """Each component's log weight plus log density as coefficients of `features`: `(B, 10, K)`.

    A component without pixels has a constant of -inf and zeros otherwise.
    """
    count, mean, covariance = _moments(features, component)
    precision = torch.linalg.inv(covariance)
    sides = count.unflatten(1, (2, COMPONENTS))
    weight = (sides / sides.sum(2, keepdim=True).clamp(min=1)).flatten(1)
    linear = (precision @ mean[..., None])[..., 0]
    constant = weight.log() - 0.5 * (torch.linalg.slogdet(covariance)[1] + (linear * mean).sum(2))
    quadratic = -precision[..., _ROW, _COLUMN]
    for diagonal in (0, 3, 5):
        quadratic[..., diagonal] /= 2
    empty = (count == 0)[..., None]
    rest = torch.cat([linear, quadratic], dim=2).masked_fill(empty, 0)
    return torch.cat([constant.masked_fill(empty[..., 0], -torch.inf)[..., None], rest], dim=2).transpose(1, 2)


def likeliest_components(features: torch.Tensor, fitted: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Each pixel's likeliest component of its own side, `(B, N) int64`."""
    return _of_own_side(_log_density(features, fitted), foreground).argmax(2)


def log_likelihoods(features: torch.Tensor, fitted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log likelihoods of each pixel under background and foreground, `(B, N) float64` each, less a common constant."""
    return _log_density(features, fitted).unflatten(2, (2, COMPONENTS)).logsumexp(3).unbind(2)


def _log_density(features: torch.Tensor, fitted: torch.Tensor) -> torch.Tensor:
    return fitted[:, None, 0] + features[..., 1:] @ fitted[:, 1:]  # the constant is added apart: -inf times 0 is NaN


def _of_own_side(score: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Scores `(B, N, K)` with -inf for the other side's components."""
    of_foreground = torch.arange(2 * COMPONENTS, device=score.device) >= COMPONENTS
    return score.masked_fill(of_foreground != foreground[..., None], -torch.inf)


def _moments(features: torch.Tensor, component: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count `(B, K)`, mean `(B, K, 3)` and covariance `(B, K, 3, 3)`; 0 and NOISE where there are no pixels."""
    member = torch.nn.functional.one_hot(component, 2 * COMPONENTS).to(features.dtype)
    sums = member.transpose(1, 2) @ features
    count = sums[..., 0]
    means = sums[..., 1:] / count.clamp(min=1)[..., None]
    mean = means[..., :3]
    second = means[..., 3:] - mean[..., _ROW] * mean[..., _COLUMN]
    covariance = second.new_zeros((*second.shape[:2], 3, 3))
    covariance[..., _ROW, _COLUMN] = second
    covariance[..., _COLUMN, _ROW] = second
    return count, mean, covariance + NOISE * torch.eye(3, dtype=second.dtype, device=second.device)
