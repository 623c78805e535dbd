"""The machine, commit and package versions of a benchmark."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from ... import __version__
from ..io.machine import cpu_name, usable_cores

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "numba", "pillow", "opencv-python-headless")


def describe_machine(device: torch.device) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "versions": {"locloc": __version__, **{name: importlib.metadata.version(name) for name in _PACKAGES}},
    }


def _commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
