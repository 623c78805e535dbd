"""The machine: its cores, also where the system has no affinity masks (macOS)."""

import os
import subprocess
import sys

from locloc.pipeline.io.machine import cpu_name, usable_cores


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
