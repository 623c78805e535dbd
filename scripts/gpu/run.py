"""What locloc does on a GPU, in at most 8 minutes: each step in its own process, with a time limit.

    python run.py run --out DIR [--budget 470] [--only a,b]    all steps, or some
    python run.py step NAME --out DIR                          one step, in this process
    python run.py cli ...                                      a `locloc` command that prints its peak GPU memory

Results are lines of DIR/results.jsonl; DIR/log.txt has the steps' output. Without CUDA, steps run in small sizes on
the CPU. `locloc` must be importable; gpu_check.sh sees to that.
"""

import argparse
import importlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from commands import kill_group, run_cli, start_group
from results import begin_step, emit


@dataclass(frozen=True)
class Step:
    """A function of a module in this folder."""

    module: str
    function: str
    limit_s: float


STEPS = {
    "env": Step("steps_environment", "environment", 40),
    "a": Step("steps_vit", "agreement", 50),
    "g": Step("steps_images", "nvjpeg", 45),
    "b": Step("steps_vit", "throughput", 60),
    "c": Step("steps_cut", "engine", 80),
    "c2": Step("steps_fused_cut", "fused", 70),
    "f": Step("steps_bench", "bench", 100),
    "d": Step("steps_build", "builds", 150),
    "e": Step("steps_training", "training", 150),
    "h": Step("steps_environment", "tests", 60),
    "f2": Step("steps_bench", "compiled", 200),
}
"""The most useful steps first: the budget may end before the last ones. Step `e` trains on the store of `d`."""

PREPARE, PREPARED = "prep", {"c", "d", "e", "g"}
"""Writes images and compiles kernels for these steps, beside the steps before them."""
LEAST_S = 20  # a step is skipped if less time than this is left


def run_step(name: str, out: Path) -> None:
    begin_step(out, name)
    begin = time.perf_counter()
    step = Step("scenes", "prepare", 0) if name == PREPARE else STEPS[name]
    getattr(importlib.import_module(step.module), step.function)()
    emit("step done", seconds=time.perf_counter() - begin)


def run_all(out: Path, budget_s: float, only: list[str]) -> None:
    """Runs steps one after the other until `budget_s` is spent. PATIENCE multiplies their limits, for slow machines."""
    begin_step(out, "run")
    begin, patience = time.monotonic(), float(os.environ.get("PATIENCE", "1"))
    with (out / "log.txt").open("a") as log:
        names = [name for name in STEPS if not only or name in only]
        prepare = _start(PREPARE, out, log) if PREPARED & set(names) else None
        for name in names:
            left = budget_s - (time.monotonic() - begin)
            if left < LEAST_S:
                emit("skipped", name=name, why="no time is left")
                continue
            limit, step_begin = min(STEPS[name].limit_s * patience, left), time.monotonic()
            process = _start(name, out, log)
            try:
                code: int | str = process.wait(limit)
            except subprocess.TimeoutExpired:
                kill_group(process)
                code = f"killed after {limit:.0f} s"
            now = time.monotonic()
            emit("ran", name=name, exit=code, seconds=now - step_begin, left_s=budget_s - (now - begin))
        if prepare is not None and prepare.poll() is None:
            kill_group(prepare)
    print((out / "results.jsonl").read_text()[-9000:])


def _start(name: str, out: Path, log: TextIO) -> subprocess.Popen:
    return start_group([sys.executable, __file__, "step", name, "--out", str(out)], stdout=log, stderr=log)


def main() -> None:
    if sys.argv[1:2] == ["cli"]:
        run_cli(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "step"])
    parser.add_argument("name", nargs="?", choices=[*STEPS, PREPARE])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "/tmp/locloc-gpu-out")))
    parser.add_argument("--budget", type=float, default=470.0, help="seconds for all steps")
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(unknown))}; steps are {', '.join(STEPS)}")
    if arguments.what == "run":
        run_all(arguments.out, arguments.budget, only)
    elif arguments.name:
        run_step(arguments.name, arguments.out)
    else:
        parser.error("step takes a NAME")


if __name__ == "__main__":
    main()
