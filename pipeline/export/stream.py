"""Reads the rows of an export in order, a batch of blocks at a time, each row checked against its CRC."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..errors import StoreError
from ..geometry.resize_crop import ResizeCrop
from ..recipe import Recipe
from ..store.corruption import corruption_as_error
from ..store.reader import Version
from ..store.schema import BLOCK_ROWS, content_crc, unpack_masks
from .options import Size
from .rows import ChosenRows

BATCH_BYTES = 32 << 20
BATCH_BLOCKS = 16


@dataclass(frozen=True)
class ExportRow:
    """One image with its mask.

    number       of this row in the export, from 0
    row          of the version
    file_name    the path, or what a member of an archive is called
    name         for files: relative, posix, without suffix; no two rows have the same one
    class_number index into ChosenRows.classes
    quality      in (0, 1]; None where it is not known
    stored       mask `(S, S) bool` as it is stored
    geometry     from the upright original image to `stored`
    """

    number: int
    row: int
    id: str
    path: str
    file_name: str
    name: str
    label: int
    class_number: int
    split: str
    quality: float | None
    size_px: tuple[int, int]  # width, height of the upright original image
    orientation: int
    digest: np.ndarray  # (16,) uint8 of the image's file; zeros: none
    stored: np.ndarray
    original_box: np.ndarray  # (4,) float64 xyxy in the upright original; zeros where the mask is empty
    geometry: ResizeCrop
    size: Size

    @cached_property
    def mask(self) -> np.ndarray:
        """`(H, W) bool` at the size that was asked for."""
        return self.stored if self.size == "mask" else self.geometry.image_back(self.stored)

    @property
    def box(self) -> np.ndarray:
        """`(4,) float64` xyxy in the pixels of `mask`: the box of the largest contour; zeros where it is empty."""
        return self.original_box if self.size == "original" else self.geometry.boxes(self.original_box)

    @property
    def frame_px(self) -> tuple[int, int]:
        """Width and height of `mask`."""
        return self.size_px if self.size == "original" else (len(self.stored), len(self.stored))

    @property
    def empty(self) -> bool:
        return not self.stored.any()


def stream_rows(
    version: Version, chosen: ChosenRows, file_names: list[str], names: list[str], size: Size
) -> Iterator[ExportRow]:
    """Yields the chosen rows. Raises StoreError for a row that is not what was written.

    file_names, names  of each row, as ExportRow has them
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    texts = {name: chosen.table[name] for name in ("id", "path", "split")}
    labels = chosen.table["label"].to_numpy()
    quality = chosen.table["quality"]
    for start, stop in _batches(chosen.rows, _row_bytes(version)):
        rows = chosen.rows[start:stop]
        packed, columns = _read(version, rows)
        part = {name: column.slice(start, stop - start).to_pylist() for name, column in texts.items()}
        for at, row in enumerate(rows.tolist()):
            width, height = columns["size"][at].tolist()
            number = start + at
            label = int(labels[number])
            yield ExportRow(
                number=number,
                row=row,
                id=part["id"][at],
                path=part["path"][at],
                file_name=file_names[number],
                name=names[number],
                label=label,
                class_number=chosen.class_number(label),
                split=part["split"][at],
                quality=quality[number].as_py(),
                size_px=(width, height),
                orientation=int(columns["orientation"][at]),
                digest=columns["input_digest"][at],
                stored=unpack_masks(packed[at]),
                original_box=columns["box"][at].astype(np.float64),
                geometry=ResizeCrop.of_fit(recipe.images.fit, (width, height), packed.shape[1]),
                size=size,
            )


def _row_bytes(version: Version) -> int:
    heads, height, width = version.attention_shape
    return version.mask_px**2 // 8 + 2 * heads * height * width


def _batches(rows: np.ndarray, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Slices of `rows`, each the rows of a few whole blocks."""
    blocks = max(1, min(BATCH_BLOCKS, BATCH_BYTES // (row_bytes * BLOCK_ROWS)))
    ends = np.flatnonzero(np.diff(rows // (BLOCK_ROWS * blocks))) + 1
    edges = [0, *ends.tolist(), len(rows)]
    yield from pairwise(edges)


def _read(version: Version, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Packed masks `(n, S, S / 8) uint8`, checked, and the columns that rows need."""
    first, last = int(rows[0]) // BLOCK_ROWS * BLOCK_ROWS, int(rows[-1]) + 1
    whole, within = slice(first, last), rows - first
    with corruption_as_error(version.name):
        packed, attention = version.read_column("mask", whole)[within], version.read_attention(whole)[within]
        names = ("size", "orientation", "input_digest", "box", "content_crc")
        columns = {name: version.read_column(name, whole)[within] for name in names}
    check_crc(version, rows, packed, attention, columns["content_crc"])
    return packed, columns


def check_crc(
    version: Version, rows: np.ndarray, packed: np.ndarray, attention: np.ndarray, expected: np.ndarray
) -> None:
    """Raises StoreError for the first of `rows` `(n,)` whose bytes are not what was written."""
    wrong = np.flatnonzero(content_crc(packed, attention) != expected)
    if len(wrong):
        raise StoreError(
            f"{version.name} is damaged: row {int(rows[wrong[0]])} is not what was written; "
            f"`locloc masks verify {version.name}` lists all damage"
        )
