"""The primal-dual steps of torch_primal_dual.py as Triton kernels, without a host read: for CUDA devices.

A step is two kernels. 25 steps, a look at the gaps and a new list of tiles that still change are one CUDA graph; an
image's end is decided on the device. Buffers and graphs are kept for the next batch of as many images of that size.
`TRITON_INTERPRET=1` runs it all on a CPU, graphs aside, to test it.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
import triton

from . import torch_kernels as kernels
from .torch_primal_dual import CHECK_STEPS, RELAXATION, STEP, THRESHOLDS, Cuts, Problem, min_cut

TILE_PX = 16
MOST_IMAGES = 512  # at once: `gather` holds a count of each
PROGRAMS_A_PROCESSOR = 16  # of 4 warps: as many as fit
BLOCK = 256


class Level:
    """The buffers of B images `(H, W)` of one level. They stay at their addresses, which a CUDA graph needs."""

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, tile_px: int = TILE_PX):
        batch, height, width = shape
        self.shape, self.dtype, self.tile_px = shape, dtype, tile_px
        self.down, self.across = triton.cdiv(height, tile_px), triton.cdiv(width, tile_px)
        self.tiles = self.down * self.across
        self.unary = torch.zeros(shape, device=device)
        self.weights = torch.zeros((batch, 4, height, width), device=device)
        self.tau, self.tau_unary, self.u, self.ubar = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(4))
        self.q = torch.zeros((batch, 4, height, width), dtype=dtype, device=device)
        same = dtype == self.weights.dtype
        self.step_weights = self.weights if same else torch.zeros_like(self.q)
        # by image: tiles with work, the first ones of `active`
        self.active = torch.zeros((batch, self.tiles), dtype=torch.int32, device=device)
        self.active_count, self.taken = (torch.zeros(batch, dtype=torch.int32, device=device) for _ in range(2))
        self.done = torch.ones(batch, dtype=torch.int32, device=device)
        self.entries = torch.zeros(batch * self.tiles, dtype=torch.int32, device=device)
        self.every_entry = torch.arange(batch * self.tiles, dtype=torch.int32, device=device)
        self.count = torch.zeros(1, dtype=torch.int32, device=device)
        self.every_count = torch.full((1,), batch * self.tiles, dtype=torch.int32, device=device)
        self.stop_gap = torch.zeros(1, dtype=torch.float64, device=device)
        self.sums = torch.zeros((batch, self.tiles, 2), dtype=torch.float64, device=device)
        on_gpu = device.type == "cuda"
        processors = torch.cuda.get_device_properties(device).multi_processor_count if on_gpu else 1
        self.programs = min(PROGRAMS_A_PROCESSOR * processors if on_gpu else 2, batch * self.tiles)
        self.graph: torch.cuda.CUDAGraph | None = None
        if on_gpu:
            self.graph = self._captured_round()

    def load(self, u: torch.Tensor, q: torch.Tensor, problem: Problem, stop_gap: float) -> None:
        """Fills the first slots of the buffers; the other ones are done."""
        images = len(u)
        weights, tau, tau_unary = problem.constants(self.dtype)
        pairs = (
            (self.unary, problem.unary), (self.weights, problem.weights), (self.step_weights, weights),
            (self.tau, tau), (self.tau_unary, tau_unary), (self.u, u), (self.ubar, u), (self.q, q),
        )  # fmt: skip
        for buffer, values in pairs:
            buffer[:images].copy_(values)
        active = self._active_tiles(problem.decided)
        self.active[:images].copy_(active.to(torch.uint8).argsort(dim=1, descending=True, stable=True))
        self.active_count.zero_()
        self.active_count[:images].copy_(active.sum(1))
        self.done.fill_(1)
        self.done[:images].zero_()
        self.taken.zero_()
        self.stop_gap.fill_(stop_gap)
        self.check(THRESHOLDS[0], everywhere=True)  # the sums of tiles that are not active stay
        self.gather()

    def _active_tiles(self, decided: torch.Tensor) -> torch.Tensor:
        """Decided pixels `(B, H, W) bool` > tiles with one that is not, or that is next to one, `(B, tiles) bool`."""
        changing = F.max_pool2d((~decided).float()[:, None], 3, stride=1, padding=1)
        margin = (0, self.across * self.tile_px - changing.shape[3], 0, self.down * self.tile_px - changing.shape[2])
        return F.max_pool2d(F.pad(changing, margin), self.tile_px).flatten(1) > 0

    def step(self) -> None:
        self.primal()
        self.dual()

    def primal(self) -> None:
        planes = (self.u, self.q, self.step_weights, self.tau, self.tau_unary, self.ubar)
        kernels.primal[(self.programs,)](self.entries, self.count, *planes, RHO=RELAXATION, **self._tiling())

    def dual(self) -> None:
        factors = {"HALF": STEP / 2, "RHO": RELAXATION}
        kernels.dual[(self.programs,)](self.entries, self.count, self.q, self.ubar, **factors, **self._tiling())

    def check(self, threshold: float, everywhere: bool = False) -> None:
        """Costs at a threshold and lower bounds, into `sums`: of tiles that still change, or of all."""
        where = (self.every_entry, self.every_count) if everywhere else (self.entries, self.count)
        planes = (self.u, self.q, self.weights, self.unary)
        kernels.check[(self.programs,)](*where, *planes, self.sums, THRESHOLD=threshold, **self._tiling())

    def _tiling(self) -> dict[str, int]:
        _, height, width = self.shape
        tiles = {"TILES": self.tiles, "ACROSS": self.across, "TILE": self.tile_px}
        return tiles | {"H": height, "W": width, "num_warps": 4}

    def gather(self) -> None:
        batch = self.shape[0]
        kernels.gather[(batch,)](
            self.active, self.active_count, self.done, self.entries, self.count, BATCH=batch, TILES=self.tiles,
            IMAGES=triton.next_power_of_2(batch), BLOCK=BLOCK,
        )  # fmt: skip

    def round(self, steps: int = CHECK_STEPS) -> None:
        """So many steps of the images that are not done, a look at their gaps, a new list of tiles."""
        for _ in range(steps):
            self.step()
        self.check(THRESHOLDS[0])
        kernels.decide[(self.shape[0],)](
            self.sums, self.done, self.taken, self.stop_gap, TILES=self.tiles, STEPS=steps, BLOCK=BLOCK
        )
        self.gather()

    def run(self, steps: int) -> None:
        """At most so many steps. All are launched, without a look at how many are needed: idle ones cost little."""
        for _ in range(steps // CHECK_STEPS):
            if self.graph is None:
                self.round()
            else:
                self.graph.replay()
        if steps % CHECK_STEPS:
            self.round(steps % CHECK_STEPS)

    def best_cut(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The cheapest mask `(B, H, W) bool` of THRESHOLDS, its cost and the lower bound `(B,) float64`."""
        best, cost, below = self._cut(THRESHOLDS[0])
        for threshold in THRESHOLDS[1:]:
            mask, mask_cost, _ = self._cut(threshold)
            better = mask_cost < cost
            best, cost = torch.where(better[:, None, None], mask, best), torch.where(better, mask_cost, cost)
        return best, cost, below

    def _cut(self, threshold: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self.check(threshold, everywhere=True)
        cost, below = self.sums.sum(1).unbind(1)
        return self.u.float() > threshold, cost, below

    def _captured_round(self) -> torch.cuda.CUDAGraph:
        """A CUDA graph of one round. All images are done here, so that nothing is computed."""
        side = torch.cuda.Stream(self.u.device)
        side.wait_stream(torch.cuda.current_stream(self.u.device))
        with torch.cuda.stream(side):
            self.round()  # compiles the kernels
        torch.cuda.current_stream(self.u.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.round()
        return graph


class Fused:
    """The steps of `Method` by fused kernels: buffers for `slots` images of each level."""

    def __init__(self, slots: int, dtype: torch.dtype, device: torch.device, tile_px: int = TILE_PX):
        self.slots, self.dtype, self.device, self.tile_px = slots, dtype, device, tile_px
        self.levels: dict[tuple[int, ...], Level] = {}  # by height and width

    def iterate(
        self, u: torch.Tensor, q: torch.Tensor, problem: Problem, steps: int, stop_gap: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        level = self._level(problem)
        level.load(u, q, problem, stop_gap)
        level.run(steps)
        images = len(u)
        return level.u[:images], level.q[:images], level.taken[:images].long()

    def best_cut(self, u: torch.Tensor, q: torch.Tensor, problem: Problem) -> tuple[torch.Tensor, ...]:
        """Of the u and q that `iterate` left in the buffers."""
        mask, cost, below = self._level(problem).best_cut()
        images = len(u)
        return mask[:images], cost[:images], below[:images]

    def _level(self, problem: Problem) -> Level:
        height, width = problem.unary.shape[1:]
        if (height, width) not in self.levels:
            self.levels[height, width] = Level((self.slots, height, width), self.dtype, self.device, self.tile_px)
        return self.levels[height, width]


@lru_cache(maxsize=2)
def _buffers(slots: int, side_px: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Fused:
    """Buffers that stay from batch to batch; of two sizes at most, for the memory they take."""
    return Fused(slots, dtype, device)


def fused_min_cut(
    unary: torch.Tensor,
    weights: torch.Tensor,
    coarse_steps: int,
    fine_steps: int,
    stop_gap: float,
    dtype: torch.dtype,
) -> Cuts:
    """As `min_cut`, with no host read. One thread at a time, since batches share buffers.

    A mask may differ from `Plain`'s in a few pixels: a GPU fuses multiplications and additions.
    """
    slots = triton.next_power_of_2(len(unary))  # so that batches of odd sizes share buffers and graphs
    method = _buffers(slots, tuple(unary.shape[1:]), dtype, unary.device)
    return min_cut(unary, weights, coarse_steps, fine_steps, stop_gap, dtype, method)
