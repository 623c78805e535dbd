"""`locloc bench`: the cost of LocLoc and PPD, counted and timed, compared with the paper's tables.

`systems`: what is compared; `counts`: parameters and arithmetic; `printed`: the paper's tables with verdicts; `timing`:
clocks; `inference_stages`: inference from JPEG to box; `tuned`: the best settings of each system, `cuda_graph` among
them; `resources`: peaks, memory and throughput; `report`: all of it as one value; `tables` and `plot` show that value;
`mask_tables`: the results of `pipeline/bench` on refinement engines (`--masks`). Imports no dask, zarr or icechunk.
"""

KEEP_TOKENS, SHARED_BLOCKS = 0.75, 0.33
"""Defaults of guided LocLoc, as in the training recipe `guided`."""
