"""Masks without small holes and specks."""

import cv2
import numpy as np


def clean_mask(mask: np.ndarray, share: float) -> np.ndarray:
    """Mask `(H, W) bool` > without its small parts and holes.

    share  of the mask's area: parts (4-connected) that are smaller are dropped, but for the largest, and then holes
           that are smaller are filled. 0: nothing changes.
    """
    least = share * np.count_nonzero(mask)
    if least <= 1:
        return mask
    parts, areas = _components(mask, 4)
    areas[0] = 0
    kept = areas >= least
    kept[areas.argmax()] = True
    kept[0] = False
    cleaned = kept[parts]
    holes, areas = _components(~cleaned, 8)
    filled = areas < least
    filled[0] = False
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        filled[edge] = False  # what reaches the image's border is no hole
    return cleaned | filled[holes]


def _components(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's component, 0 outside the mask, and the components' areas."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return numbers, stats[:, cv2.CC_STAT_AREA].copy()
