"""Parquet as Hugging Face data sets are: OUT/data/SPLIT-00000-of-00002.parquet, opened by `datasets.load_dataset`.

Columns: image and mask (`Image` features, the file's own bytes and PNG), label (`ClassLabel`), box in pixels of the
mask, id, path, split, width and height of the original, quality where the version has it. Images without split are in
`train`.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from .format import ExportTarget
from .names import image_suffix
from .png import png_bytes
from .stream import ExportRow

FILE_BYTES = 512 << 20
GROUP_ROWS, GROUP_BYTES = 256, 32 << 20

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_COLUMNS: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
    "image": (_IMAGE, {"_type": "Image"}),
    "mask": (_IMAGE, {"_type": "Image"}),
    "label": (pa.int64(), {"_type": "ClassLabel"}),
    "box": (
        pa.list_(pa.float32(), 4),
        {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "Sequence"},
    ),
    "id": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "path": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "split": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "width": (pa.int32(), {"dtype": "int32", "_type": "Value"}),
    "height": (pa.int32(), {"dtype": "int32", "_type": "Value"}),
    "quality": (pa.float32(), {"dtype": "float32", "_type": "Value"}),
}


class Parquet:
    images: ClassVar[tuple[str, ...]] = ("copy", "none")
    sizes: ClassVar[tuple[str, ...]] = ("original", "mask")
    segmentations: ClassVar[tuple[str, ...]] = ()

    def __init__(self, target: ExportTarget) -> None:
        self.target = target
        self._schema = _schema(target)
        self._files: dict[str, _SplitFiles] = {}
        (target.folder / "data").mkdir()

    def write(self, row: ExportRow) -> None:
        split = row.split or "train"
        if split not in self._files:
            self._files[split] = _SplitFiles(self.target.folder / "data", split, self._schema, self.target.open_files)
        values: dict[str, Any] = {
            "mask": {"bytes": png_bytes(row.mask), "path": f"{row.name}.png"},
            "label": row.class_number,
            "box": row.box.tolist(),
            "id": row.id,
            "path": row.file_name,
            "split": row.split,
            "width": row.size_px[0],
            "height": row.size_px[1],
            "quality": row.quality,
        }
        size = len(values["mask"]["bytes"])
        if self.target.images.mode == "copy":
            data = self.target.images.read(row)
            values["image"] = {"bytes": data, "path": row.name + image_suffix(row.file_name, data)}
            size += len(data)
        self._files[split].add(values, size)

    def close(self) -> None:
        for files in self._files.values():
            files.close()


def _schema(target: ExportTarget) -> pa.Schema:
    without = set() if target.images.mode == "copy" else {"image"}
    if not target.chosen.has_quality:
        without.add("quality")
    columns = {name: column for name, column in _COLUMNS.items() if name not in without}
    features = {name: feature for name, (_, feature) in columns.items()}
    features["label"] = {"names": list(target.classes), "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "locloc": json.dumps(target.about)}
    return pa.schema([(name, dtype) for name, (dtype, _) in columns.items()], metadata=metadata)


class _SplitFiles:
    """The files of one split: their number is known, and their names are final, once all rows are written."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, open_files: ExitStack) -> None:
        self._folder, self._split, self._schema, self._open_files = folder, split, schema, open_files
        self._parts: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = self._file_bytes = 0

    def add(self, values: dict[str, Any], size: int) -> None:
        self._rows.append(values)
        self._row_bytes += size
        if len(self._rows) == GROUP_ROWS or self._row_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None or self._file_bytes >= FILE_BYTES:
            self._end_file()
            self._parts.append(self._folder / f"{self._split}-{len(self._parts):05d}.part")
            self._writer = self._open_files.enter_context(pq.ParquetWriter(self._parts[-1], self._schema))
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._file_bytes += self._row_bytes
        self._rows, self._row_bytes = [], 0

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._file_bytes = None, 0

    def close(self) -> None:
        self._flush()
        self._end_file()
        for number, part in enumerate(self._parts):
            part.rename(self._folder / f"{self._split}-{number:05d}-of-{len(self._parts):05d}.parquet")
