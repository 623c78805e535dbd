"""Minimum cuts of many images at once, in plain torch operations: total variation on a graph by a primal-dual method.

A cut x in {0, 1} of least energy `sum_i c_i x_i + sum_e w_e |x_e' - x_e|` is any threshold of a minimiser u in [0, 1]
of the same expression, which is convex: the saddle point of `<c, u> + <D u, w q>` with q in [-1, 1] on every edge (D:
the differences along edges). Chambolle and Pock's iteration with steps by a pixel's degree (2011), over-relaxed (Condat
2013), from coarse to fine. Every q bounds the energy from below, so each answer comes with a certificate: its *gap*.

A pixel whose unary outweighs all its edges is *decided*: it starts, and stays, on the side it prefers, and an edge
between two such pixels starts at its best q. torch_fused.py skips tiles of decided pixels for that reason.

State (u, q and the constants of a step) is kept in `dtype`; arithmetic is float32, of bounds float64. The order of the
operations is that of torch_kernels.py: without fused multiply-adds both give the same bits.

Shapes: B images, H x W pixels, 4 edges a pixel: right, down, down right, down left; one that leaves the image has
weight 0.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))  # y, x: with their opposites the 8 neighbours

STEP = 0.3  # s: primal steps are 1 / (s * degree), dual steps s / 2 in units of an edge's weight
RELAXATION = 1.8  # rho
THRESHOLDS = (0.5, 0.1, 0.3, 0.7, 0.9)
CHECK_STEPS = 25  # between looks at the gap
COARSEST_PX = 16  # sides are halved while they stay at least this long
LEVELS = 4
OUTWEIGHS = 1.01  # times its edges' weights: rounding cannot move a decided pixel


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


class Problem:
    """Unary `(B, H, W) float32` and weights `(B, 4, H, W) float32` of one level, and what a step needs of them."""

    def __init__(self, unary: torch.Tensor, weights: torch.Tensor):
        self.unary, self.weights = unary, weights
        self.degree = weights.sum(1)
        for kind, (begin, end) in enumerate(_ends(*unary.shape[1:])):
            self.degree[end] += weights[:, kind][begin]
        self.decided = unary.abs() >= OUTWEIGHS * self.degree

    def constants(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weights, tau and tau * unary in `dtype`."""
        tau = 1 / (STEP * self.degree.clamp(min=1e-3))
        # a step of 16 already leaves [0, 1] whatever the other terms are; half precision has no range for more
        return self.weights.to(dtype), tau.to(dtype), (tau * self.unary).clamp(-16, 16).to(dtype)

    def halved(self) -> "Problem":
        """The problem on half as many pixels a side: unaries are summed, an edge is twice the mean of its four."""
        odd = (0, self.unary.shape[2] % 2, 0, self.unary.shape[1] % 2)
        unary, weights = F.pad(self.unary, odd), F.pad(self.weights, odd)
        unary, weights = 4 * F.avg_pool2d(unary[:, None], 2)[:, 0], 2 * F.avg_pool2d(weights, 2)
        return Problem(unary, weights * inside(unary.shape[1], unary.shape[2], unary))

    def start(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """u and q of the coarsest level."""
        return self._with_decided((self.unary < 0).to(dtype), torch.zeros_like(self.weights, dtype=dtype))

    def prolonged(self, u: torch.Tensor, q: torch.Tensor, coarse: "Problem") -> tuple[torch.Tensor, torch.Tensor]:
        """u and q from half the sides: u is repeated, the flow `weights * q` is halved and limited by this level's."""
        height, width = self.unary.shape[1:]

        def larger(part: torch.Tensor) -> torch.Tensor:
            return part.repeat_interleave(2, -2)[..., :height, :].repeat_interleave(2, -1)[..., :width]

        flow = larger(coarse.weights * q.float() / 2)
        return self._with_decided(larger(u), (flow / self.weights.clamp(min=1e-3)).clamp(-1, 1).to(q.dtype))

    def _with_decided(self, u: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        side = (self.unary < 0).to(u.dtype)
        both = torch.zeros_like(q, dtype=torch.bool)
        for kind, (begin, end) in enumerate(_ends(*self.unary.shape[1:])):
            both[:, kind][begin] = self.decided[begin] & self.decided[end]
        return torch.where(self.decided, side, u), torch.where(both, differences(side), q)


class Method(Protocol):
    """How steps are taken: here in plain torch, in torch_fused.py by fused kernels."""

    def iterate(
        self, u: torch.Tensor, q: torch.Tensor, problem: Problem, steps: int, stop_gap: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """u, q and steps taken `(B,) int64`, where each image's gap is at most `stop_gap`, or after so many steps.

        The gap is looked at every CHECK_STEPS steps, at the threshold 0.5.
        """
        ...

    def best_cut(self, u: torch.Tensor, q: torch.Tensor, problem: Problem) -> tuple[torch.Tensor, ...]:
        """The cheapest mask of THRESHOLDS `(B, H, W) bool`, its cost and a lower bound of all costs, float64."""
        ...


class Plain:
    """Steps in plain torch. An image leaves the batch as soon as it is done, so its cut does not depend on others."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        self.dtype = dtype

    def iterate(
        self, u: torch.Tensor, q: torch.Tensor, problem: Problem, steps: int, stop_gap: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        final_u, final_q, taken = u.clone(), q.clone(), u.new_zeros(len(u), dtype=torch.int64)
        active = torch.arange(len(u), device=u.device)
        unary, weights = problem.unary, problem.weights
        work = problem.constants(self.dtype)
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
                work = (work[0][on], work[1][on], work[2][on])
        return final_u, final_q, taken

    def best_cut(self, u: torch.Tensor, q: torch.Tensor, problem: Problem) -> tuple[torch.Tensor, ...]:
        return bounds(u, q, problem.unary, problem.weights)


def min_cut(
    unary: torch.Tensor,
    weights: torch.Tensor,
    coarse_steps: int = 100,
    fine_steps: int = 600,
    stop_gap: float = 5e-4,
    dtype: torch.dtype = torch.float32,
    method: Method | None = None,
) -> Cuts:
    """Unary `(B, H, W) float32`, weights `(B, 4, H, W) float32` >= 0 > a cut of each image, with its certificate.

    `unary` is a pixel's cost as foreground minus its cost as background. Steps are `Plain`'s unless a method is given.
    """
    method = Plain(dtype) if method is None else method
    pyramid = [Problem(unary, weights)]
    while len(pyramid) < LEVELS and min(pyramid[-1].unary.shape[1:]) >= 2 * COARSEST_PX:
        pyramid.append(pyramid[-1].halved())
    problem = pyramid.pop()
    u, q = problem.start(dtype)
    while pyramid:
        u, q, _ = method.iterate(u, q, problem, coarse_steps, stop_gap)
        coarse, problem = problem, pyramid.pop()
        u, q = problem.prolonged(u, q, coarse)
    u, q, steps = method.iterate(u, q, problem, fine_steps, stop_gap)
    mask, cost, below = method.best_cut(u, q, problem)
    return Cuts(mask, relative_gap(cost, below), cost, steps)


def bounds(
    u: torch.Tensor,
    q: torch.Tensor,
    unary: torch.Tensor,
    weights: torch.Tensor,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The cheapest of some thresholds of u, its cost and a lower bound of all costs, `(B,) float64`."""
    u, unary, weights = u.float(), unary.double(), weights.double()
    saving = unary.clamp(max=0).sum((1, 2))
    # over-relaxed q may lie outside [-1, 1]
    below = (unary + pull(weights * q.double().clamp(-1, 1))).clamp(max=0).sum((1, 2)) - saving

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


def relative_gap(cost: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    gap = (cost - below).clamp(min=0)
    return torch.where(cost > 0, gap / cost.clamp(min=torch.finfo(cost.dtype).tiny), gap)


def differences(values: torch.Tensor) -> torch.Tensor:
    """`(B, H, W)` > `(B, 4, H, W)`: a neighbour's value minus the pixel's own, 0 without a neighbour."""
    batch, height, width = values.shape
    result = values.new_zeros((batch, 4, height, width))
    for kind, (begin, end) in enumerate(_ends(height, width)):
        result[:, kind][begin] = values[end] - values[begin]
    return result


def pull(flow: torch.Tensor) -> torch.Tensor:
    """The transpose of `differences`: `(B, 4, H, W)` > `(B, H, W)`. Flow off the image must be 0."""
    total = torch.neg(flow[:, 0]).sub_(flow[:, 1]).sub_(flow[:, 2]).sub_(flow[:, 3])
    for kind, (begin, end) in enumerate(_ends(flow.shape[2], flow.shape[3])):
        total[end] += flow[:, kind][begin]
    return total


def inside(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """`(4, H, W)`: 1 for edges that end inside the image, else 0; dtype and device of `like`."""
    result = like.new_zeros((4, height, width))
    for kind, (begin, _) in enumerate(_ends(height, width)):
        result[kind][begin] = 1
    return result


def _ends(height: int, width: int) -> list[tuple]:
    """For each kind of edge the index of the pixels where it begins, and of those where it ends."""
    ends = []
    for dy, dx in OFFSETS:
        begin = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        end = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        ends.append((begin, end))
    return ends


def _step(
    u: torch.Tensor, q: torch.Tensor, weights: torch.Tensor, tau: torch.Tensor, tau_unary: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One iteration: `u`, `q` > their successors."""
    dtype, u, q = u.dtype, u.float(), q.float()
    flow = pull(weights.float() * q).mul_(tau.float())
    ahead = (u - tau_unary.float()).sub_(flow).clamp_(0, 1)
    twice = (2 * ahead).sub_(u).to(dtype).float()
    q_ahead = differences(twice).mul_(STEP / 2).add_(q).clamp_(-1, 1)
    return _relaxed(u, ahead).to(dtype), _relaxed(q, q_ahead).to(dtype)


def _relaxed(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Beyond the new value, which is overwritten."""
    return new.sub_(old).mul_(RELAXATION).add_(old)
