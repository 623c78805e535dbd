"""Workers verify a build: what they say counts where it is "intact"; the rest the coordinator reads itself."""

import json
import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import KilledWorker
from distributed.client import FutureCancelledError

from locloc.pipeline.build import coordinator, verification
from locloc.pipeline.build.cluster import ClusterSpec
from locloc.pipeline.build.coordinator import make_version
from locloc.pipeline.build.spec import BuildSpec, RunSettings
from locloc.pipeline.build.tasks import TaskContext
from locloc.pipeline.build.verification import intact_parts
from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import BuildError, StoreError
from locloc.pipeline.io.interrupts import interruptible
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, content_crc, write_block
from locloc.pipeline.store.verification import Part
from locloc.pipeline.store.writer import StoreWriter

ROWS, MASK_PX, HEADS, GRID = 150, 16, 2, (3, 3)
PARTS = [0, 64, 128]
METADATA = {
    "build_id": "ab" * 32, "fingerprint": "cd" * 32, "operation": {"kind": "build"}, "parent": None,
    "recipe_name": "test", "code_version": "0", "packages": {}, "host": "here", "created_at": "",
    "backbone": {"name": "none", "weights": "none"},
}  # fmt: skip


class Answered(Future):
    """The part of a Dask future that is used."""

    def __init__(self, key: str):
        super().__init__()
        self.key = key


@dataclass
class Workers:
    """A cluster that answers at once. `trouble[row]`: the errors of the part that begins there, before its answer."""

    trouble: dict[int, list[BaseException]] = field(default_factory=dict)
    count: int = 2
    asked: list[int] = field(default_factory=list)
    run: str = "run-1"
    refine_on: dict = field(default_factory=lambda: {"CPU": 1})
    lost: bool = False

    @property
    def client(self) -> "Workers":
        return self

    def check(self) -> int:
        if self.lost:
            raise BuildError("The scheduler was lost")
        return self.count

    def submit(self, task, part: Part, key: str, resources: dict) -> Answered:
        assert resources == self.refine_on
        self.asked.append(part.start)
        future = Answered(key)
        if errors := self.trouble.get(part.start):
            future.set_exception(errors.pop(0))
        else:
            future.set_result(task(pickle.loads(pickle.dumps(part))))
        return future


def content(block: int, salt: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Packed masks and attention of a block."""
    rng = np.random.default_rng([block, salt])
    rows = min(BLOCK_ROWS, ROWS - block * BLOCK_ROWS)
    packed = rng.integers(0, 256, (rows, MASK_PX, MASK_PX // 8), dtype=np.uint8)
    return packed, rng.random((rows, HEADS, *GRID)).astype(np.float16)


def write_blocks(writer: StoreWriter) -> None:
    for block in range(3):
        packed, attention = content(block)
        columns = {name: np.zeros((len(packed), *tail), dtype) for name, (dtype, tail) in COLUMNS.items()}
        columns["status"][:] = Status.OK
        columns["content_crc"] = content_crc(packed, attention)
        fork = pickle.loads(pickle.dumps(writer.fork))
        write_block(fork.store, block * BLOCK_ROWS, packed, attention)
        writer.merge(fork, block, columns)


def damage(writer: StoreWriter, block: int, rows: list[int]) -> None:
    """Commits other masks of some rows."""
    packed, attention = content(block)
    packed[rows] ^= 1
    fork = pickle.loads(pickle.dumps(writer.fork))
    write_block(fork.store, block * BLOCK_ROWS, packed, attention)
    writer._session.merge(fork)
    writer._dirty.add(block)


@pytest.fixture
def spec(tmp_path: Path) -> BuildSpec:
    rows = CatalogRows()
    for number in range(ROWS):
        rows.add(f"{number:04}.jpg", f"{number:04}.jpg")
    catalog = build_catalog("test", tmp_path, rows, [], where=lambda row, column: "", looked_for="")
    context = TaskContext(catalog.root, Recipe(mask_px=MASK_PX), None)
    return BuildSpec(StoreLocation.of(tmp_path / "masks.store"), catalog, context, METADATA, (HEADS, *GRID))


@pytest.fixture
def finished(spec: BuildSpec, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreWriter]:
    """A writer of a build whose blocks are made and not verified; a part is a block."""
    monkeypatch.setattr("locloc.pipeline.store.writer.PART_ROWS", BLOCK_ROWS)
    with StoreWriter(spec.store) as writer:
        writer.begin(METADATA, spec.catalog, spec.attention, MASK_PX)
        write_blocks(writer)
        yield writer


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """First rows of the parts that are read, by whom ever."""
    starts: list[int] = []
    wrong_rows = Part.wrong_rows
    monkeypatch.setattr(Part, "wrong_rows", lambda part, root: starts.append(part.start) or wrong_rows(part, root))
    return starts


def test_what_workers_found_intact_is_not_read_again(finished: StoreWriter, read: list[int]):
    intact = intact_parts(finished.parts(), Workers())
    assert intact == {*PARTS}
    assert read == PARTS
    finished.verify(intact)
    assert finished.publish() == "v1"
    assert read == PARTS
    assert len(open_version(f"{finished.store}@v1")) == ROWS


def test_damage_is_refused_with_the_same_line_wherever_it_is_found(finished: StoreWriter):
    damage(finished, 2, [3, 8])
    damage(finished, 1, [5])
    lines = []
    for workers in (Workers(), None):
        intact = intact_parts(finished.parts(), workers) if workers else set()
        assert intact == ({0} if workers else set())
        with pytest.raises(StoreError, match="1 rows from 69 on were not stored as written") as refusal:
            finished.verify(intact)
        lines.append(str(refusal.value))
        assert finished.block_done.tolist() == [1, 0, 1], "the next run makes this block again"
        finished.block_done[:] = 1
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    "error",
    [
        KilledWorker("verify-1", SimpleNamespace(address="tcp://10.0.0.7:1234"), 1), MemoryError(), TimeoutError(),
        FutureCancelledError("verify-1", "scheduler-restart"), OSError(5, "Input/output error"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_part_that_fails_is_asked_for_once_more_and_then_read_here(finished: StoreWriter, read: list[int], error):
    workers = Workers({64: [error]})
    assert intact_parts(finished.parts(), workers) == {*PARTS}
    assert workers.asked == [0, 64, 128, 64]
    workers = Workers({64: [error, error]})
    intact = intact_parts(finished.parts(), workers)
    assert intact == {0, 128}
    read.clear()
    finished.verify(intact)
    assert read == [64]


def test_a_lost_scheduler_leaves_all_to_the_coordinator(finished: StoreWriter):
    assert intact_parts(finished.parts(), Workers(lost=True)) == set()
    workers = Workers()

    def lose(*_, **__):
        workers.lost = True
        raise RuntimeError("of any type")

    workers.submit = lose
    assert intact_parts(finished.parts(), workers) == set()


def test_a_bug_is_raised(finished: StoreWriter):
    workers = Workers()
    workers.submit = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        intact_parts(finished.parts(), workers)


def test_the_coordinator_does_not_wait_for_ever_for_workers(finished: StoreWriter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verification, "POLL_S", 0.01)
    monkeypatch.setattr(verification, "WITHOUT_WORKERS_S", 0.05)
    workers = Workers(count=0)
    workers.submit = lambda task, part, key, resources: Answered(key)  # never answers
    assert intact_parts(finished.parts(), workers) == set()


def test_ctrl_c_ends_it(finished: StoreWriter):
    workers = Workers()

    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        return Answered("key")

    workers.submit = interrupted
    with pytest.raises(KeyboardInterrupt), interruptible():
        intact_parts(finished.parts(), workers)


@pytest.mark.parametrize(
    ("small_parts", "where", "verified"),
    [(2, ClusterSpec(1), []), (1, ClusterSpec(1), [(1, 1)]), (2, ClusterSpec(scheduler="tcp://host:8786"), [(1, 1)])],
    ids=["small, here", "large, here", "small, elsewhere"],
)
def test_workers_verify_large_builds_and_those_made_elsewhere(
    spec: BuildSpec, read: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_parts: int, where, verified
):
    workers = Workers()
    workers.device, workers.decode_threads = "cpu", 1

    class Loop:
        worker_s = 0.0

        def __init__(self, cluster, spec, context, writer, *_):
            self.writer = writer

        def run(self) -> None:
            write_blocks(self.writer)
            self.writer.checkpoint()

    monkeypatch.setattr(coordinator, "SMALL_PARTS", small_parts)
    monkeypatch.setattr(coordinator, "open_cluster", lambda *_: nullcontext(workers))
    monkeypatch.setattr(coordinator, "check_cluster", lambda spec: None)
    monkeypatch.setattr(coordinator, "BlockLoop", Loop)
    said: list[str] = []
    log = tmp_path / "run.jsonl"
    with StoreWriter(spec.store) as writer:
        summary = make_version(
            spec, writer, RunSettings(where, log=log), lambda progress: said.append(progress.message)
        )
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(event["parts"], event["intact"]) for event in events if event["event"] == "verified"] == verified
    assert read == [0], "once, by a worker or by the coordinator"
    assert said.count("verifying") == 1
    assert summary.coordinator_s["verify"] > 0
    assert len(open_version(f"{spec.store}@v1")) == ROWS
