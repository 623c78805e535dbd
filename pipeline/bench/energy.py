"""How far masks are above the least cut, on a graph whose minimum the engine `fast` finds exactly.

The graph is that of the first round of `fast`: its mixtures, fitted to the trimap, and its edge weights. A mask's cost
is the weight of edges between neighbours on different sides, plus the terminal weights of pixels on the side that their
colour speaks against. It leaves out the constant of GrabCut's energy, which would only make gaps look smaller. The
least cost is the value of the engine's maximum flow: no cut is cheaper than a flow.

Other engines have other mixtures, so their masks are not the least cut of this graph even if their own cut was exact:
the shared graph compares masks by one measure. If an engine's own graph or certificate is known, its row has that gap
too.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..masks.grabcut import BatchEngine, Engine, FastGrabCut
from ..masks.grabcut.fast import COMPONENTS
from ..masks.grabcut.trimap import trimap_foreground

if TYPE_CHECKING:
    from .problems import Problem

EXACT, CERTIFIED = "exact cut", "certificate"


@dataclass(frozen=True)
class Graph:
    """Records as fast_cut has them: capacities between free pixels, and each one's excess."""

    record: np.ndarray  # (n,) int32
    nodes: np.ndarray  # (m,) int32, index of each free pixel's record
    pixels: np.ndarray  # (m,) int32, each free pixel's number in the image
    stride: int  # records a row
    neighbours: int

    def cost(self, mask: np.ndarray) -> int:
        """Cost of a mask `(H, W) bool`, in thousandths of a nat. Sure pixels are not counted."""
        from ..masks.grabcut.fast_cut import EXCESS, RECORD
        from ..masks.grabcut.fast_links import DOWN, RIGHT

        labels = mask.reshape(-1)[self.pixels]
        side = np.zeros(len(self.record), bool)
        side[self.nodes] = labels
        terminal = self.record[self.nodes + EXCESS].astype(np.int64)
        total = terminal[(terminal > 0) & ~labels].sum() - terminal[(terminal < 0) & labels].sum()
        for d in range(1, self.neighbours, 2):  # each pair once; a capacity to no node is 0
            neighbour = side[self.nodes + RECORD * (DOWN[d] * self.stride + RIGHT[d])]
            total += self.record[self.nodes + d].astype(np.int64)[side[self.nodes] != neighbour].sum()
        return int(total)

    def least(self) -> int:
        """The value of a maximum flow, which is the cost of the least cut."""
        from ..masks.grabcut.fast_cut import EXCESS, cut

        record = self.record.copy()
        cut(record, self.nodes, self.stride, self.neighbours)
        before, after = (part[self.nodes + EXCESS].astype(np.int64).clip(min=0).sum() for part in (self.record, record))
        return int(before - after)


def first_graph(engine: FastGrabCut, rgb: np.ndarray, trimap: np.ndarray) -> Graph:
    """The graph of the engine's first round on an image `(H, W, 3) uint8` and a usable trimap `(H, W) uint8`."""
    from ..masks.grabcut.fast_colours import COLUMNS, compare
    from ..masks.grabcut.fast_links import charge

    rgb, codes = np.require(rgb, np.uint8, ["C", "W"]), np.require(trimap, np.uint8, ["C", "W"])
    index, colours, record, nodes, pixels = engine.colours_and_graph(rgb, codes, engine.gamma)
    labels = trimap_foreground(codes).reshape(-1).view(np.uint8)
    table = compare(index, colours, labels, np.zeros((2, COMPONENTS, COLUMNS)), True)
    no_prior = np.zeros(codes.size, np.float32)
    charge(record, nodes, pixels, np.zeros(len(nodes), np.int32), table, index, no_prior)
    return Graph(record, nodes, pixels, codes.shape[1] + 2, engine.neighbours)


@dataclass(frozen=True)
class EnergyRow:
    """Gaps of one engine: costs above the least, as shares of it. The shared graph is that of `fast`, 8 neighbours."""

    name: str
    problems: int
    shared_mean: float
    shared_max: float
    own: str | None  # source of the engine's own gap: EXACT (its own graph) or CERTIFIED (its certificate)
    own_mean: float | None
    own_max: float | None


def score_energies(problems: list["Problem"], engines: Mapping[str, Engine]) -> list[EnergyRow]:
    """The gaps of engines of one round, on the shared graph and on their own. Skips problems whose least cost is 0.

    A `BatchEngine` certifies its own cut; a `FastGrabCut` has its own graph.
    """
    shared: dict[str, list[float]] = {name: [] for name in engines}
    own: dict[str, list[float]] = {name: [] for name in engines}
    for problem in problems:
        graph = first_graph(FastGrabCut(), problem.rgb, problem.trimap)
        least = graph.least()
        if not least:
            continue
        for name, engine in engines.items():
            mask, gap = _mask_and_gap(engine, problem)
            shared[name].append(graph.cost(mask) / least - 1)
            own[name] += [] if gap is None else [gap]
    return [
        EnergyRow(name, len(gaps), statistics.fmean(gaps), max(gaps), *_own_gaps(engines[name], own[name]))
        for name, gaps in shared.items()
        if gaps
    ]


def _mask_and_gap(engine: Engine, problem: "Problem") -> tuple[np.ndarray, float | None]:
    if isinstance(engine, BatchEngine):
        masks, gaps = engine.batch(problem.rgb[None], problem.trimap[None], "cpu", [problem.seed])
        return masks[0], float(gaps[0])
    mask = engine(problem.rgb, problem.trimap, seed=problem.seed)
    if not isinstance(engine, FastGrabCut):
        return mask, None
    graph = first_graph(engine, problem.rgb, problem.trimap)
    least = graph.least()
    return mask, graph.cost(mask) / least - 1 if least else None


def _own_gaps(engine: Engine, gaps: list[float]) -> tuple[str | None, float | None, float | None]:
    if not gaps:
        return None, None, None
    return CERTIFIED if isinstance(engine, BatchEngine) else EXACT, statistics.fmean(gaps), max(gaps)
