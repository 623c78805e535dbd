"""Catalogs: the images of a data set, one file per format.

`registry.py` reads any of them, `catalog.py` is what they all become. To add a format, say `cvat`: write `cvat.py` with
`read_cvat(images, root) -> Catalog` (both arguments a path, or a URL as text), which collects rows with
`CatalogRows.add` and ends with `build_catalog`. Copy `cub.py`; `paths.folder_of` is the first line unless the format
needs `root` or reads URLs. Add a line for it in `registry.py`, and a test in `tests/pipeline/catalogs/` with a tiny
data set and every way in which one of its lines can be wrong. A reader that has to be told which class or column is
the label takes a third argument `label`, and its line is in LABELLED.

Nothing is imported here: who opens a store needs `catalog.py` without the readers.
"""
