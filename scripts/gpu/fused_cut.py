"""A prototype: the primal-dual cut of the engine `torch` as two Triton kernels per step.

u, q and ubar are float32 or float16, arithmetic is float32. A step moves 88 bytes per pixel in float32 and 44 in
float16, where the eager step moves some 480. `TRITON_INTERPRET=1` runs it on a CPU, to test correctness alone.

    primal  reads q, w (a pixel's edges and those that end in it), u, tau, tau * c; writes u, ubar
    dual    reads ubar (of a pixel and 4 neighbours), q; writes q
    check   partial sums of cost (at a threshold), lower bound and saving: a gap per image, as `bounds` computes it

The steps of a level are replayed from one CUDA graph of 25 steps and a check. An image's end is decided on the device:
kernels return at once for images that are done.
"""

import torch
import triton
import triton.language as tl

from locloc.pipeline.masks.grabcut import torch_primal_dual as eager

RHO, STEP, CHECK = eager.RELAXATION, eager.STEP, eager.CHECK_STEPS
BLOCK = 512


@triton.jit
def _primal(u_p, q_p, w_p, tau_p, tu_p, ubar_p, done_p, H, W, RHO: tl.constexpr, BLOCK: tl.constexpr):
    b = tl.program_id(1)
    if tl.load(done_p + b) == 0:
        n = H * W
        p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = p < n
        y, x = p // W, p % W
        plane, edge = b.to(tl.int64) * n, b.to(tl.int64) * 4 * n
        qb, wb = q_p + edge, w_p + edge
        flow = tl.zeros((BLOCK,), tl.float32)
        for k in tl.static_range(4):
            q = tl.load(qb + k * n + p, mask=inside, other=0.0).to(tl.float32)
            w = tl.load(wb + k * n + p, mask=inside, other=0.0).to(tl.float32)
            flow -= q * w
        up = inside & (y > 0)
        left, above = inside & (x > 0), up
        above_left, above_right = up & (x > 0), up & (x < W - 1)
        q = tl.load(qb + p - 1, mask=left, other=0.0).to(tl.float32)
        w = tl.load(wb + p - 1, mask=left, other=0.0).to(tl.float32)
        flow += q * w
        q = tl.load(qb + n + p - W, mask=above, other=0.0).to(tl.float32)
        w = tl.load(wb + n + p - W, mask=above, other=0.0).to(tl.float32)
        flow += q * w
        q = tl.load(qb + 2 * n + p - W - 1, mask=above_left, other=0.0).to(tl.float32)
        w = tl.load(wb + 2 * n + p - W - 1, mask=above_left, other=0.0).to(tl.float32)
        flow += q * w
        q = tl.load(qb + 3 * n + p - W + 1, mask=above_right, other=0.0).to(tl.float32)
        w = tl.load(wb + 3 * n + p - W + 1, mask=above_right, other=0.0).to(tl.float32)
        flow += q * w
        u = tl.load(u_p + plane + p, mask=inside, other=0.0).to(tl.float32)
        tau = tl.load(tau_p + plane + p, mask=inside, other=0.0).to(tl.float32)
        tu = tl.load(tu_p + plane + p, mask=inside, other=0.0).to(tl.float32)
        ahead = tl.minimum(tl.maximum(u - tu - tau * flow, 0.0), 1.0)
        tl.store(ubar_p + plane + p, (2 * ahead - u).to(ubar_p.dtype.element_ty), mask=inside)
        tl.store(u_p + plane + p, (u + RHO * (ahead - u)).to(u_p.dtype.element_ty), mask=inside)


@triton.jit
def _dual(q_p, ubar_p, done_p, H, W, HALF: tl.constexpr, RHO: tl.constexpr, BLOCK: tl.constexpr):
    b = tl.program_id(1)
    if tl.load(done_p + b) == 0:
        n = H * W
        p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = p < n
        y, x = p // W, p % W
        ub, qb = ubar_p + b.to(tl.int64) * n, q_p + b.to(tl.int64) * 4 * n
        own = tl.load(ub + p, mask=inside, other=0.0).to(tl.float32)
        down, right, left = inside & (y < H - 1), inside & (x < W - 1), x > 0
        for k in tl.static_range(4):
            if k == 0:
                there, off = right, 1
            elif k == 1:
                there, off = down, W
            elif k == 2:
                there, off = down & right, W + 1
            else:
                there, off = down & left, W - 1
            other = tl.load(ub + p + off, mask=there, other=0.0).to(tl.float32)
            q = tl.load(qb + k * n + p, mask=there, other=0.0).to(tl.float32)
            ahead = tl.minimum(tl.maximum(q + HALF * (other - own), -1.0), 1.0)
            tl.store(qb + k * n + p, (q + RHO * (ahead - q)).to(q_p.dtype.element_ty), mask=there)


@triton.jit
def _check(u_p, q_p, w_p, c_p, out_p, done_p, H, W, THRESHOLD, BLOCKS, BLOCK: tl.constexpr):
    b = tl.program_id(1)
    if tl.load(done_p + b) == 0:
        n = H * W
        p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = p < n
        y, x = p // W, p % W
        plane, edge = b.to(tl.int64) * n, b.to(tl.int64) * 4 * n
        qb, wb, ub = q_p + edge, w_p + edge, u_p + plane
        c = tl.load(c_p + plane + p, mask=inside, other=0.0).to(tl.float32)
        up, right, left, down = inside & (y > 0), inside & (x < W - 1), inside & (x > 0), inside & (y < H - 1)
        own = (tl.load(ub + p, mask=inside, other=0.0).to(tl.float32) > THRESHOLD).to(tl.float32)
        flow, cut = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
        for k in tl.static_range(4):
            if k == 0:
                there, off = right, 1
            elif k == 1:
                there, off = down, W
            elif k == 2:
                there, off = down & right, W + 1
            else:
                there, off = down & left, W - 1
            w = tl.load(wb + k * n + p, mask=there, other=0.0).to(tl.float32)
            q = tl.load(qb + k * n + p, mask=there, other=0.0).to(tl.float32)
            flow -= w * tl.minimum(tl.maximum(q, -1.0), 1.0)
            other = (tl.load(ub + p + off, mask=there, other=0.0).to(tl.float32) > THRESHOLD).to(tl.float32)
            cut += w * tl.abs(other - own)
        for k in tl.static_range(4):
            if k == 0:
                there, off = left, -1
            elif k == 1:
                there, off = up, -W
            elif k == 2:
                there, off = up & left, -W - 1
            else:
                there, off = up & right, -W + 1
            w = tl.load(wb + k * n + p + off, mask=there, other=0.0).to(tl.float32)
            q = tl.load(qb + k * n + p + off, mask=there, other=0.0).to(tl.float32)
            flow += w * tl.minimum(tl.maximum(q, -1.0), 1.0)
        saving = tl.minimum(c, 0.0)
        at = out_p + (b * BLOCKS + tl.program_id(0)) * 2
        tl.store(at, tl.sum(c * own + cut - saving, axis=0))
        tl.store(at + 1, tl.sum(tl.minimum(c + flow, 0.0) - saving, axis=0))


def _constants(unary, weights, dtype):
    """Weights, tau and tau * unary of the iteration, in `dtype`."""
    degree = weights.sum(1)
    for kind, (begin, end) in enumerate(eager._ends(*unary.shape[1:])):
        degree[end] += weights[:, kind][begin]
    tau = 1 / (STEP * degree.clamp(min=1e-3))
    return [part.to(dtype).contiguous() for part in (weights, tau, (tau * unary).clamp(-16, 16))]


class Level:
    """The buffers of B images at one size. They stay at their addresses, which a CUDA graph needs."""

    def __init__(self, unary, weights, dtype, graphs: bool):
        self.unary, self.weights = unary.clone(), weights.clone()
        self.dtype, self.graphs, self.graph = dtype, graphs, None
        self.batch, self.h, self.w = unary.shape
        self.constants = _constants(self.unary, self.weights, dtype)
        self.u, self.ubar = (torch.empty_like(unary, dtype=dtype) for _ in range(2))
        self.q = torch.empty_like(weights, dtype=dtype)
        self.done, self.steps = (torch.zeros(self.batch, dtype=torch.int32, device=unary.device) for _ in range(2))
        self.blocks = triton.cdiv(self.h * self.w, BLOCK)
        self.sums = torch.zeros(self.batch, self.blocks, 2, device=unary.device)
        self.grid = (self.blocks, self.batch)

    def load_problem(self, unary, weights):
        """Other images of the same number and size."""
        self.unary.copy_(unary)
        self.weights.copy_(weights)
        for buffer, values in zip(self.constants, _constants(unary, weights, self.dtype), strict=True):
            buffer.copy_(values)

    def load_state(self, u, q):
        self.u.copy_(u)
        self.q.copy_(q)
        self.done.zero_()
        self.steps.zero_()

    def step(self):
        w, tau, tu = self.constants
        _primal[self.grid](self.u, self.q, w, tau, tu, self.ubar, self.done, self.h, self.w, RHO, BLOCK, num_warps=4)
        _dual[self.grid](self.q, self.ubar, self.done, self.h, self.w, STEP / 2, RHO, BLOCK, num_warps=4)

    def check(self, threshold=0.5, everyone=False):
        """Cost and lower bound `(B,) float64`, of all images or of those that are not done."""
        done = torch.zeros_like(self.done) if everyone else self.done
        _check[self.grid](
            self.u, self.q, self.weights, self.unary, self.sums, done, self.h, self.w, threshold, self.blocks, BLOCK,
            num_warps=4,
        )  # fmt: skip
        cost, below = self.sums.double().sum(1).unbind(1)
        return cost, below

    def run(self, steps, stop_gap):
        """At most so many steps of each image, rounded up to whole rounds."""
        rounds = -(-steps // CHECK)
        if self.graphs and self.graph is None:
            self.graph = self._capture(stop_gap)
        for number in range(rounds):
            if self.graph is None:
                self._round(stop_gap)
            else:
                self.graph.replay()
            if number + 1 < rounds and bool(self.done.all()):
                break

    def _round(self, stop_gap):
        for _ in range(CHECK):
            self.step()
        self.steps += CHECK * (1 - self.done)
        cost, below = self.check()
        self.done |= (eager.relative_gap(cost, below) <= stop_gap).int()

    def _capture(self, stop_gap):
        """A CUDA graph of one round. The state is as before."""
        state = (self.u, self.q, self.done, self.steps)
        before = [part.clone() for part in state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._round(stop_gap)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._round(stop_gap)
        for part, values in zip(state, before, strict=True):
            part.copy_(values)
        return graph

    def final(self):
        """Mask, gap and cost of the cheapest threshold."""
        best = cost = below = None
        for threshold in eager.THRESHOLDS:
            mask_cost, below = self.check(threshold, everyone=True)
            mask = self.u > threshold
            if best is None:
                best, cost = mask, mask_cost
            else:
                better = mask_cost < cost
                best, cost = torch.where(better[:, None, None], mask, best), torch.where(better, mask_cost, cost)
        return best, eager.relative_gap(cost, below), cost


class FusedCut:
    """`min_cut` of torch_primal_dual for many batches of one shape: buffers and graphs are kept between calls."""

    def __init__(self, dtype=torch.float32, graphs=True, coarse_steps=100, fine_steps=600, stop_gap=5e-4):
        self.dtype, self.graphs = dtype, graphs
        self.coarse_steps, self.fine_steps, self.stop_gap = coarse_steps, fine_steps, stop_gap
        self.levels: dict[int, Level] = {}  # 0 is the finest

    def __call__(self, unary, weights):
        pyramid = [(unary, weights)]
        while len(pyramid) < eager.LEVELS and min(pyramid[-1][0].shape[1:]) >= 2 * eager.COARSEST_PX:
            pyramid.append(eager._halved(*pyramid[-1]))
        levels = [self._level(number, *problem) for number, problem in enumerate(pyramid)]
        unary, weights = pyramid[-1]
        levels[-1].load_state((unary < 0).float(), torch.zeros_like(weights))
        for number in range(len(levels) - 1, 0, -1):
            level = levels[number]
            level.run(self.coarse_steps, self.stop_gap)
            coarse, fine = pyramid[number][1], pyramid[number - 1][1]
            levels[number - 1].load_state(*eager._prolonged(level.u.float(), level.q.float(), coarse, fine))
        levels[0].run(self.fine_steps, self.stop_gap)
        mask, gap, cost = levels[0].final()
        return eager.Cuts(mask, gap, cost, levels[0].steps.long())

    def _level(self, number, unary, weights):
        """The level's buffers with this problem; new ones for another shape."""
        level = self.levels.get(number)
        if level is None or level.unary.shape != unary.shape:
            level = self.levels[number] = Level(unary, weights, self.dtype, self.graphs)
        else:
            level.load_problem(unary, weights)
        return level
