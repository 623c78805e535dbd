"""Procedural scenes with ground truth: photograph-like images of one labelled object, made without any photograph.

A scene is a pure function of (seed, index, classes, size_px). A class is a pure function of its label: a shape family,
the family's proportions and a material, the same for every seed, so that a label means one thing everywhere.

`geometry` polygons, `families` the objects' shapes, `materials` colours and patterns, `backdrops` all that is not the
object, `scene` one image, `dataset` many of them on disk.
"""

from .dataset import split_of, write_dataset
from .scene import Scene, make_scene

__all__ = ["Scene", "make_scene", "split_of", "write_dataset"]
