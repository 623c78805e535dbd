"""Builds in jobs of a real SLURM (real_slurm.py), whose images are decoded when a test allows it."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.store import open_version

from ..end_to_end.conftest import command, everything, make_images
from .conftest import SMALL_RECIPE, wait_for
from .faults.nursery import HOOK
from .real_slurm import RealSlurm

IMAGES = 512  # eight blocks, enough for one job
DECODE_S = 0.03  # of an image: a block takes two seconds and more, in which a test holds the next one


@dataclass
class Build:
    """A running `locloc masks build --slurm`."""

    process: subprocess.Popen
    store: Path
    err: Path
    held: Path

    def events(self, kind: str) -> list[dict]:
        files = sorted((self.store / "logs").glob("*.jsonl"))
        lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
        return [event for line in lines if line.endswith("\n") and (event := json.loads(line))["event"] == kind]

    def said(self) -> str:
        return self.err.read_text()

    def hold(self) -> None:
        """No image is decoded from now on: the build cannot end before `go`, however quick the machine is."""
        self.held.touch()

    def go(self) -> None:
        self.held.unlink(missing_ok=True)

    def wait_for_a_block(self) -> float:
        """Lets images be decoded until one more block is finished; the seconds that it took."""
        before, begun = len(self.events("block")), time.monotonic()
        self.go()
        wait_for(lambda: len(self.events("block")) > before or self.process.poll() is not None, 180, "a block")
        self.hold()
        assert len(self.events("block")) > before, self.said()
        return time.monotonic() - begun

    def end(self, code: int, timeout_s: float = 180) -> str:
        """What it has printed; asserts the exit code and that no line is a traceback's."""
        self.go()
        assert self.process.wait(timeout_s) == code, self.said()
        said = self.said()
        assert "Traceback" not in said and "Error:" not in said and "Future" not in said, said
        assert not re.search(r"\b0 workers\b", said), said
        return said


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("photos"), IMAGES)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "small.toml"
    file.write_text(SMALL_RECIPE)
    return file


@pytest.fixture(scope="module")
def undisturbed(photos: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    store = tmp_path_factory.mktemp("undisturbed") / "masks.store"
    arguments = ("masks", "build", photos, "--store", store, "--recipe", recipe, "--weights", "random", "--workers", 1)
    subprocess.run(command(*arguments), check=True, capture_output=True)
    return everything(open_version(f"{store}@v1"))


@pytest.fixture
def start(real_slurm: RealSlurm, photos: Path, recipe: Path, tmp_path: Path) -> Iterator[Callable[..., Build]]:
    """`start("cpu settings")` starts a build in jobs of one slow worker each; `constants` of the coordinator's."""
    started: list[Build] = []

    def start(settings: str = "", env: dict[str, str] | None = None, **constants: float) -> Build:
        file, held = tmp_path / "slurm.toml", tmp_path / "held"
        slow = json.dumps({"decode_s": DECODE_S, "hold": str(held)})
        prologue = [f"export PYTHONPATH={HOOK}", f"export LOCLOC_FAULTS='{slow}'"]
        file.write_text(
            'interface = "lo"\n[cpu]\nmemory_gib = 3\nwalltime_min = 60\n'
            f'local_directory = "{tmp_path}"\nlog_directory = "{tmp_path / "logs"}"\n'
            f"job_script_prologue = {json.dumps(prologue)}\n{settings}\n"
        )
        err = tmp_path / f"{len(started)}.err"
        quick = {"locloc.pipeline.build.cluster.slurm_jobs": {"POLL_S": 0.5, "CANCEL_S": 2.0} | constants}
        hook = {"PYTHONPATH": str(HOOK), "LOCLOC_FAULTS": json.dumps({"set": quick})}
        with err.open("wb") as out:
            process = subprocess.Popen(
                command(
                    "masks", "build", photos, "--store", tmp_path / "masks.store", "--recipe", recipe, "--weights",
                    "random", "--slurm", file, "--checkpoint-s", 0.5, "--image-limit-s", 900,
                ),
                stdout=out, stderr=out, cwd=tmp_path, env=os.environ | real_slurm.env | hook | (env or {}),
            )  # fmt: skip
        started.append(Build(process, tmp_path / "masks.store", err, held))
        return started[-1]

    yield start
    for build in started:
        build.process.kill()
        build.process.wait()


def running(slurm: RealSlurm, besides: set[str] = frozenset()) -> str:
    """Waits for a running job that is none of these."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [job for job, state in slurm.jobs().items() if state == "RUNNING" and job not in besides]
        return bool(found)

    wait_for(look, 120, "a running job")
    return found[0]


def assert_as_undisturbed(build: Build, undisturbed: dict[str, np.ndarray]) -> None:
    found = everything(open_version(f"{build.store}@v1"))
    differing = [name for name in undisturbed if not np.array_equal(found[name], undisturbed[name])]
    assert found.keys() == undisturbed.keys() and not differing


def note(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.1f} s")
