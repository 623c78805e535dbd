"""Exports a version to formats of other programs. To add a format, write a file for it and a line in `EXPORTERS`.

A format is a class that is given the rows one after another (`format.py`): which rows, at which size, their CRCs, the
new folder and the progress are the same for all (`run.py`). An export is whole or not there: it is written under
another name and renamed at the end. Zarr copies the version as it is, and may be written to a URL, where the title says
that an export is incomplete.
"""

from pathlib import Path

from ..errors import StoreError, check_known
from ..store.reader import Version
from .coco import Coco
from .format import Format, OnProgress, no_progress
from .hdf5 import Hdf5
from .labelstudio import LabelStudio
from .options import Exported, ExportOptions
from .parquet import Parquet
from .png import Png
from .run import export_rows
from .webdataset import WebDataset
from .yolo import Yolo
from .zarr import export_zarr

EXPORTERS: dict[str, type[Format] | None] = {
    "coco": Coco,
    "hdf5": Hdf5,
    "labelstudio": LabelStudio,
    "parquet": Parquet,
    "png": Png,
    "webdataset": WebDataset,
    "yolo": Yolo,
    "zarr": None,  # copies arrays, not rows
}


def export_version(
    version: Version,
    out: Path | str,
    to: str = "zarr",
    options: ExportOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> Exported:
    """Writes a version to `out`, a new or empty folder, in the format `to`, one of EXPORTERS.

    After an error there is no folder. Every row is checked against its CRC, so damage is never exported. Raises
    StoreError.
    """
    options = options or ExportOptions()
    check_known(StoreError, "format", to, EXPORTERS)
    make = EXPORTERS[to]
    if make is not None:
        return export_rows(version, out, to, make, options, on_progress)
    if options != ExportOptions():
        raise StoreError("--to zarr copies the whole version as it is stored; leave the other options out")
    return export_zarr(version, out, on_progress)


__all__ = ["EXPORTERS", "ExportOptions", "Exported", "export_version", "export_zarr"]
