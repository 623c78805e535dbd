"""The real command in real processes."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from locloc.cli import app, main
from locloc.pipeline.errors import StoreError
from locloc.pipeline.store import Version, list_versions
from locloc.pipeline.store.schema import COLUMNS

# The smallest ViT that timm has with three heads: a build of 150 images takes seconds.
BUILD = ["masks", "build", "--backbone", "vit_tiny_patch16_224", "--weights", "random"]


def image(seed: int, width: int = 120, height: int = 90) -> np.ndarray:
    """A bright ellipse on a noisy gradient, `(height, width, 3) uint8`: something with an inside and an outside."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.3, 0.7, 2) * (width, height)
    radius = rng.uniform(0.15, 0.3, 2) * (width, height)
    inside = (((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2) < 1
    ground = np.stack([x / width, y / height, (x + y) / (width + height)], -1) * 120
    values = np.where(inside[..., None], rng.uniform(120, 255, 3), ground) + rng.normal(0, 8, (height, width, 3))
    return values.clip(0, 255).astype(np.uint8)


def make_images(folder: Path, count: int) -> Path:
    """Fills two class folders with `count` JPEG images of three sizes."""
    for number in range(count):
        file = folder / ("even" if number % 2 == 0 else "odd") / f"{number:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        width, height = ((120, 90), (90, 120), (64, 64))[number % 3]
        Image.fromarray(image(number, width, height)).save(file, quality=92)
    return folder


@pytest.fixture(scope="session")
def make_folder() -> Callable[[Path, int], Path]:
    return make_images


def command(*arguments: Any) -> list[str]:
    # Shells start background jobs, perhaps the tests among them, with SIGINT ignored: the command is to hear it.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return [sys.executable, "-c", f"{hear}; from locloc.cli import main; main()", *map(str, arguments)]


def run(*arguments: Any, code: int = 0, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    """Runs `locloc ...` and checks its exit code."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class Said(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def locloc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`locloc(...)` runs the command line inside the test's process, which has imported torch already."""

    def invoke(*arguments: Any) -> Said:
        monkeypatch.setattr(sys, "argv", ["locloc", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
            sys.exit(0)
        return Said(end.value.code or 0, *capsys.readouterr())

    return invoke


def build(images: Path, store: Path, *more: Any, code: int = 0) -> dict[str, Any]:
    """Builds in this process, which has imported torch already, and returns the summary that `--json` prints."""
    said = io.StringIO()
    with redirect_stdout(said):
        ended = app([*BUILD, *map(str, (images, "--store", store, "--json", *more))], standalone_mode=False)
    assert (ended or 0) == code
    return json.loads(said.getvalue())


def everything(version: Version) -> dict[str, np.ndarray]:
    """All arrays of a version, and its table as a column."""
    arrays = {name: version.read_column(name) for name in ("mask", "attention", "error", *COLUMNS)}
    return arrays | {"table": np.array([str(row) for row in version.table.to_pylist()])}


def assert_same(one: Version, other: Version) -> None:
    mine, theirs = everything(one), everything(other)
    differing = [name for name in mine if not np.array_equal(mine[name], theirs[name])]
    assert not differing, f"{one.name} and {other.name} differ in {differing}"


def blocks_done(store: Path) -> int:
    try:
        return max((info.metadata.get("counts", {}).get("blocks_done", 0) for info in list_versions(store)), default=0)
    except StoreError:
        return 0


def children_of(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, _, rest = stat.read_text().partition(" (")
            parent = int(rest.rpartition(") ")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found |= {int(child)} | children_of(int(child))
    return found


def kill_after(
    building: list[str], store: Path, blocks: int, delay_s: float, env: dict[str, str] | None = None
) -> set[int]:
    """Starts a build, kills it `delay_s` after it has `blocks` blocks in checkpoints; returns its workers."""
    started = subprocess.Popen(building, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    give_up = time.monotonic() + 120
    while blocks_done(store) < blocks and started.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)  # each look costs as much as some images
    time.sleep(delay_s)
    workers = children_of(started.pid)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "the build was over before it could be killed"
    return workers


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, make_folder) -> Path:
    """300 images in two classes: five blocks, the last one short."""
    return make_folder(tmp_path_factory.mktemp("photos"), 300)


@pytest.fixture(scope="session")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the version v1 of `photos`, made by one worker without a break."""
    store = tmp_path_factory.mktemp("undisturbed") / "masks.store"
    summary = build(photos, store, "--workers", 1)
    assert (summary["version"], summary["new_rows"]) == ("v1", 300)
    return store
