"""How far masks are from the least cut: on a graph of known weights, whose minimum the engine `fast` finds exactly.

The graph is that of the first round of `fast`: its mixtures, fitted to the trimap, and the prices of neighbours.
What a mask costs in it is what it pays: edges between neighbours on different sides, and terminals of pixels that go
against their colour's word, without the constant of GrabCut's energy, which would only make gaps look smaller. The
least cost is known from below, as the value of the flow that the engine pushes: no cut is cheaper than a flow.

Another engine has mixtures of its own, so its mask is not the least cut here even where its own cut was exact: masks
are compared by one measure, not cuts. Where an engine's own graph or certificate is known, its row says that gap too.
"""

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..masks.grabcut import FastGrabCut
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
    pixels: np.ndarray  # (m,) int32, its number in the image
    stride: int  # records a row
    neighbours: int

    def cost(self, mask: np.ndarray) -> int:
        """Of a mask `(H, W) bool`, in thousandths of a nat. What it says of sure pixels is not looked at."""
        from ..masks.grabcut.fast_cut import EXCESS, RECORD
        from ..masks.grabcut.fast_links import DOWN, RIGHT

        labels = mask.reshape(-1)[self.pixels]
        side = np.zeros(len(self.record), bool)
        side[self.nodes] = labels
        terminal = self.record[self.nodes + EXCESS].astype(np.int64)
        total = terminal[(terminal > 0) & ~labels].sum() - terminal[(terminal < 0) & labels].sum()
        for d in range(1, self.neighbours, 2):  # each pair once; a capacity to no node is 0
            other = side[self.nodes + RECORD * (DOWN[d] * self.stride + RIGHT[d])]
            total += self.record[self.nodes + d].astype(np.int64)[side[self.nodes] != other].sum()
        return int(total)

    def least(self) -> int:
        """The value of a flow that nothing can be added to: what every cut costs at least, and the least one just."""
        from ..masks.grabcut.fast_cut import EXCESS, cut

        record = self.record.copy()
        cut(record, self.nodes, self.stride, self.neighbours)
        given, left = (part[self.nodes + EXCESS].astype(np.int64).clip(min=0).sum() for part in (self.record, record))
        return int(given - left)


def first_graph(engine: FastGrabCut, rgb: np.ndarray, trimap: np.ndarray) -> Graph:
    """Of the engine's first round on an image `(H, W, 3) uint8` and a trimap `(H, W) uint8` that it can run on."""
    from ..masks.grabcut.fast_colours import COLUMNS, compare
    from ..masks.grabcut.fast_links import charge

    rgb, codes = np.require(rgb, np.uint8, "CW"), np.require(trimap, np.uint8, "CW")
    index, colours, record, nodes, pixels = engine.linked(rgb, codes, engine.gamma)
    labels = trimap_foreground(codes).reshape(-1).view(np.uint8)
    table = compare(index, colours, labels, np.zeros((2, COMPONENTS, COLUMNS)), True)
    charge(record, nodes, pixels, np.zeros(len(nodes), np.int32), table, index)
    return Graph(record, nodes, pixels, codes.shape[1] + 2, engine.neighbours)


@dataclass(frozen=True)
class EnergyRow:
    """Gaps are costs above the least, as shares of it. The shared graph is that of `fast` with 8 neighbours."""

    name: str
    problems: int
    shared_mean: float
    shared_max: float
    own: str | None  # by what the own gap is known: EXACT on the own graph, or CERTIFIED by the engine
    own_mean: float | None
    own_max: float | None


def score_energies(problems: list["Problem"], engines: dict[str, Any]) -> list[EnergyRow]:
    """The masks of engines of one round, each by the shared graph and by its own. A problem without a cost is left out.

    An engine with `batch` certifies its own cut; an instance of `FastGrabCut` has a graph of its own.
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
        EnergyRow(name, len(gaps), statistics.fmean(gaps), max(gaps), *_own(engines[name], own[name]))
        for name, gaps in shared.items()
        if gaps
    ]


def _mask_and_gap(engine: Any, problem: "Problem") -> tuple[np.ndarray, float | None]:
    if hasattr(engine, "batch"):
        masks, gaps = engine.batch(problem.rgb[None], problem.trimap[None], "cpu", [problem.seed])
        return masks[0], float(gaps[0])
    mask = engine(problem.rgb, problem.trimap, seed=problem.seed)
    if not isinstance(engine, FastGrabCut):
        return mask, None
    graph = first_graph(engine, problem.rgb, problem.trimap)
    least = graph.least()
    return mask, graph.cost(mask) / least - 1 if least else None


def _own(engine: Any, gaps: list[float]) -> tuple[str | None, float | None, float | None]:
    if not gaps:
        return None, None, None
    return CERTIFIED if hasattr(engine, "batch") else EXACT, statistics.fmean(gaps), max(gaps)
