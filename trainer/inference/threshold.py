"""The threshold of `--tau`. Without torch, so that the command checks it at once."""

from ...pipeline.errors import PredictError


def check_threshold(tau: float) -> float:
    """Returns tau. Raises PredictError outside 0 to 1, and for NaN."""
    if not 0 <= tau < 1:
        raise PredictError(f"tau is a share of a map's range, from 0 to below 1, not {tau:g}")
    return tau
