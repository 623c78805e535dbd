"""A scheduler and workers that run already: what is used, what is refused, and how a loss is told."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from distributed import Client, as_completed, get_worker
from distributed.client import FutureCancelledError

from locloc.pipeline.backbones.vit import BackboneSpec
from locloc.pipeline.build.cluster import ClusterSpec, open_cluster
from locloc.pipeline.build.cluster import cluster as running
from locloc.pipeline.build.cluster import dask_scheduler as remote
from locloc.pipeline.errors import BuildError

from .conftest import SMALL_BACKBONE, Processes, free_port, wait_for


def _where():
    def where(_: int = 0) -> str:
        return get_worker().name

    return where


where = _where()  # made in a function, it travels by value: schedulers and workers cannot import the tests


def open_at(address: str, said: list[str] | None = None, backbone: BackboneSpec | None = SMALL_BACKBONE):
    return open_cluster(ClusterSpec(scheduler=address), backbone, 10, (said if said is not None else []).append)


def assert_refused(message: str, address: str, backbone: BackboneSpec = SMALL_BACKBONE) -> None:
    with pytest.raises(BuildError, match=message) as refusal, open_at(address, backbone=backbone):
        pass
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Popen]]:
    """A scheduler with a worker `one`, for tests that harm neither: its address and process."""
    processes = Processes(tmp_path_factory.mktemp("shared"))
    try:
        address, scheduler = processes.scheduler()
        processes.worker(address, "one")
        yield address, scheduler
    finally:
        processes.end()


@pytest.mark.slow
def test_plain_workers_do_both_kinds_and_late_joiners_are_let_in(processes: Processes, monkeypatch):
    address, _ = processes.scheduler()
    first = processes.worker(address, "first")
    said: list[str] = []
    with open_at(address, said) as cluster:
        assert cluster.device == "cpu"
        assert cluster.check() == 1
        assert cluster.attend_on == {"CPU": 1, cluster.run: 1} == cluster.refine_on
        assert cluster.client.submit(where, resources=cluster.attend_on).result(timeout=60) == "first"
        assert said == [f"1 worker at {address}; dashboard at {cluster.dashboard}"]

        processes.kill(first)
        wait_for(lambda: cluster.check() == 0, 30, "the death of the only worker")
        waiting = cluster.client.submit(where, 1, resources=cluster.refine_on)  # nobody can run it now
        cluster.check()
        late = processes.worker(address, "late")
        assert waiting.result(timeout=120) == "late"
        assert cluster.check() == 1
        cluster.check()
        client = cluster.client
        run = cluster.run
    with open_at(address) as after:  # a second build on the same scheduler, after the first left nothing behind
        assert after.run != run
        plugins = after.client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.worker_plugins))
        assert [name for name in plugins if name.startswith("locloc-")] == [after.run]
        assert after.client.submit(where, 2, resources=after.attend_on).result(timeout=60) == "late"
        after.check()
        monkeypatch.setattr(running, "NO_WORKERS_S", 2.0)
        processes.kill(late)
        with pytest.raises(BuildError, match=f"No CPU worker of this build has been at {address} for 2 s"):
            wait_for(lambda: after.check() < 0, 60, "the error")
    assert client.status == "closed"


def test_no_scheduler_is_one_line_in_seconds(monkeypatch):
    monkeypatch.setattr(remote, "CONNECT_S", 2.0)
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    assert_refused(f"No connection to the Dask scheduler at {address}: nothing answered for 2 s", address)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["nonsense", "host:port", "carrier-pigeon://loft:1"])
def test_an_address_that_is_none_is_one_line(address):
    assert_refused(f"No connection to the Dask scheduler at {address}: ", address)


def test_no_workers_is_one_line_that_says_how_to_start_some(processes: Processes, monkeypatch):
    monkeypatch.setattr(remote, "WORKERS_S", 1.0)
    address, _ = processes.scheduler()
    assert_refused(f"has no workers; start some with `dask worker {address} --nthreads 1`", address)


def test_a_worker_without_the_weights_or_with_others_is_named(shared: tuple[str, Popen], tmp_path: Path):
    address, _ = shared
    missing = BackboneSpec("vit_tiny_patch16_224", 64, weights=str(tmp_path / "dino.pth"))
    assert_refused(r"Worker one at tcp://.*dino\.pth", address, missing)
    other = BackboneSpec("vit_tiny_patch16_224", 64, weights="random", sha256="0" * 64)
    assert_refused(r"Worker one at tcp://.* loaded other weights", address, other)


@pytest.mark.slow
def test_a_declared_gpu_that_torch_does_not_see_is_named(processes: Processes):
    address, _ = processes.scheduler()
    processes.worker(address, "gpu-node", "GPU=1", env={"CUDA_VISIBLE_DEVICES": ""})
    assert_refused(r"Worker gpu-node at .*declares the resource GPU, but its torch sees no CUDA", address)


@pytest.mark.slow
def test_attend_goes_to_gpu_workers_and_refine_to_the_others(processes: Processes):
    """Without a model in memory, that needs no GPU: the resource is only a name."""
    address, _ = processes.scheduler()
    processes.worker(address, "gpu", "GPU=1")
    with open_at(address, backbone=None) as cluster:
        assert (cluster.device, cluster.attend_on) == ("cuda", {"GPU": 1, cluster.run: 1})
        assert cluster.refine_on == cluster.attend_on
        assert cluster.decode_threads == max(1, len(os.sched_getaffinity(0)) - 1)
    processes.worker(address, "cpu")
    said: list[str] = []
    with Client(address) as client:
        client.wait_for_workers(2, timeout=60)
    with open_at(address, said, backbone=None) as cluster:
        assert cluster.refine_on == {"CPU": 1, cluster.run: 1}
        assert said[0].startswith(f"2 workers at {address}, 1 of them with a GPU")
        attended = [cluster.client.submit(where, n, resources=cluster.attend_on) for n in range(5)]
        refined = [cluster.client.submit(where, n + 5, resources=cluster.refine_on) for n in range(5)]
        assert cluster.client.gather([*attended, *refined]) == ["gpu"] * 5 + ["cpu"] * 5


def test_two_builds_share_a_scheduler(shared: tuple[str, Popen]):
    address, _ = shared
    with open_at(address) as mine:
        with open_at(address) as yours:
            assert mine.run != yours.run
            ours = [mine.client.submit(where, n, resources=mine.attend_on) for n in range(3)]
            theirs = [yours.client.submit(where, n + 10, resources=yours.attend_on) for n in range(3)]
            assert mine.client.gather(ours) == ["one"] * 3 == yours.client.gather(theirs)
        assert mine.client.submit(where, 20, resources=mine.attend_on).result(timeout=60) == "one"
        assert mine.check() == 1
        mine.check()


@pytest.mark.slow
def test_a_coordinator_that_dies_leaves_no_plugin(shared: tuple[str, Popen], processes: Processes):
    address, _ = shared
    dying = processes.start(
        "dying",
        "-c",
        "import os, signal\n"
        "from locloc.pipeline.backbones.vit import BackboneSpec\n"
        "from locloc.pipeline.build.cluster import ClusterSpec, open_cluster\n"
        "backbone = BackboneSpec('vit_tiny_patch16_224', 64, weights='random')\n"
        f"with open_cluster(ClusterSpec(scheduler={address!r}), backbone, 1, print) as cluster:\n"
        "    cluster.client.submit(abs, -1, resources=cluster.attend_on).result()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    assert dying.wait(120) == -signal.SIGKILL, processes.output("dying")
    with open_at(address) as cluster:
        plugins = cluster.client.run_on_scheduler(
            lambda dask_scheduler: [*dask_scheduler.worker_plugins, *dask_scheduler.plugins]
        )
        assert [name for name in plugins if str(name).startswith("locloc-")] == [cluster.run] * 2
        on_worker = cluster.client.run(lambda dask_worker: [n for n in dask_worker.plugins if n.startswith("locloc-")])
        assert list(on_worker.values()) == [[cluster.run]]


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_everything_that_waits(processes: Processes):
    port = free_port()
    address, scheduler = processes.scheduler(port=port)
    processes.worker(address, "one")
    with open_at(address) as cluster:
        futures = [cluster.client.submit(time.sleep, 60 + n, resources=cluster.attend_on) for n in range(3)]
        assert not cluster.lost()
        processes.kill(scheduler)
        wait_for(cluster.lost, 10, "the loss to be noticed")
        assert [future.status for future in as_completed(futures)] == ["cancelled"] * 3
        with pytest.raises(FutureCancelledError):
            futures[0].result(timeout=10)
        with pytest.raises(BuildError, match=f"scheduler at {address} was lost; what is finished is kept"):
            cluster.check()
        processes.scheduler("again", port)  # at the same address, and it knows nothing of this build
        wait_for(lambda: cluster.client.status == "running", 30, "the client to connect again")
        assert cluster.lost()
        with pytest.raises(BuildError, match="was lost"):
            cluster.check()


@pytest.mark.slow
def test_a_scheduler_that_hangs_is_lost_after_a_while(shared: tuple[str, Popen], monkeypatch):
    address, scheduler = shared
    with open_at(address) as cluster:
        monkeypatch.setattr(running, "NO_WORKERS_S", 2.0)
        monkeypatch.setattr(running, "REPLY_S", 0.5)
        os.kill(scheduler.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BuildError, match="was lost"):
                wait_for(lambda: cluster.check() < 0, 60, "the error")
        finally:
            os.kill(scheduler.pid, signal.SIGCONT)
