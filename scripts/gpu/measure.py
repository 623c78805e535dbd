"""Clocks and monitors. Without CUDA everything runs on the CPU, in sizes that only show that the code works."""

import contextlib
import statistics
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from locloc.trainer.bench.cuda_graph import capture

VIT = "vit_small_patch16_224"
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"

Work = Callable[[], object]


def synchronize() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def median_seconds(work: Work, at_least_s: float = 0.6, warm_up: int = 2, most: int = 200) -> float:
    """The median of single runs, each with its wait for the device: 3 runs or more, until `at_least_s` has passed."""
    for _ in range(warm_up):
        work()
    synchronize()
    times, begin = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < at_least_s and len(times) < most):
        start = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stream_seconds(work: Work, runs: int = 20, warm_up: int = 3) -> float:
    """The mean of runs that are enqueued without a wait in between, by CUDA events."""
    if not ON_GPU:
        return median_seconds(work, 0.2, 1, 5)
    for _ in range(warm_up):
        work()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(runs):
        work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / runs


def capture_graph(work: Work, warm_up: int = 3) -> Callable[[], object]:
    """Captures `work` as a CUDA graph and returns its replay."""
    return capture(work, warm_up)[1]


def find_synchronizations(work: Work) -> list[str]:
    """FILE:LINE of each place where one run of `work` waits for the device."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(item.filename).name}:{item.lineno}" for item in caught if "synchroniz" in str(item.message)]


class UsageMonitor:
    """Samples the use of the GPU and of the CPU while its block runs. Needs pynvml and psutil, or samples nothing."""

    def __enter__(self) -> "UsageMonitor":
        self.gpu_percent: list[float] = []
        self.gpu_mb: list[float] = []
        self.cpu_percent: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        handle = nvml = psutil = None
        with contextlib.suppress(Exception):
            import psutil
        with contextlib.suppress(Exception):
            import pynvml as nvml

            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByIndex(0)
        while not self._stop.wait(0.25):
            if handle is not None:
                with contextlib.suppress(Exception):
                    self.gpu_percent.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                    self.gpu_mb.append(nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20)
            if psutil is not None:
                self.cpu_percent.append(psutil.cpu_percent())

    def values(self) -> dict[str, float | None]:
        return {
            "gpu_busy_mean": statistics.fmean(self.gpu_percent) if self.gpu_percent else None,
            "gpu_busy_max": max(self.gpu_percent, default=None),
            "gpu_mb_max": max(self.gpu_mb, default=None),
            "cpu_busy_max": max(self.cpu_percent, default=None),
        }
