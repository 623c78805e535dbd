"""`locloc bench`: what LocLoc and PPD cost, counted and timed, beside what the paper printed.

`systems` what is compared, `counts` parameters and arithmetic, `printed` the paper's tables with verdicts, `timing`
fair clocks, `stages` inference from JPEG to box, `tuned` the best settings of each, `resources` peaks, memory and
throughput, `report` all of it as one value, `tables` and `plot` that value for people. No dask, zarr or icechunk.
`mask_tables` shows what `pipeline/bench` measures of refinement engines (`--masks`).
"""

KEEP_TOKENS, SHARED_BLOCKS = 0.75, 0.33
"""Of guided LocLoc where nothing else is asked for: those of the training recipe `guided`."""
