"""HDF5 as the authors' and PPD's code reads masks: OUT/SPLIT.h5 with `dataset`, a mask for each position; and the ids.

    dataset  (n, S, S) u1   masks, 0 or 1, in the order of the ids
    id, path (n,) text      of the images; join by them
    label (n,) i4 · box (n, 4) f4, in the original image · size (n, 2) i4, width and height of the upright original
    quality (n,) f4         where the version has it

Their code takes row n for the n-th image of its own list, so a file for it has to be put in that order, by `id`. Masks
have one size here: that of the store.
"""

from typing import Any, ClassVar

import numpy as np

from ..errors import StoreError
from .format import ExportTarget
from .rows import split_name
from .stream import ExportRow

BUFFER_ROWS = 64


class Hdf5:
    images: ClassVar[tuple[str, ...]] = ("none",)
    sizes: ClassVar[tuple[str, ...]] = ("mask",)
    segmentations: ClassVar[tuple[str, ...]] = ()

    def __init__(self, target: ExportTarget) -> None:
        try:
            import h5py
        except ImportError:
            raise StoreError("--to hdf5 needs h5py; pip install 'locloc[formats]'") from None
        splits, counts = np.unique(target.chosen.table["split"].to_pylist(), return_counts=True)
        self._files = {}
        for split, count in zip(splits.tolist(), counts.tolist(), strict=True):
            file = target.open_files.enter_context(h5py.File(target.folder / f"{split_name(split)}.h5", "w"))
            file.attrs.update({name: target.about[name] for name in ("made_by", "version", "fit", "pixels")})
            file.attrs["classes"] = list(target.classes)
            text = h5py.string_dtype()
            side = target.mask_px
            file.create_dataset("dataset", (count, side, side), "u1", chunks=(1, side, side), compression="gzip")
            for name, tail, dtype in (
                ("id", (), text), ("path", (), text), ("label", (), "i4"), ("box", (4,), "f4"), ("size", (2,), "i4"),
                ("quality", (), "f4"),
            ):  # fmt: skip
                if name != "quality" or target.chosen.has_quality:
                    file.create_dataset(name, (count, *tail), dtype)
            self._files[split] = _Rows(file)

    def write(self, row: ExportRow) -> None:
        values = {
            "dataset": row.mask.astype(np.uint8),
            "id": row.id,
            "path": row.file_name,
            "label": row.label,
            "box": row.original_box,
            "size": row.size_px,
            "quality": np.nan if row.quality is None else row.quality,
        }
        self._files[row.split].add(values)

    def close(self) -> None:
        for rows in self._files.values():
            rows.close()


class _Rows:
    """Writes rows of a file, several at once."""

    def __init__(self, file: Any) -> None:
        self._file, self._done = file, 0
        self._waiting: list[dict[str, Any]] = []

    def add(self, values: dict[str, Any]) -> None:
        self._waiting.append(values)
        if len(self._waiting) == BUFFER_ROWS:
            self._flush()

    def _flush(self) -> None:
        rows = slice(self._done, self._done + len(self._waiting))
        for name, dataset in self._file.items():
            if self._waiting:
                dataset[rows] = [values[name] for values in self._waiting]
        self._done = rows.stop
        self._waiting = []

    def close(self) -> None:
        self._flush()
        self._file.close()
