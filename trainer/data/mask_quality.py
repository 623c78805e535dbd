"""Which masks models learn from, and how much each counts, by their quality (`data.min_quality`, `data.weighting`)."""

from dataclasses import dataclass

import numpy as np

from ...pipeline.errors import TrainError
from ...pipeline.recipe import are_imported
from ...pipeline.store import Version
from ..recipe import DataSettings

POWER = 2
"""A mask counts by the square of its quality: one of 0.3 a ninth of one of 0.9."""


@dataclass(frozen=True)
class MaskQuality:
    """N rows.

    good     (N,) bool: has at least the quality `data.min_quality`
    weights  (N,) float32: factor of a row's loss, whose mean over the training rows with a good mask is 1; None: all 1
    """

    good: np.ndarray
    weights: np.ndarray | None


def mask_quality(version: Version, settings: DataSettings, train: np.ndarray) -> MaskQuality | None:
    """None where the settings do not ask for qualities.

    train  (n,) row numbers of the training images with a mask

    Raises TrainError for a version with masks of unknown quality, or without training masks that are good enough.
    """
    if not settings.min_quality and settings.weighting == "none":
        return None
    quality = version.read_column("quality")
    if unknown := int((quality[train] == 0).sum()):
        raise TrainError(
            f"{version.name}: {unknown} of {len(train)} training masks have no quality, which data.min_quality and "
            f"data.weighting need; {_remedy(version)}"
        )
    good = quality >= settings.min_quality
    learned = train[good[train]]
    if not len(learned):
        raise TrainError(
            f"{version.name}: no training mask has a quality of {settings.min_quality:g} or more, the best has "
            f"{quality[train].max(initial=0):.2f}; give a lower data.min_quality"
        )
    if settings.weighting == "none":
        return MaskQuality(good, None)
    weights = quality.astype(np.float32) ** POWER
    return MaskQuality(good, weights / weights[learned].mean())


def _remedy(version: Version) -> str:
    if are_imported(version.provenance):
        return "masks of other tools have none: leave both settings out"
    return "`locloc masks refine` with the version's own recipe adds it"
