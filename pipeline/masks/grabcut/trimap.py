"""What every engine does with a trimap and a prior, apart from its cut."""

import numpy as np

from ..saliency import PROBABLE_FOREGROUND, SURE_FOREGROUND


def trimap_foreground(trimap: np.ndarray) -> np.ndarray:
    """Trimap `(H, W) uint8` > its sure and probable foreground, `(H, W) bool`."""
    return (trimap == SURE_FOREGROUND) | (trimap == PROBABLE_FOREGROUND)


def too_few_pixels(trimap: np.ndarray, components: int) -> str | None:
    """Why two colour mixtures of `components` Gaussians cannot be fitted to this trimap, or None."""
    foreground = int(np.count_nonzero(trimap_foreground(trimap)))
    for side, pixels in (("foreground", foreground), ("background", trimap.size - foreground)):
        if pixels == 0:
            return f"no {side}"
        if pixels < components:
            return f"{pixels} {side} pixels for {components} mixture components"
    return None


def weighted_log_odds(odds: np.ndarray | None, weight: float, shape: tuple[int, ...]) -> np.ndarray:
    """Odds of foreground > `weight` times their logs, in nats, `shape` float32; zeros without odds or weight."""
    if odds is None or not weight:
        return np.zeros(shape, np.float32)
    if odds.shape != shape:
        raise ValueError(f"odds {odds.shape} do not fit trimap {shape}")
    return np.ascontiguousarray(weight * np.log(odds), np.float32)
