"""`locloc bench --masks`: what refinement engines cost and give, on the same problems in turn.

`problems` pictures, their truth and simulated saliency. No dask, zarr or icechunk.
"""
