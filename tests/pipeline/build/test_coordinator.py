"""The coordinator with a fake cluster that fails as requested; blocks, store and log are real."""

import json
import os
import pickle
import signal
import sys
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import KilledWorker
from distributed.client import FutureCancelledError
from distributed.scheduler import NoValidWorkerError
from icechunk import IcechunkError

from locloc.pipeline.build import coordinator as run_module
from locloc.pipeline.build.cluster import ClusterSpec
from locloc.pipeline.build.coordinator import BlockLoop, make_version
from locloc.pipeline.build.spec import BuildSpec, RunSettings
from locloc.pipeline.build.tasks import Block, BlockResult, TaskContext
from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import BuildError, StoreError, UnreachableError
from locloc.pipeline.io.interrupts import interruptible
from locloc.pipeline.masks.grabcut import REFINERS, FastGrabCut
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store import list_versions, open_version
from locloc.pipeline.store.icechunk_errors import first_message
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.schema import COLUMNS, content_crc, write_block
from locloc.pipeline.store.writer import StoreWriter

ROWS, MASK_PX, BLOCKS = 200, 16, 4
DEATH = KilledWorker("attend-x", SimpleNamespace(address="tcp://10.0.0.7:1234"), 1)


@dataclass
class Landed(Future):
    """The part of a Dask future that the coordinator uses."""

    key: str

    def __post_init__(self):
        super().__init__()

    __hash__ = object.__hash__


@dataclass
class Client:
    """Runs every task at once. `trouble[block]`: the errors of its tries, in order, before it succeeds."""

    trouble: dict[int, list[BaseException]]
    sent: list[tuple[str, int, str]] = field(default_factory=list)  # task, block, key
    only: dict | None = field(default_factory=lambda: {"CPU": 1, "run-1": 1})  # what every task must ask for
    resources: dict[str, dict] = field(default_factory=dict)  # of the last task of each kind

    def submit(self, task, *arguments, key, resources, priority=0):
        future = Landed(key)
        name = task.__name__
        self.resources[name] = dict(resources)
        assert self.only is None or resources == self.only
        if name in ("attend", "decode"):
            future.set_result(arguments[0])
            return future
        if name == "attend_decoded":
            future.set_result(arguments[0].result())
            return future
        block = arguments[0].result() if "isolated" not in name else arguments[0]
        if name == "join_refine_and_write":
            assert arguments[1].result() is block
            arguments = arguments[1:]
        self.sent.append((name, block.index, key))
        if self.trouble.get(block.index):
            future.set_exception(self.trouble[block.index].pop(0))
            return future
        future.set_result(answer(block, arguments[1], arguments[2], crashed="isolated" in name))
        return future


def answer(block: Block, job: TaskContext, fork, crashed: bool) -> tuple:
    """The result of a worker; an isolated task reports the block's first image as crashed."""
    rng = np.random.default_rng(block.index)
    masks = rng.integers(0, 256, (len(block), MASK_PX, MASK_PX // 8), dtype=np.uint8)
    attention = rng.random((len(block), 2, 3, 3)).astype(np.float16)
    columns = {name: np.zeros((len(block), *tail), dtype) for name, (dtype, tail) in COLUMNS.items()}
    columns["status"][:] = Status.OK
    columns["status"][0] = Status.CRASHED if crashed else Status.OK
    columns["content_crc"] = content_crc(masks, attention)
    fork = pickle.loads(pickle.dumps(fork))
    errors = {0: "it died"} if crashed else {}
    write_block(fork.store, block.start, masks, attention, errors)
    return fork, BlockResult(block.index, columns, errors, {"vit": 0.25}, "host:1")


@dataclass
class Cluster:
    client: Client
    lost: bool = False
    run: str = "run-1"
    device: str = "cpu"
    decode_threads: int = 1
    wanted: list[int] = field(default_factory=list)
    attend_on: dict = field(default_factory=lambda: {"CPU": 1, "run-1": 1})
    refine_on: dict = field(default_factory=lambda: {"CPU": 1, "run-1": 1})

    def check(self):
        if self.lost:
            raise BuildError("The scheduler was lost")
        return 1

    def scale(self, blocks):
        self.wanted.append(blocks)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def work(tmp_path) -> BuildSpec:
    rows = CatalogRows()
    for number in range(ROWS):
        rows.add(f"{number:04}.jpg", f"{number:04}.jpg")
    catalog = build_catalog("test", tmp_path, rows, [], where=lambda row, column: "", looked_for="")
    metadata = {
        "build_id": "ab" * 32, "fingerprint": "cd" * 32, "operation": {"kind": "build"}, "parent": None,
        "recipe_name": "test", "code_version": "0", "packages": {}, "host": "here", "created_at": "",
        "backbone": {"name": "none", "weights": "none"},
    }  # fmt: skip
    context = TaskContext(catalog.root, Recipe(mask_px=MASK_PX), object())
    return BuildSpec(StoreLocation.of(tmp_path / "masks.store"), catalog, context, metadata, (2, 3, 3))


@pytest.fixture
def make(work, monkeypatch):
    """`make({block: [errors]})` makes the version; attributes of `make` hold its messages, tasks and log."""

    def run(trouble: dict | None = None, lost: bool = False, on: dict | None = None, work=work, **settings):
        client = Client({block: list(errors) for block, errors in (trouble or {}).items()})
        if on is not None:
            client.only = None
        run.cluster = Cluster(client, lost, **(on or {}))
        monkeypatch.setattr(run_module, "open_cluster", lambda *_: run.cluster)
        run.said = []
        run.log = Path(str(work.store)).parent / "run.jsonl"
        settings = RunSettings(**{"cluster": ClusterSpec(1), "checkpoint_s": 0, "log": run.log, **settings})
        with StoreWriter(work.store) as writer:
            return make_version(work, writer, settings, lambda progress: run.said.append(progress))

    return run


def events(make, name: str) -> list[dict]:
    lines = [json.loads(line) for line in make.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def check_whole(work, crashed: tuple[int, ...] = ()) -> None:
    version = open_version(f"{work.store}@v1")
    wanted = np.full(ROWS, Status.OK, np.uint8)
    wanted[list(crashed)] = Status.CRASHED
    assert np.array_equal(version.status, wanted)
    assert [row for row, (_, why) in enumerate(version.reasons()) if why] == list(crashed)
    crc = content_crc(version.read_column("mask"), version.read_attention())
    assert np.array_equal(crc, version.read_column("content_crc"))


def test_without_trouble_each_block_is_sent_once_in_a_small_window(make, work):
    summary = make()
    check_whole(work)
    assert [block for _, block, _ in make.cluster.client.sent] == [0, 1, 2, 3]
    assert (summary.version, summary.new_rows, summary.counts["ok"]) == ("v1", ROWS, ROWS)
    assert summary.stage_s == {"vit": 0.25 * BLOCKS}
    assert make.said[-1].done == make.said[-1].total == ROWS
    assert make.cluster.wanted[0] == BLOCKS, "SLURM is asked for as much as there is to do"
    here = {"CPU": 1, "run-1": 1}
    assert make.cluster.client.resources == {"attend": here, "refine_and_write": here}


@pytest.mark.parametrize("attends", [True, False], ids=["build", "refine"])
@pytest.mark.parametrize("engine", REFINERS)
def test_a_gpu_attends_and_cuts_and_other_workers_decode_and_write(make, work, engine, attends):
    recipe = Recipe.model_validate({"mask_px": MASK_PX, "refine": {"engine": engine}})
    gpu, cpu = {"GPU": 1, "run-1": 1}, {"CPU": 1, "run-1": 1}
    context = replace(work.context, recipe=recipe, backbone=work.context.backbone if attends else None)
    work = replace(work, context=context)
    make(on={"attend_on": gpu, "refine_on": cpu}, work=work)
    check_whole(work)
    if attends or engine == "torch":
        expected = {"decode": cpu, "attend_decoded": gpu, "join_refine_and_write": cpu}
    else:  # there is nothing for a GPU to do
        expected = {"attend": cpu, "refine_and_write": cpu}
    assert make.cluster.client.resources == expected


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("the server does not answer"), StoreError("disk full"), OSError(5, "Input/output error"),
        IcechunkError("x failed"), NoValidWorkerError("refine-1", set(), set(), {}, 60.0),
        FutureCancelledError("refine-1", "scheduler-restart"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_block_that_fails_twice_and_then_works(make, work, error):
    make({2: [error, error]})
    check_whole(work)
    assert [block for _, block, _ in make.cluster.client.sent].count(2) == 3
    assert [fault["block"] for fault in events(make, "fault")] == [2, 2]
    assert all(first_message(error) in fault["why"] for fault in events(make, "fault"))


def test_a_block_that_fails_three_times_ends_the_build_and_what_is_finished_is_kept(make, work):
    error = UnreachableError("the server does not answer")
    with pytest.raises(BuildError, match=r"Block 2 \(0128.jpg to 0191.jpg\) failed 3 times \(the server does not ans"):
        make({2: [error] * 3}, checkpoint_s=1000)
    (unfinished,) = list_versions(work.store)
    done = unfinished.metadata["counts"]["blocks_done"]
    assert done == 3, "all the others, in flight then or not"
    assert events(make, "end")[0]["error"].startswith("BuildError: Block 2")
    summary = make()
    assert summary.new_rows == 64
    check_whole(work)
    assert [block for _, block, _ in make.cluster.client.sent] == [2]


def test_a_block_that_kills_its_worker_is_done_image_by_image(make, work):
    make({1: [DEATH]})
    check_whole(work, crashed=(64,))
    assert [task for task, block, _ in make.cluster.client.sent if block == 1] == [
        "refine_and_write", "refine_isolated_and_write",
    ]  # fmt: skip
    (fault,) = events(make, "fault")
    assert fault["why"] == "killed its worker tcp://10.0.0.7:1234"
    assert [block["block"] for block in events(make, "block") if block["isolated"]] == [1]
    assert {block["block"]: block["attempt"] for block in events(make, "block")} == {0: 1, 1: 2, 2: 1, 3: 1}
    assert any("now one image at a time" in progress.message for progress in make.said)


def test_an_isolated_block_stays_isolated_after_a_transient_error(make, work):
    make({1: [DEATH, UnreachableError("gone"), DEATH]})
    check_whole(work, crashed=(64,))
    tasks = [task for task, block, _ in make.cluster.client.sent if block == 1]
    assert tasks == ["refine_and_write"] + ["refine_isolated_and_write"] * 3
    assert [block["attempt"] for block in events(make, "block") if block["block"] == 1] == [4]


def test_workers_that_die_all_the_time_end_the_build(make, work):
    with pytest.raises(BuildError, match=r"Block 1 \(0064.jpg to 0127.jpg\) was on workers that died again and again"):
        make({1: [DEATH] * 4})
    (unfinished,) = list_versions(work.store)
    assert unfinished.metadata["counts"]["blocks_done"] >= 1


def test_a_bug_is_raised_and_finished_blocks_are_kept(make, work):
    with pytest.raises(ZeroDivisionError):
        make({3: [ZeroDivisionError()]}, checkpoint_s=1000)
    (unfinished,) = list_versions(work.store)
    assert unfinished.metadata["counts"]["blocks_done"] == 3


def test_an_interruption_that_python_dropped_ends_the_build_and_what_is_finished_is_kept(make, work, monkeypatch):
    """Python drops an exception that a signal handler raises inside of `__del__`, as happened in a Dask future."""

    class Interrupted:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    printed, went_on, take_one = [], [], BlockLoop._handle_result

    def take_one_and_be_interrupted(blocks):
        taken = take_one(blocks)
        Interrupted()
        went_on.append("dropped")
        return taken

    monkeypatch.setattr(sys, "unraisablehook", lambda event: printed.append(event.exc_type))
    monkeypatch.setattr(BlockLoop, "_handle_result", take_one_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt), interruptible():
        make(checkpoint_s=1000)
    assert (went_on, printed) == (["dropped"], [])
    (unfinished,) = list_versions(work.store)
    assert unfinished.metadata["counts"]["blocks_done"] == 1


def test_a_scheduler_that_is_lost_ends_the_build(make, work):
    with pytest.raises(BuildError, match="The scheduler was lost"):
        make({0: [FutureCancelledError("k", "scheduler-connection-lost")] * 99}, lost=True)


def test_a_wrong_address_of_the_scheduler_leaves_no_unfinished_build(make, work):
    with pytest.raises(BuildError, match="No connection to the Dask scheduler at nonsense: "):
        make(cluster=ClusterSpec(scheduler="nonsense"))
    assert list_versions(work.store) == []


def test_futures_that_are_cancelled_again_and_again_end_the_build(make):
    """As when the scheduler is restarted again and again."""
    with pytest.raises(BuildError, match="failed 3 times .*scheduler-restart"):
        make({0: [FutureCancelledError("k", "scheduler-restart")] * 99})


def test_no_two_tasks_have_one_key(make, work, monkeypatch):
    """A scheduler that serves two builds treats equal keys as the same task."""
    make({2: [DEATH, OSError(5, "x")]})
    keys = [key for *_, key in make.cluster.client.sent]
    assert len(set(keys)) == len(keys)
    assert all("run-1" in key for key in keys)


def test_the_log_tells_of_every_block(make, work):
    summary = make({1: [DEATH]})
    assert summary.log == str(make.log)
    (begin,) = events(make, "begin")
    assert (begin["rows"], begin["blocks"], begin["blocks_to_do"], begin["parent"]) == (ROWS, BLOCKS, BLOCKS, None)
    (ready,) = events(make, "ready")
    assert (ready["device"], ready["kernels"]) == (make.cluster.device, list(work.context.kernels))
    assert set(ready["kernels"]) == set(FastGrabCut.kernels)  # the quality's, also where the engine has none
    assert begin["time"] <= ready["time"]
    blocks = events(make, "block")
    assert sorted(block["block"] for block in blocks) == [0, 1, 2, 3]
    assert all((block["worker"], block["seconds"]) == ("host:1", {"vit": 0.25}) for block in blocks)
    statuses = {block["block"]: block["status"] for block in blocks}
    assert statuses == {0: {"ok": 64}, 1: {"ok": 63, "crashed": 1}, 2: {"ok": 64}, 3: {"ok": 8}}
    assert events(make, "checkpoint")[-1]["blocks_done"] == BLOCKS
    (end,) = events(make, "end")
    assert (end["version"], end["counts"]["crashed"]) == ("v1", 1)
    assert events(make, "workers")[0]["workers"] == 1


@pytest.mark.parametrize("log", ["/dev/full", "/proc/nowhere/run.jsonl"])
def test_a_log_that_cannot_be_written_stops_no_build(make, work, log):
    summary = make(log=Path(log))
    check_whole(work)
    if log.startswith("/proc"):
        assert summary.log is None
        assert any("no log, since /proc/nowhere/run.jsonl cannot be written" in said.message for said in make.said)
