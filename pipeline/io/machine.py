"""The machine that this process runs on: its cores, its CPU and its GPU."""

import os
import platform
import sys
from pathlib import Path


def usable_cores() -> int:
    """CPU cores that this process may use, by its affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model name, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def has_amx() -> bool:
    """Whether this CPU has AMX for bfloat16, and the system lets programs use it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return {"amx_tile", "amx_bf16"} <= flags


def may_have_gpu() -> bool:
    """False where no driver of a GPU that torch can use has made its device file: then nobody need ask torch."""
    return sys.platform != "linux" or any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))


def device_name() -> str:
    """The first GPU's name, or `"CPU (x86_64)"` without one, as recorded in provenance."""
    if may_have_gpu():
        import torch  # imported here: slow, and the store and `locloc masks list` do not need it

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    return f"CPU ({platform.machine()})"
