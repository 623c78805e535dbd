"""Minimum cuts of many images at once, in plain torch operations: total variation on a graph by a primal-dual method.

A cut x in {0, 1} of least energy `sum_i c_i x_i + sum_e w_e |x_e' - x_e|` is any threshold of a minimiser u in [0, 1]
of the same expression, which is convex: the saddle point of `<c, u> + <D u, w q>` with q in [-1, 1] on every edge (D:
the differences along edges). Chambolle and Pock's iteration with steps by a pixel's degree (2011), over-relaxed (Condat
2013), from coarse to fine. Every q bounds the energy from below, so each answer comes with a certificate: its *gap*.

Shapes: B images, H x W pixels, 4 edges a pixel: right, down, down right, down left; one that leaves the image has
weight 0.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))  # y, x: with their opposites the 8 neighbours

STEP = 0.3  # s: primal steps are 1 / (s * degree), dual steps s / 2 in units of an edge's weight
RELAXATION = 1.8  # rho
THRESHOLDS = (0.5, 0.1, 0.3, 0.7, 0.9)
CHECK_STEPS = 25  # between looks at the gap
COARSEST_PX = 16  # sides are halved while they stay at least this long
LEVELS = 4


@dataclass(frozen=True)
class Cuts:
    """The cuts of B images. `gap` bounds how far each is above the least cut, as a share of its own cost.

    A cut's cost is the weight of its edges, plus the unary costs of pixels on the side they do not prefer. It leaves
    out the constant of the energy, which would make any gap look small.
    """

    mask: torch.Tensor  # (B, H, W) bool
    gap: torch.Tensor  # (B,) float64, 0 or more
    cost: torch.Tensor  # (B,) float64
    steps: torch.Tensor  # (B,) int64, at the finest level


def _ends(height: int, width: int) -> list[tuple]:
    """For each kind of edge the index of the pixels where it begins, and of those where it ends."""
    ends = []
    for dy, dx in OFFSETS:
        begin = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        end = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        ends.append((begin, end))
    return ends


def differences(values: torch.Tensor) -> torch.Tensor:
    """`(B, H, W)` > `(B, 4, H, W)`: a neighbour's value minus the pixel's own, 0 without a neighbour."""
    batch, height, width = values.shape
    result = values.new_zeros((batch, 4, height, width))
    for kind, (begin, end) in enumerate(_ends(height, width)):
        result[:, kind][begin] = values[end] - values[begin]
    return result


def pull(flow: torch.Tensor) -> torch.Tensor:
    """The transpose of `differences`: `(B, 4, H, W)` > `(B, H, W)`. Flow off the image must be 0."""
    total = -flow.sum(1)
    for kind, (begin, end) in enumerate(_ends(flow.shape[2], flow.shape[3])):
        total[end] += flow[:, kind][begin]
    return total


def _step(u, q, weights, tau, tau_unary):
    """One iteration: `u`, `q` > their successors."""
    ahead = (u - tau_unary - tau * pull(weights * q)).clamp(0, 1)
    q_ahead = (q + (STEP / 2) * differences(2 * ahead - u)).clamp(-1, 1)
    return torch.lerp(u, ahead, RELAXATION), torch.lerp(q, q_ahead, RELAXATION)


def bounds(u, q, unary, weights, thresholds=THRESHOLDS):
    """The cheapest of some thresholds of u, its cost and a lower bound of all costs, in the dtype of `unary`."""
    saving = unary.clamp(max=0).sum((1, 2))
    # over-relaxed q may lie outside [-1, 1]
    below = (unary + pull(weights * q.to(unary.dtype).clamp(-1, 1))).clamp(max=0).sum((1, 2)) - saving

    def mask_and_cost(threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
        mask = u > threshold
        x = mask.to(unary.dtype)
        return mask, (unary * x).sum((1, 2)) + (weights * differences(x).abs()).sum((1, 2, 3)) - saving

    best, cost = mask_and_cost(thresholds[0])
    for threshold in thresholds[1:]:
        mask, mask_cost = mask_and_cost(threshold)
        better = mask_cost < cost
        best, cost = torch.where(better[:, None, None], mask, best), torch.where(better, mask_cost, cost)
    return best, cost, below


def relative_gap(cost, below):
    gap = (cost - below).clamp(min=0)
    return torch.where(cost > 0, gap / cost.clamp(min=torch.finfo(cost.dtype).tiny), gap)


def min_cut(
    unary: torch.Tensor,
    weights: torch.Tensor,
    coarse_steps: int = 100,
    fine_steps: int = 600,
    stop_gap: float = 5e-4,
    dtype: torch.dtype = torch.float32,
) -> Cuts:
    """Unary `(B, H, W) float`, weights `(B, 4, H, W) float` of 0 or more > a cut of each image, with its certificate.

    `unary` is a pixel's cost as foreground minus its cost as background. An image leaves the batch as soon as its gap
    is at most `stop_gap`, so its cut does not depend on the others.
    """
    pyramid = [(unary, weights)]
    while len(pyramid) < LEVELS and min(pyramid[-1][0].shape[1:]) >= 2 * COARSEST_PX:
        pyramid.append(_halved(*pyramid[-1]))
    unary, weights = pyramid.pop()
    u, q = (unary < 0).to(dtype), torch.zeros_like(weights, dtype=dtype)
    while pyramid:
        u, q, _ = _iterate(u, q, unary, weights, coarse_steps, stop_gap)
        coarse, (unary, weights) = weights, pyramid.pop()
        u, q = _prolonged(u, q, coarse, weights)
    u, q, steps = _iterate(u, q, unary, weights, fine_steps, stop_gap)
    mask, cost, below = bounds(u, q, unary.double(), weights.double())
    return Cuts(mask, relative_gap(cost, below), cost, steps)


def _iterate(u, q, unary, weights, steps, stop_gap):
    """At most `steps` steps of each image: `u`, `q` and how many each took."""
    taken = torch.zeros(len(u), dtype=torch.int64, device=u.device)
    active = torch.arange(len(u), device=u.device)  # images that are still iterated
    final_u, final_q = u.clone(), q.clone()
    degree = weights.sum(1)
    for kind, (begin, end) in enumerate(_ends(unary.shape[1], unary.shape[2])):
        degree[end] += weights[:, kind][begin]
    tau = 1 / (STEP * degree.clamp(min=1e-3))
    # a step of 16 already leaves [0, 1] whatever the other terms are; half precision has no range for more
    work = [part.to(u.dtype) for part in (weights, tau, (tau * unary).clamp(-16, 16))]
    for done in range(0, steps, CHECK_STEPS):
        for _ in range(min(CHECK_STEPS, steps - done)):
            u, q = _step(u, q, *work)
        taken[active] = min(done + CHECK_STEPS, steps)
        final_u[active], final_q[active] = u, q
        _, cost, below = bounds(u, q, unary, weights, THRESHOLDS[:1])
        on = torch.nonzero(relative_gap(cost, below) > stop_gap)[:, 0]
        if not len(on):
            break
        if len(on) < len(u):
            active, u, q, unary, weights = active[on], u[on], q[on], unary[on], weights[on]
            work = [part[on] for part in work]
    return final_u, final_q, taken


def _halved(unary: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same problem on half as many pixels a side: unaries are summed, an edge is twice the mean of its four."""
    odd = (0, unary.shape[2] % 2, 0, unary.shape[1] % 2)
    unary, weights = F.pad(unary, odd), F.pad(weights, odd)
    unary, weights = 4 * F.avg_pool2d(unary[:, None], 2)[:, 0], 2 * F.avg_pool2d(weights, 2)
    return unary, weights * inside(unary.shape[1], unary.shape[2], unary)


def inside(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """`(4, H, W)`: 1 for edges that end inside the image, else 0; dtype and device of `like`."""
    result = like.new_zeros((4, height, width))
    for kind, (begin, _) in enumerate(_ends(height, width)):
        result[kind][begin] = 1
    return result


def _prolonged(u, q, coarse: torch.Tensor, fine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """u and q at twice the sides: u is repeated, the flow `weights * q` is halved and limited by the finer edges."""
    height, width = fine.shape[2:]

    def larger(part: torch.Tensor) -> torch.Tensor:
        return part.repeat_interleave(2, -2)[..., :height, :].repeat_interleave(2, -1)[..., :width]

    flow = larger(coarse * q.to(coarse.dtype) / 2)
    return larger(u), (flow / fine.clamp(min=1e-3)).clamp(-1, 1).to(q.dtype)
