"""Triton kernels of torch_fused.py: a step of the primal-dual method is two of them, and a look at the gaps three.

Work is a list of tiles of TILE x TILE pixels that still change: entry `b * tiles + t` is tile t of image b. Each
program takes every `num_programs`-th entry, up to the `count` that lies on the device; so tiles of decided pixels, and
images that are done, cost nothing. State (u, q, ubar, w, tau, tu) is float32 or float16, arithmetic is float32, sums
are float64. Planes are `(B, H, W)`, edges `(B, 4, H, W)`: right, down, down right, down left (torch_primal_dual.py).

`p` is a pixel's position in its plane, N = H * W; an edge of kind k begins at `k * N + p` and ends k's offset further.
"""

import triton
import triton.language as tl


@triton.jit
def primal(
    entries_p, count_p, u_p, q_p, w_p, tau_p, tu_p, ubar_p, TILES: tl.constexpr, ACROSS: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, RHO: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """u and ubar from q: 13 values a pixel."""
    N: tl.constexpr = H * W
    down, across = tl.arange(0, TILE)[:, None], tl.arange(0, TILE)[None, :]
    for i in range(tl.program_id(0), tl.load(count_p), tl.num_programs(0)):
        entry = tl.load(entries_p + i)
        image, tile = (entry // TILES).to(tl.int64), entry % TILES
        y, x = tile // ACROSS * TILE + down, tile % ACROSS * TILE + across
        inside = (y < H) & (x < W)
        left, up = inside & (x > 0), inside & (y > 0)
        p = image * N + y * W + x
        edge = image * (3 * N) + p
        q, w = q_p + edge, w_p + edge
        flow = -(tl.load(w, inside, 0).to(tl.float32) * tl.load(q, inside, 0).to(tl.float32))
        flow -= tl.load(w + N, inside, 0).to(tl.float32) * tl.load(q + N, inside, 0).to(tl.float32)
        flow -= tl.load(w + 2 * N, inside, 0).to(tl.float32) * tl.load(q + 2 * N, inside, 0).to(tl.float32)
        flow -= tl.load(w + 3 * N, inside, 0).to(tl.float32) * tl.load(q + 3 * N, inside, 0).to(tl.float32)
        flow += tl.load(w - 1, left, 0).to(tl.float32) * tl.load(q - 1, left, 0).to(tl.float32)
        flow += tl.load(w + (N - W), up, 0).to(tl.float32) * tl.load(q + (N - W), up, 0).to(tl.float32)
        back = up & left
        at: tl.constexpr = 2 * N - W - 1
        flow += tl.load(w + at, back, 0).to(tl.float32) * tl.load(q + at, back, 0).to(tl.float32)
        back = up & (x < W - 1)
        at2: tl.constexpr = 3 * N - W + 1
        flow += tl.load(w + at2, back, 0).to(tl.float32) * tl.load(q + at2, back, 0).to(tl.float32)
        u = tl.load(u_p + p, inside, 0).to(tl.float32)
        tau, tu = tl.load(tau_p + p, inside, 0).to(tl.float32), tl.load(tu_p + p, inside, 0).to(tl.float32)
        ahead = tl.minimum(tl.maximum(u - tu - tau * flow, 0.0), 1.0)
        tl.store(ubar_p + p, (2 * ahead - u).to(ubar_p.dtype.element_ty), inside)
        tl.store(u_p + p, (u + RHO * (ahead - u)).to(u_p.dtype.element_ty), inside)


@triton.jit
def dual(
    entries_p, count_p, q_p, ubar_p, TILES: tl.constexpr, ACROSS: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, HALF: tl.constexpr, RHO: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """q from ubar: 9 values a pixel."""
    N: tl.constexpr = H * W
    down, across = tl.arange(0, TILE)[:, None], tl.arange(0, TILE)[None, :]
    for i in range(tl.program_id(0), tl.load(count_p), tl.num_programs(0)):
        entry = tl.load(entries_p + i)
        image, tile = (entry // TILES).to(tl.int64), entry % TILES
        y, x = tile // ACROSS * TILE + down, tile % ACROSS * TILE + across
        inside = (y < H) & (x < W)
        below = inside & (y < H - 1)
        p = image * N + y * W + x
        q_at, ubar_at = q_p + (image * (3 * N) + p), ubar_p + p
        own = tl.load(ubar_at, inside, 0).to(tl.float32)
        for kind in tl.static_range(4):
            if kind == 0:
                there, off = inside & (x < W - 1), 1
            elif kind == 1:
                there, off = below, W
            elif kind == 2:
                there, off = below & (x < W - 1), W + 1
            else:
                there, off = below & (x > 0), W - 1
            q = tl.load(q_at + kind * N, there, 0).to(tl.float32)
            other = tl.load(ubar_at + off, there, 0).to(tl.float32)
            ahead = tl.minimum(tl.maximum(q + HALF * (other - own), -1.0), 1.0)
            tl.store(q_at + kind * N, (q + RHO * (ahead - q)).to(q_p.dtype.element_ty), there)


@triton.jit
def check(
    entries_p, count_p, u_p, q_p, w_p, c_p, sums_p, TILES: tl.constexpr, ACROSS: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, THRESHOLD: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Each tile's share of its image's cost and lower bound: sums `(B, tiles, 2) float64`."""
    N: tl.constexpr = H * W
    down, across = tl.arange(0, TILE)[:, None], tl.arange(0, TILE)[None, :]
    for i in range(tl.program_id(0), tl.load(count_p), tl.num_programs(0)):
        entry = tl.load(entries_p + i)
        image, tile = (entry // TILES).to(tl.int64), entry % TILES
        y, x = tile // ACROSS * TILE + down, tile % ACROSS * TILE + across
        inside = (y < H) & (x < W)
        below, above = inside & (y < H - 1), inside & (y > 0)
        p = image * N + y * W + x
        q_at, w_at, u_at = q_p + (image * (3 * N) + p), w_p + (image * (3 * N) + p), u_p + p
        own = (tl.load(u_at, inside, 0).to(tl.float32) > THRESHOLD).to(tl.float64)
        flow, cut = tl.zeros((TILE, TILE), tl.float64), tl.zeros((TILE, TILE), tl.float64)
        for kind in tl.static_range(4):
            if kind == 0:
                there, back, off = inside & (x < W - 1), inside & (x > 0), 1
            elif kind == 1:
                there, back, off = below, above, W
            elif kind == 2:
                there, back, off = below & (x < W - 1), above & (x > 0), W + 1
            else:
                there, back, off = below & (x > 0), above & (x < W - 1), W - 1
            w = tl.load(w_at + kind * N, there, 0).to(tl.float64)
            q = tl.load(q_at + kind * N, there, 0).to(tl.float64)
            side = (tl.load(u_at + off, there, 0).to(tl.float32) > THRESHOLD).to(tl.float64)
            flow -= w * tl.minimum(tl.maximum(q, -1.0), 1.0)
            cut += w * tl.abs(side - own)
            w = tl.load(w_at + (kind * N - off), back, 0).to(tl.float64)
            q = tl.load(q_at + (kind * N - off), back, 0).to(tl.float64)
            flow += w * tl.minimum(tl.maximum(q, -1.0), 1.0)
        c = tl.load(c_p + p, inside, 0).to(tl.float64)
        saving = tl.minimum(c, 0.0)
        sums_at = sums_p + (image * TILES + tile) * 2
        tl.store(sums_at, tl.sum(c * own + cut - saving))
        tl.store(sums_at + 1, tl.sum(tl.minimum(c + flow, 0.0) - saving))


@triton.jit
def decide(sums_p, done_p, taken_p, stop_gap_p, TILES: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """One program an image: adds its steps, and sets `done` where its gap is at most `stop_gap`."""
    b = tl.program_id(0)
    if tl.load(done_p + b) == 0:
        cost, below = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
        for start in range(0, TILES, BLOCK):
            tile = start + tl.arange(0, BLOCK)
            at = sums_p + (b.to(tl.int64) * TILES + tile) * 2
            cost += tl.load(at, tile < TILES, 0)
            below += tl.load(at + 1, tile < TILES, 0)
        total = tl.sum(cost)
        gap = tl.maximum(total - tl.sum(below), 0.0)
        # gap / total <= stop_gap, and for a cost of 0 a gap of at most stop_gap
        limit = tl.load(stop_gap_p) * tl.where(total > 0, total, 1.0)
        tl.store(taken_p + b, tl.load(taken_p + b) + STEPS)
        tl.store(done_p + b, (gap <= limit).to(tl.int32))


@triton.jit
def gather(
    active_p, active_count_p, done_p, entries_p, count_p, BATCH: tl.constexpr, TILES: tl.constexpr,
    IMAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program an image: lists its active tiles after those of the images before it that are not done."""
    b = tl.program_id(0)
    other = tl.arange(0, IMAGES)
    there = other < BATCH
    counts = tl.load(active_count_p + other, there, 0)
    counts = tl.where(tl.load(done_p + other, there, 1) == 0, counts, 0)
    first = tl.sum(tl.where(other < b, counts, 0))
    own = tl.sum(tl.where(other == b, counts, 0))
    for start in range(0, own, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        listed = tl.load(active_p + b.to(tl.int64) * TILES + tile, tile < own, 0)
        tl.store(entries_p + first + tile, b * TILES + listed, tile < own)
    if b == BATCH - 1:
        tl.store(count_p, first + own)
