"""What locloc does on a GPU, within a budget of seconds: each step in a process of its own, with a time limit.

    python scripts/gpu_check.py [--only a,b] [--budget 470] [--out DIR] [--wheels DIR] [--tiny]
    python scripts/gpu_check.py step NAME --out DIR    one step, in this process
    python scripts/gpu_check.py cli ...                a `locloc` command that prints its peak GPU memory

Results are lines of DIR/results.jsonl, a line `ran` or `skipped` for each step; DIR/log.txt has the steps' output. The
exit code is 1 if a part of a step failed. With --tiny, and without CUDA, steps run in small sizes on the CPU, to test
their code. Needs no network: packages that the Python lacks are installed from the folder of --wheels (gpu/wheels.sh or
`make wheelhouse` makes one) into a folder of their own. docs/gpu.md lists the steps.
"""

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).with_name("gpu")))

from commands import PATIENCE, kill_group, run_cli, start_group  # noqa: E402
from results import begin_step, emit, line_count, lines_of  # noqa: E402


@dataclass(frozen=True)
class Step:
    """A function of a module in scripts/gpu."""

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


def run_all(out: Path, budget_s: float, only: list[str], patience: float, environment: dict[str, str]) -> list[str]:
    """Runs steps one after the other until `budget_s` is spent. Returns the names of those in which something failed.

    patience  multiplies the limits of steps
    """
    begin_step(out, "run")
    failing = []
    begin = time.monotonic()
    with (out / "log.txt").open("a") as log:

        def start(name: str, log: TextIO = log) -> subprocess.Popen:
            command = [sys.executable, __file__, "step", name, "--out", str(out)]
            return start_group(command, stdout=log, stderr=log, env=environment)

        names = [name for name in STEPS if not only or name in only]
        prepare = start(PREPARE) if PREPARED & set(names) else None
        for name in names:
            left = budget_s - (time.monotonic() - begin)
            if left < LEAST_S:
                emit("skipped", name=name, why="no time is left")
                continue
            limit, step_begin = min(STEPS[name].limit_s * patience, left), time.monotonic()
            before, process = line_count(out), start(name)
            try:
                code: int | str = process.wait(limit)
            except subprocess.TimeoutExpired:
                kill_group(process)
                code = f"killed after {limit:.0f} s"
            now = time.monotonic()
            failed, skipped = outcome(out, name, before)
            if code != 0 or failed:
                failing.append(name)
            emit(
                "ran", name=name, exit=code, failed=failed, skipped=skipped, seconds=now - step_begin,
                left_s=budget_s - (now - begin),
            )  # fmt: skip
        if prepare is not None and prepare.poll() is None:
            kill_group(prepare)
    print((out / "results.jsonl").read_text()[-9000:])
    return failing


def outcome(out: Path, step: str, start: int) -> tuple[list[str], dict[str, str]]:
    """Parts of a step that failed, and those that were skipped, with the reason.

    start  lines of results that were there before
    """
    lines = lines_of(out, step, start)
    return (
        [line["what"] for line in lines if line.get("failed")],
        {line["what"]: line["skipped"] for line in lines if "skipped" in line},
    )


def environment_of(work: Path, wheels: Path | None, tiny: bool, patience: float) -> dict[str, str]:
    """The variables of steps, with packages from `wheels` and, unless it is installed, locloc on the path."""
    site = work / "site"
    site.mkdir(parents=True, exist_ok=True)
    installed = site / ".installed"
    if wheels is not None and not installed.exists():
        files = sorted(map(str, wheels.glob("*.whl")))
        if not files:
            sys.exit(f"No wheels in {wheels}; make wheelhouse, or scripts/gpu/wheels.sh, makes a folder of them")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*pip, "--disable-pip-version-check", "--upgrade", "--target", str(site), *files], check=True)
        installed.touch()
    if importlib.util.find_spec("locloc") is None and not (site / "locloc").exists():
        (site / "locloc").symlink_to(REPOSITORY)  # the repository's root is the package
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {
        "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1",
        "PYTHONPYCACHEPREFIX": str(work / "pycache"), "NUMBA_CACHE_DIR": str(work / "numba"),
        "GPU_CHECK_WORK": str(work / "data"),
        # Dask would pause workers on a machine whose memory grows as it is used: little seems free at first.
        "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False", "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
        "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False",
    }  # fmt: skip
    return (
        os.environ
        | {name: os.environ.get(name, value) for name, value in ours.items()}
        | {"PYTHONPATH": ours["PYTHONPATH"]}
        | {PATIENCE: str(patience)}
        | ({"CUDA_VISIBLE_DEVICES": ""} if tiny else {})
    )


def main() -> None:
    if sys.argv[1:2] == ["cli"]:
        run_cli(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="run", choices=["run", "step"])
    parser.add_argument("name", nargs="?", choices=[*STEPS, PREPARE])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "/tmp/locloc-gpu-out")))
    parser.add_argument("--work", type=Path, default=Path("/tmp/locloc-gpu-work"), help="data, stores, runs, packages")
    parser.add_argument("--budget", type=float, help="seconds for all steps; 470, with --tiny 1800")
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first")
    parser.add_argument("--patience", type=float, help="factor on the limits of steps, for slow machines; --tiny has 4")
    parser.add_argument("--tiny", action="store_true", help="small sizes on the CPU, to test the check itself")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(unknown))}; steps are {', '.join(STEPS)}")
    if arguments.what == "run":
        budget_s, patience = (1800, 4) if arguments.tiny else (470, 1)
        budget_s, patience = arguments.budget or budget_s, arguments.patience or patience
        environment = environment_of(arguments.work.absolute(), arguments.wheels, arguments.tiny, patience)
        if failing := run_all(arguments.out.absolute(), budget_s, only, patience, environment):
            sys.exit(f"failed: {', '.join(failing)}")
    elif arguments.name:
        run_step(arguments.name, arguments.out)
    else:
        parser.error("step takes a NAME")


if __name__ == "__main__":
    main()
