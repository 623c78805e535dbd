"""`--exclude GLOB`: images that a reader found and the user does not want."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import translate

import numpy as np
import pyarrow as pa

from ..errors import CatalogError
from .catalog import SCHEMA, Catalog
from .folders.folder import folder_catalog
from .left_out import Omissions, merge_left_out
from .unicode_names import normal_form

_CLASSES_OF_THE_IMAGES = (
    "folder",
    "list",
    "synthetic",
    "webdataset",
    "voc",
)  # catalogs whose classes are the names that their images have


def exclude_images(catalog: Catalog, globs: Sequence[str]) -> Catalog:
    """The catalog without the images whose id, or a folder above them, matches one of the globs.

    `*` matches any characters, slashes too, `?` one, `[ab]` one of several: `raw`, `*.png`, `*/thumb_*`. Letter case
    matters; Unicode normal forms do not. The catalog is the one of a data set that never had these images. They are
    counted in `left_out`, the globs kept in `exclude`; a glob without a match is a note.

    Raises CatalogError where no image is left.
    """
    globs = tuple(dict.fromkeys(globs))
    if not globs:
        return catalog
    ids = catalog.table["id"].to_pylist()
    glob_of, omissions = _matcher(globs), Omissions()
    keep = np.ones(len(ids), bool)
    matched = set()
    for row, image_id in enumerate(ids):
        if (glob := glob_of(image_id)) is not None:
            keep[row] = False
            matched.add(glob)
            omissions.add("excluded", glob, image_id)
    if not keep.any():
        raise CatalogError(f"--exclude {' '.join(globs)} leaves none of the {len(ids)} images")
    notes = [*catalog.notes, *(f"--exclude '{glob}' matches no image" for glob in globs if glob not in matched)]
    kept = _rows(catalog, keep) if matched else catalog
    if matched and catalog.kind == "folder":  # classes and splits follow from the paths that are left
        kept = folder_catalog(catalog.root, kept.table["path"].to_pylist())
        notes = [*kept.notes, *notes[len(catalog.notes) :]]
    return replace(
        kept,
        notes=tuple(notes),
        left_out=merge_left_out(catalog.left_out, omissions.found()),
        exclude=tuple(dict.fromkeys((*catalog.exclude, *globs))),
    )


def _matcher(globs: Sequence[str]) -> Callable[[str], str | None]:
    """A function: id > the first glob that matches, or None."""
    patterns = [f"{translate(text)}|{translate(text.rstrip('/') + '/*')}" for text in map(normal_form, globs)]
    any_of = re.compile("|".join(patterns))
    each = [re.compile(pattern) for pattern in patterns]

    def glob_of(image_id: str) -> str | None:
        text = normal_form(image_id)
        if not any_of.match(text):
            return None
        return next(glob for glob, pattern in zip(globs, each, strict=True) if pattern.match(text))

    return glob_of


def _rows(catalog: Catalog, keep: np.ndarray) -> Catalog:
    """The rows `keep` `(N,) bool`; where class names came from the images, those that none has any more are dropped."""
    table = catalog.table.filter(pa.array(keep)).combine_chunks()
    sizes = None if catalog.annotated_size is None else catalog.annotated_size[keep]
    classes = catalog.classes
    if classes and catalog.kind in _CLASSES_OF_THE_IMAGES:
        labels = table["label"].to_numpy()
        used = np.unique(labels[labels >= 0])
        new_label = np.full(len(classes) + 1, -1, np.int32)  # the last is what label -1 means
        new_label[used] = np.arange(len(used), dtype=np.int32)
        table = table.set_column(SCHEMA.get_field_index("label"), "label", pa.array(new_label[labels])).cast(SCHEMA)
        classes = tuple(classes[label] for label in used.tolist())
    return replace(catalog, table=table, classes=classes, annotated_size=sizes)
