"""For all tests: one thread, and versions made without a ViT for tests of what reads them."""

import importlib
import os
import pickle
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.geometry.boxes import largest_box
from locloc.pipeline.masks.grabcut import FastGrabCut, kernels_of
from locloc.pipeline.recipe import REVISIONS
from locloc.pipeline.status import DONE, Status
from locloc.pipeline.store import Version, open_version
from locloc.pipeline.store.schema import BLOCK_ROWS, STATS, content_crc, input_digest, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter

with suppress(ModuleNotFoundError):  # `make test-icechunk2` tests the store without it
    import torch

    torch.set_num_threads(1)  # as a worker has it; two threads on two busy cores only wait for each other
os.environ["OMP_NUM_THREADS"] = "1"  # the same for commands that are started, so that sums are added in one order


def pytest_configure(config: pytest.Config) -> None:
    """Compiles Numba's kernels once, before there are several processes that would each do so."""
    if getattr(config.option, "numprocesses", None):
        for name in (*kernels_of(FastGrabCut()), "locloc.trainer.evaluation.contours"):
            importlib.import_module(name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps tests that share fixtures in one process: a folder of end-to-end tests, which share builds and runs, else a
    file."""
    from xdist.scheduler import LoadFileScheduling

    class LoadFolderScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file.rpartition("/")[0] if file.startswith("tests/end_to_end/") else file

    return LoadFolderScheduling(config, log)


SIZE = (64, 48)  # width, height of every image


@dataclass
class Content:
    """What a version is to hold, by row; `Content.made(ids)` is what a build could have made of small images."""

    ids: list[str]
    masks: np.ndarray  # (N, S, S) bool
    attention: np.ndarray  # (N, H, h, w) float16
    status: np.ndarray  # (N,) uint8
    files: list[bytes]  # of each image
    labels: list[int]
    recipe: dict = field(default_factory=lambda: {"images": {"fit": "stretch"}, "mask_px": 32, "seed": 0})
    splits: list[int] = field(default_factory=list)  # indices into SPLITS; []: none is given
    true_boxes: list[list[list[float]]] = field(default_factory=list)  # of the catalog; []: none
    classes: tuple[str, ...] = ("a", "b", "c")

    @classmethod
    def made(cls, ids: list[str], mask_px: int = 32, heads: int = 2, grid: tuple[int, int] = (3, 3)) -> "Content":
        """Random masks and attention, the same for the same ids; every status in the rows from 3 to 7."""
        rng = np.random.default_rng(len(ids))
        masks = np.zeros((len(ids), mask_px, mask_px), bool)
        status = np.full(len(ids), Status.OK, np.uint8)
        for row, mask in enumerate(masks):
            top, left = rng.integers(0, mask_px // 4, 2)
            inside = mask[top : top + 3 * mask_px // 4, left : left + 3 * mask_px // 4]
            inside[:] = rng.random(inside.shape) < 0.5
            if 3 <= row <= 7:
                status[row] = (2, 3, 4, 5, 6)[row - 3]
        attention = rng.random((len(ids), heads, *grid)).astype(np.float16)
        masks[3:8], attention[4:8] = False, 0
        files = [f"image {id}".encode() for id in ids]
        return cls(ids, masks, attention, status, files, [n % 3 for n in range(len(ids))])

    @property
    def boxes(self) -> np.ndarray:
        """`(N, 4) float32` in the image."""
        scale = np.tile(np.array(SIZE) / self.masks.shape[1], 2)
        return np.stack([largest_box(mask) * scale for mask in self.masks]).astype(np.float32)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        decoded = np.isin(self.status, (*DONE, Status.NON_FINITE))
        read = decoded | (self.status == Status.UNDECODABLE)
        digests = np.stack([input_digest(file) for file in self.files])
        return {
            "box": self.boxes,
            "stats": np.tile(self.masks.mean((1, 2))[:, None], (1, len(STATS))).astype(np.float32),
            "status": self.status,
            "size": (decoded[:, None] * np.array(SIZE)).astype(np.int32),
            "content_crc": content_crc(pack_masks(self.masks), self.attention),
            "input_digest": (digests * read[:, None]).astype(np.uint8),
        }


def write_version(
    store: Path | str,
    content: Content,
    images: Path,
    columns: dict[str, np.ndarray] | None = None,
    block_done: Sequence[int] = (),
) -> Version:
    """Publishes `content` as the store's next version, and writes its images' files to the folder `images`.

    `columns` and `block_done` replace what goes with the masks, right or wrong.
    """
    rows = CatalogRows()
    splits, boxes = content.splits or [0] * len(content.ids), content.true_boxes or [[]] * len(content.ids)
    for id, label, file, status, split, true_boxes in zip(
        content.ids, content.labels, content.files, content.status, splits, boxes, strict=True
    ):
        rows.add(id, id, label=label, split=split, boxes=true_boxes)
        if status not in (Status.MISSING, Status.CRASHED):
            images.mkdir(parents=True, exist_ok=True)
            (images / id).write_bytes(file)
    catalog = build_catalog("test", images, rows, content.classes, where=lambda row, column: str(row), looked_for="")
    order = np.argsort(np.array([id.encode() for id in content.ids], object))
    columns = content.columns | (columns or {})
    metadata = {
        "build_id": uuid.uuid4().hex,
        "fingerprint": "ab" * 32,
        "recipe_name": "test",
        "recipe": content.recipe,
        "revisions": dict(REVISIONS),
        "backbone": {
            "name": "none", "weights": "none", "sha256": "0" * 64, "mean": [0.5] * 3, "std": [0.5] * 3,
        },
        "catalog": {
            "kind": "test", "root": str(images), "sha256": catalog.sha256, "rows": len(catalog),
            "classes": list(catalog.classes),
        },
        "parent": None,
        "created_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    with StoreWriter(store) as writer:
        writer.begin(metadata, catalog, content.attention.shape[1:], content.masks.shape[1])
        for block in range(len(writer.block_done)):
            rows = order[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS]
            fork = pickle.loads(pickle.dumps(writer.fork))
            reasons = {n: f"reason {content.ids[row]}" for n, row in enumerate(rows) if content.status[row] > Status.OK}
            packed, attention = pack_masks(content.masks[rows]), content.attention[rows]
            write_block(fork.store, block * BLOCK_ROWS, packed, attention, reasons)
            writer.merge(fork, block, {name: values[rows] for name, values in columns.items()})
        if block_done:
            writer.block_done[:] = block_done
        writer.verify = writer.checkpoint  # what is wrong is published here too
        return open_version(f"{store}@{writer.publish()}")


@pytest.fixture(scope="session")
def made() -> Callable[..., Content]:
    return Content.made


@pytest.fixture(scope="session")
def write() -> Callable[..., Version]:
    return write_version


@pytest.fixture
def ids() -> list[str]:
    """150 of them: two blocks and a part of one."""
    return [f"{n:04}.jpg" for n in range(150)]


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, `memory://`, without any files."""
    import fsspec

    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=int, default=15, help="How many faults tests/cluster/test_faults.py makes.")
    parser.addoption("--fault-seed", type=int, help="Of the faults' kinds and moments; printed where it is not given.")
