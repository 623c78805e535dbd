"""Min-max normalisation of maps."""

import numpy as np


def min_max(values: np.ndarray) -> np.ndarray | None:
    """A map of floats scaled linearly to a minimum of 0 and a maximum of 1; None if it is flat or not finite."""
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        return None
    return (values - low) / (high - low)


def min_max_or_zeros(values: np.ndarray) -> np.ndarray:
    """As `min_max`, but zeros if the map is flat or not finite."""
    normalized = min_max(values)
    return np.zeros_like(values) if normalized is None else normalized
