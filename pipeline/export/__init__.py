"""A version in other people's formats. One file a format; to add one, write its file and its line in `EXPORTERS`.

An exporter is called `export(version, out, on_progress)` and returns an `Exported`. `out` is a new or empty folder, or
a URL with nothing below it; after an error there is no folder, and what is below a URL says that it is incomplete.
Every row is read against its CRC, so damage is never exported. `on_progress` is called with the rows done, and those
there are. Raises StoreError.
"""

from .zarr import Exported, export_zarr

EXPORTERS = {
    "zarr": export_zarr,
}

__all__ = ["EXPORTERS", "Exported", "export_zarr"]
