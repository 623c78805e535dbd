"""`locloc bench --masks`: time and quality of refinement engines, on the same problems in turn.

`images`: images with their truth, from folders or synthetic; `problems`: a trimap per image, from saliency simulated
from the truth or from attention; `engines`: every engine in turn; `energy`: how far masks are above the least cut;
`masks`: the whole benchmark as one value, with a node's throughput; `machine`: where it ran. Imports no dask, zarr or
icechunk.

To add a row to the tables, add a line to `ENGINES`.
"""

from .engines import ENGINES, SLOW, EngineReport, EngineRow, bench_engines
from .problems import Problem

__all__ = ["ENGINES", "SLOW", "EngineReport", "EngineRow", "Problem", "bench_engines"]
