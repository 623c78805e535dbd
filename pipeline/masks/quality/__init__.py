"""Quality without truth: how good a mask is likely to be, from what a build has anyway.

`parts.py` measures a mask, `score.py` has the formula, fitted once, that turns parts into one number. Both are
functions of their arguments. docs/quality.md says how the formula was fitted, and when to trust it.
"""

REVISION = 1
"""Raised when the same mask gets another quality. Masks do not depend on it, so fingerprints do not either."""

PARTS = (
    "map_stability",
    "cut_stability",
    "map_fit",
    "head_fit",
    "head_agreement",
    "edge_contrast",
    "colour_contrast",
    "largest_share",
    "border_share",
)
"""The parts of a quality. None has a unit, so each means the same for every backbone, size and recipe:

    map_stability    IoU of the saliency map cut halfway to its upper and halfway to its lower level
    cut_stability    IoU of the mask with a cut at 40 px, from a wider unknown band and without a prior
    map_fit          correlation of the saliency map with the mask, -1 to 1
    head_fit         correlation of a head's log attention with the mask, of the head that fits best, -1 to 1
    head_agreement   mean correlation between the log attention of two heads, -1 to 1
    edge_contrast    log of the mean colour step across the outline over that of the whole image
    colour_contrast  1 - overlap of the colour histograms of object and background, 0 to 1
    largest_share    share of the mask that its largest component has
    border_share     share of the image's border that is mask
"""
