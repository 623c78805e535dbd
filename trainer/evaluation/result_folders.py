"""How to recognize a folder that `locloc eval` wrote: it writes over an earlier result, and over nothing else."""

from ...pipeline.io.output_folder import Results

REPORT = Results(
    r"index\.html|evaluation\.json|images\.parquet|curves\.png|[^/]+-(best|worst|random)\.png", "evaluation.json"
)

SCORE_MAPS = Results(r"metadata(/.*)?|(.*/)?[^/]+\.npy", "metadata")
