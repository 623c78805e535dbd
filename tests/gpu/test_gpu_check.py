"""`scripts/gpu_check.py --tiny`: all of its steps, to their end, on a CPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/gpu_check.py"
STEPS = re.findall(r'^    "(\w+)": Step\(', SCRIPT.read_text(), re.MULTILINE)


def check(folder: Path, *more: str) -> tuple[subprocess.CompletedProcess[str], list[dict]]:
    """The command, and its lines about whole steps."""
    command = [sys.executable, SCRIPT, "--tiny", "--out", folder / "out", "--work", folder / "work", *more]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=2000)
    lines = [json.loads(line) for line in (folder / "out/results.jsonl").read_text().splitlines()]
    return done, [line for line in lines if line["step"] == "run"]


@pytest.mark.slow
def test_every_step_runs_to_its_end(tmp_path):
    done, lines = check(tmp_path, "--patience", "8")
    assert done.returncode == 0, (done.stderr[-500:], (tmp_path / "out/log.txt").read_text()[-3000:])
    assert [line["name"] for line in lines] == STEPS and len(STEPS) > 10
    assert all((line["what"], line["exit"], line["failed"]) == ("ran", 0, []) for line in lines)
    assert {name: line["skipped"] for name, line in zip(STEPS, lines, strict=True)}["f2"] == {"compile": "no GPU"}


def test_a_budget_that_is_spent_skips_the_steps_that_are_left(tmp_path):
    done, lines = check(tmp_path, "--budget", "5", "--only", "env,f2")
    assert done.returncode == 0, done.stderr
    assert [(line["what"], line["name"], line["why"]) for line in lines] == [
        ("skipped", name, "no time is left") for name in ("env", "f2")
    ]


@pytest.mark.slow
def test_a_step_that_fails_is_told(tmp_path):
    (tmp_path / "work/data").mkdir(parents=True)
    (tmp_path / "work/data/ready").touch()  # without any images
    done, (line,) = check(tmp_path, "--only", "d")
    assert done.returncode == 1 and done.stderr.endswith("failed: d\n")
    assert line["exit"] == 0 and "build" in line["failed"]
