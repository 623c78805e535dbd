"""`locloc bench --masks`: what refinement engines cost and give, on the same problems in turn.

`images` with their truth, from folders or made; `problems` a trimap of each, by saliency simulated from the truth or
by attention; `engines` all of them in turn; `energy` how far masks are from the least cut; `masks` everything as one
value, with a node's throughput; `machine` where it ran. No dask, zarr or icechunk.

A row in the tables is a line in `ENGINES`.
"""

from .engines import ENGINES, SLOW, EngineReport, EngineRow, bench_engines
from .problems import Problem

__all__ = ["ENGINES", "SLOW", "EngineReport", "EngineRow", "Problem", "bench_engines"]
