"""Local workers: where tasks run, with how many threads, and how workers are prepared."""

import os
import signal
import subprocess
import sys
import time

import cv2
import pytest
import torch
from distributed import Client, LocalCluster, get_worker
from distributed.scheduler import NoValidWorkerError

from locloc.pipeline.backbones.vit import BackboneSpec
from locloc.pipeline.build.cluster import ClusterSpec, PrepareWorker, local, open_cluster
from locloc.pipeline.build.cluster import cluster as running
from locloc.pipeline.build.cluster.cluster import _task_resources
from locloc.pipeline.build.cluster.local import local_cluster, usable_gpus
from locloc.pipeline.build.cluster.worker_plugin import difference
from locloc.pipeline.errors import BuildError
from locloc.pipeline.masks.grabcut import FastGrabCut, kernels_of

BACKBONE = BackboneSpec("vit_tiny_patch16_224", 64, weights="random")


def whereabouts() -> dict:
    return {
        "name": get_worker().name,
        "pid": os.getpid(),
        "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": get_worker().state.nthreads,
        "torch": torch.get_num_threads(),
        "cv2": cv2.getNumThreads(),
        "compiled": sorted(set(kernels_of(FastGrabCut())) & set(sys.modules)),
        "alarm": signal.getsignal(signal.SIGALRM) == signal.SIG_DFL,
    }


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": "two"}, {"workers": 1.5}, {"gpus": -1}, {"gpus": "all"}])
def test_a_number_of_processes_is_one(wrong):
    with pytest.raises(BuildError, match="is no number of "):
        ClusterSpec(**wrong)


def test_gpu_tasks_go_to_the_gpu_worker_and_the_others_to_cpus():
    """Needs no GPU: the resource is only a name."""
    with local_cluster(1, gpus=1) as client:
        client.register_plugin(PrepareWorker(BACKBONE, "cpu"))
        attend = [client.submit(whereabouts, resources={"GPU": 1}, pure=False) for _ in range(3)]
        refine = [client.submit(whereabouts, resources={"CPU": 1}, pure=False) for _ in range(3)]
        on_gpu, on_cpu = client.gather(attend), client.gather(refine)
        workers = client.scheduler_info()["workers"]
    assert {place["name"] for place in on_gpu} == {"gpu-0"}
    assert {place["cuda"] for place in on_gpu} == {"0"}
    assert {place["name"] for place in on_cpu} == {"cpu-0"}
    assert {place["cuda"] for place in on_cpu} == {""}
    assert all((place["threads"], place["torch"], place["cv2"]) == (1, 1, 1) for place in on_gpu + on_cpu)
    assert all(place["alarm"] for place in on_gpu + on_cpu)
    limits = {worker["name"]: worker["memory_limit"] for worker in workers.values()}
    assert limits["gpu-0"] == pytest.approx(local.GPU_SHARES * limits["cpu-0"], rel=1e-6)
    assert len(workers) == 2
    pids = {place["pid"] for place in on_gpu + on_cpu}
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_a_resource_that_no_worker_has_is_an_error_in_seconds(monkeypatch):
    monkeypatch.setitem(local._CONFIG, "distributed.scheduler.no-workers-timeout", "1s")
    with local_cluster(1) as client:
        future = client.submit(whereabouts, resources={"GPU": 1})
        with pytest.raises(NoValidWorkerError):
            future.result(timeout=30)


def test_workers_that_end_late_hide_no_error_of_the_build():
    class Late:
        closed = 0

        def close(self):
            self.closed += 1
            raise TimeoutError  # as Dask's nannies do on a machine without time to spare

    cluster = Late()
    with pytest.raises(BuildError, match="No CPU worker"), local._closing(cluster):
        raise BuildError("No CPU worker of this build")
    with local._closing(cluster) as inside:
        assert inside is cluster
    assert cluster.closed == 2


def test_a_cluster_on_this_machine_has_no_more_workers_than_blocks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = []
    with open_cluster(ClusterSpec(workers=8), BACKBONE, 1, said.append, kernels_of(FastGrabCut())) as cluster:
        assert cluster.check() == 1
        assert (cluster.device, cluster.decode_threads) == ("cpu", 1)
        place = cluster.client.submit(whereabouts, resources=cluster.attend_on, pure=False).result(timeout=60)
        assert place["name"] == "cpu-0"
        os.kill(place["pid"], signal.SIGKILL)  # its nanny starts another, which must be prepared again
        again = cluster.client.submit(whereabouts, resources=cluster.refine_on, pure=False).result(timeout=120)
        assert again["pid"] != place["pid"]
        assert len(place["compiled"]) == 3 and again["compiled"] == place["compiled"], "before the first image"
        cluster.check()
        monkeypatch.setattr(running, "NO_WORKERS_S", 0.2)
        monkeypatch.setattr(running, "_can_run", lambda worker, needs: False)
        time.sleep(0.3)
        with pytest.raises(BuildError, match="No CPU worker of this build"):
            cluster.check()
    assert "kernels" in said[0]
    assert said[1] == "starting 1 worker process" and "1 worker at this machine" in said[2]


COMPILED_BEFORE_FORKING = """
import sys
from locloc.pipeline.build.cluster import local_cluster
from locloc.pipeline.masks.grabcut import FastGrabCut, kernels_of

kernels = kernels_of(FastGrabCut())
with local_cluster(1, 0, kernels) as client:
    print(client.submit(lambda: [name in sys.modules for name in kernels], pure=False).result(timeout=60))
"""


def test_workers_are_forked_with_the_kernels_in_memory():
    """Runs in a new process, since the process that workers are forked from is started once."""
    found = subprocess.run([sys.executable, "-c", COMPILED_BEFORE_FORKING], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (0, "[True, True, True]\n"), found.stderr


def test_workers_that_cannot_load_the_backbone_are_named(monkeypatch):
    missing = BackboneSpec("vit_tiny_patch16_224", 64, weights="/nowhere/dino.pth")
    with (
        pytest.raises(BuildError, match=r"Worker cpu-0 at tcp://.*: .*/nowhere/dino.pth"),
        open_cluster(ClusterSpec(workers=1, gpus=0), missing, 1, print),
    ):
        pass


@pytest.mark.parametrize(("wanted", "used"), [(None, 2), (0, 0), (1, 1), (2, 2)])
def test_visible_gpus_are_used(monkeypatch, wanted, used):
    monkeypatch.setattr(local, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_gpus(wanted) == used


def test_more_gpus_than_visible_are_an_error(monkeypatch):
    monkeypatch.setattr(local, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BuildError, match="--gpus 3: this machine shows 2"):
        usable_gpus(3)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ([{}], ("cpu", "CPU", "CPU")),
        ([{"CPU": 1}, {}], ("cpu", "CPU", "CPU")),
        ([{"GPU": 1}, {}], ("cuda", "GPU", "CPU")),
        ([{"GPU": 1}, {"CPU": 1}], ("cuda", "GPU", "CPU")),
        ([{"GPU": 1}], ("cuda", "GPU", "GPU")),
        ([{"GPU": 1, "CPU": 1}], ("cuda", "GPU", "CPU")),
    ],
)
def test_what_workers_declare_decides_where_tasks_go(declared, expected):
    assert _task_resources([{"resources": resources} for resources in declared]) == expected


def test_a_difference_names_package_and_both_versions():
    ours = {"python": "3.11", "torch": "2.11.0", "zarr": "3.1.6"}
    assert difference(ours, dict(ours)) is None
    theirs = {"python": "3.11", "torch": "2.9.1", "zarr": None}
    assert difference(theirs, ours) == "has torch 2.9.1, no zarr; the coordinator has torch 2.11.0, zarr 3.1.6"


@pytest.mark.parametrize("whose", ["client", "scheduler"])
def test_what_dask_holds_back_after_the_clock_was_set_back_is_sent(whose):
    """It waits for a time of the wall clock between two messages; the scheduler of a local build is in this process."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as local_dask,
        Client(local_dask) as client,
    ):
        scheduler, stream = local_dask.scheduler, client.scheduler_comm
        cluster = running.Cluster(
            client, "cpu", 1, {}, {}, "here", None, "run", print, lambda left, ready: None, True, stream
        )  # fmt: skip
        arrived: list[str] = []
        if whose == "scheduler":
            (stream,) = scheduler.client_comms.values()
            client.subscribe_topic("topic", lambda event: arrived.append("event"))
            time.sleep(0.3)  # the subscription itself is a message
        stream.next_deadline = time.time() + 7200
        future = client.submit(int) if whose == "client" else client.log_event("topic", "event")
        time.sleep(0.3)
        assert not arrived and not scheduler.tasks
        assert cluster.check() == 0
        give_up = time.monotonic() + 20
        while not (arrived or scheduler.tasks):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert stream.next_deadline is None or stream.next_deadline < time.time() + 60
        assert future is None or future.key in scheduler.tasks
