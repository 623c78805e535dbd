"""A small build for tests of the writer and the reader."""

import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from locloc.pipeline.catalogs.catalog import Catalog, CatalogRows, build_catalog
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, content_crc, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter


class SmallBuild:
    """A build of 150 images in three blocks, whose content is random and the same every time."""

    ROWS, HEADS, GRID, MASK_PX = 150, 2, (3, 3), 16
    FINGERPRINT = "ab" * 32
    METADATA: ClassVar = {
        "catalog": {"rows": ROWS}, "recipe_name": "test", "created_at": "2026-01-01T00:00:00+00:00", "parent": None,
        "operation": {"kind": "build"},
    }  # fmt: skip

    def catalog(self) -> Catalog:
        """Ids with a newline and a letter that is not ASCII; row n has n % 3 boxes."""
        rows = CatalogRows()
        for n in range(self.ROWS):
            boxes = [[1, 2, 3 + n, 4 + n]] * (n % 3)
            rows.add(f"ä/{n:04}\n.jpg", f"ä/{n:04}\n.jpg", label=n % 5 - 1, split=n % 4, boxes=boxes)
        return build_catalog("test", Path("/data"), rows, [], where=lambda row, column: str(row), looked_for="")

    def content(
        self, block: int, salt: int = 0
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[int, str]]:
        """Masks, attention, columns and errors of one block. Another salt makes other content."""
        rng = np.random.default_rng([block, salt])
        rows = min(BLOCK_ROWS, self.ROWS - block * BLOCK_ROWS)
        masks = rng.random((rows, self.MASK_PX, self.MASK_PX)) < 0.5
        attention = rng.random((rows, self.HEADS, *self.GRID)).astype(np.float16)
        columns = {name: (rng.random((rows, *tail)) * 100).astype(dtype) for name, (dtype, tail) in COLUMNS.items()}
        columns["status"] = np.full(rows, Status.OK, np.uint8)
        columns["status"][7] = Status.UNDECODABLE
        columns["content_crc"] = content_crc(pack_masks(masks), attention)
        return masks, attention, columns, {7: f"cannot be decoded: block {block}"}

    def begin(self, writer: StoreWriter, fingerprint: str = FINGERPRINT, metadata: dict = METADATA) -> None:
        metadata = {**metadata, "fingerprint": fingerprint, "build_id": fingerprint}
        writer.begin(metadata, self.catalog(), (self.HEADS, *self.GRID), self.MASK_PX)

    def write(self, writer: StoreWriter, block: int, salt: int = 0) -> None:
        """Does what worker and coordinator do with one block. The fork is pickled, as by Dask."""
        masks, attention, columns, errors = self.content(block, salt)
        fork = pickle.loads(pickle.dumps(writer.fork))
        write_block(fork.store, block * BLOCK_ROWS, pack_masks(masks), attention, errors)
        writer.merge(pickle.loads(pickle.dumps(fork)), block, columns)

    def publish(self, store: Path, fingerprint: str = FINGERPRINT, name: str | None = None, salt: int = 0) -> str:
        """Builds a version, or resumes it; returns its tag."""
        with StoreWriter(store) as writer:
            self.begin(writer, fingerprint)
            for block in np.flatnonzero(writer.block_done == 0):
                self.write(writer, int(block), salt)
                writer.checkpoint()
            return writer.publish(name)

    def check(self, name: str, salt: int = 0) -> None:
        """Asserts that the version holds this content."""
        version = open_version(name)
        for block in range(3):
            rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
            masks, attention, columns, errors = self.content(block, salt)
            assert np.array_equal(version.read_masks(rows), masks)
            assert np.array_equal(version.read_attention(rows), attention)
            assert all(np.array_equal(version.read_column(key, rows), values) for key, values in columns.items())
            assert version.table["error"][block * BLOCK_ROWS + 7].as_py() == errors[7]


@pytest.fixture
def build() -> SmallBuild:
    return SmallBuild()


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "masks.store"
