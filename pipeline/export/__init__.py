"""Exports a version to formats of other programs. To add a format, write a file for it and a line in `EXPORTERS`.

An exporter is called as `export(version, out, on_progress)` and returns an `Exported`. `out` is a new or empty folder,
or a URL with nothing below it. After an error there is no folder, and the title of an export by URL says that it is
incomplete. Every row is checked against its CRC, so damage is never exported. `on_progress` is called with the rows
done and all rows. Raises StoreError.
"""

from .zarr import Exported, export_zarr

EXPORTERS = {
    "zarr": export_zarr,
}

__all__ = ["EXPORTERS", "Exported", "export_zarr"]
