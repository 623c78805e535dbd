"""Procedural scenes with ground truth: photograph-like images of one labelled object, made without any photograph.

A scene is a pure function of (seed, index, classes, size_px). A class is a pure function of its label: a shape family,
the family's proportions and a material. It does not depend on the seed, so a label means the same everywhere.

`polygons`: drawing primitives; `families`: shapes of objects; `materials`: colours and patterns; `backdrops`:
everything but the object; `scene`: one image; `dataset`: many images on disk.
"""

from .dataset import split_of, write_dataset
from .scene import Scene, make_scene

__all__ = ["Scene", "make_scene", "split_of", "write_dataset"]
