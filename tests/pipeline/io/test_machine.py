"""The machine: its cores, also where the system has no affinity masks (macOS)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from locloc.pipeline.io.machine import cpu_name, has_amx, usable_cores


def test_usable_cores_are_those_of_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert usable_cores() == 3


def test_usable_cores_without_affinity_masks(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_the_cli_is_imported_without_affinity_masks():
    script = "import os; vars(os).pop('sched_getaffinity', None); import locloc.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_cpu_has_a_name():
    assert cpu_name().strip()


@pytest.mark.parametrize(
    ("cpuinfo", "amx"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile amx_int8\n", True),
        ("flags\t\t: fpu amx_bf16 avx512_bf16\n", False),  # the system does not let programs use tiles
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd bf16\n", False),
    ],
)
def test_amx_is_for_bfloat16(cpuinfo, amx, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: cpuinfo)
    assert has_amx() == amx


def test_no_amx_is_known_without_linux(monkeypatch):
    def missing(self):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert not has_amx()
