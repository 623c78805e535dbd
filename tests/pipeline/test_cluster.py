"""Local workers: what runs where, with how many threads, and what a worker is told at its start."""

import os
import time

import cv2
import pytest
import torch
from distributed import get_worker
from distributed.scheduler import NoValidWorkerError

from locloc.pipeline import cluster
from locloc.pipeline.backbone import BackboneSpec
from locloc.pipeline.cluster import PrepareWorker, local_cluster


def whereabouts() -> dict:
    return {
        "name": get_worker().name,
        "pid": os.getpid(),
        "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": get_worker().state.nthreads,
        "torch": torch.get_num_threads(),
        "cv2": cv2.getNumThreads(),
    }


def test_gpu_tasks_go_to_the_gpu_worker_and_the_others_to_cpus():
    """No GPU is needed to see where tasks go: the resource is only a name."""
    with local_cluster(1, gpus=1) as client:
        client.register_plugin(PrepareWorker(BackboneSpec("vit_tiny_patch16_224", weights="random"), "cpu"))
        attend = [client.submit(whereabouts, resources={"GPU": 1}, pure=False) for _ in range(3)]
        refine = [client.submit(whereabouts, resources={"CPU": 1}, pure=False) for _ in range(3)]
        on_gpu, on_cpu = client.gather(attend), client.gather(refine)
        workers = client.scheduler_info()["workers"]
    assert {place["name"] for place in on_gpu} == {"gpu-0"}
    assert {place["cuda"] for place in on_gpu} == {"0"}
    assert {place["name"] for place in on_cpu} == {"cpu-0"}
    assert {place["cuda"] for place in on_cpu} == {""}
    assert all((place["threads"], place["torch"], place["cv2"]) == (1, 1, 1) for place in on_gpu + on_cpu)
    assert len(workers) == 2
    pids = {place["pid"] for place in on_gpu + on_cpu}
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_a_resource_that_nobody_has_is_an_error_in_seconds(monkeypatch):
    monkeypatch.setitem(cluster._CONFIG, "distributed.scheduler.no-workers-timeout", "1s")
    with local_cluster(1) as client:
        future = client.submit(whereabouts, resources={"GPU": 1})
        with pytest.raises(NoValidWorkerError):
            future.result(timeout=30)
