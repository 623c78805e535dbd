"""`kill -9` of the command, twice, at moments drawn from a printed seed, with a reader watching all the while."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from locloc.pipeline.store import list_versions, open_version

from .conftest import BUILD, assert_same, blocks_done, build, command, everything, kill_after


@contextmanager
def reading(store: Path, file: Path) -> Iterator[list]:
    """A process that reads all the while; what it saw is in the list afterwards."""
    script = Path(__file__).with_name("watcher.py")
    watcher = subprocess.Popen([sys.executable, script, store, file], stdin=subprocess.PIPE)
    views = []
    try:
        yield views
    finally:
        watcher.stdin.close()
        assert watcher.wait(timeout=60) == 0
        views.extend(json.loads(line) for line in file.read_text().splitlines())


def alive(pids: set[int]) -> set[int]:
    return {
        pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()
    }


@pytest.mark.slow
def test_killed_twice_and_resumed_gives_the_same_bytes(photos, undisturbed, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng, store = random.Random(seed), tmp_path / "masks.store"
    with reading(store, tmp_path / "seen.jsonl") as views:
        building = command(*BUILD, photos, "--store", store, "--workers", 2, "--checkpoint-s", 0)
        workers = kill_after(building, store, 1, rng.uniform(0, 0.5))
        first = blocks_done(store)
        workers |= kill_after(building, store, first + 1, rng.uniform(0, 0.3))
        second = blocks_done(store)
        assert 1 <= first < second < 5
        assert [info.tag for info in list_versions(store)] == [None]

        summary = build(photos, store, "--workers", 2, "--checkpoint-s", 0)
        assert summary["version"] == "v1"
        assert summary["new_rows"] <= 300 - 64 * (second - 1) - 44, "blocks in checkpoints were done again"
    assert_same(open_version(f"{undisturbed}@v1"), open_version(f"{store}@v1"))
    assert open_version(f"{store}@v1").provenance["counts"]["pending"] == 0

    complaints = {view for view in views if isinstance(view, str)}
    assert all("no published version yet" in view or "is not a mask store" in view for view in complaints), complaints
    assert all(view == ["v1", 0, 5, 0] for view in views if not isinstance(view, str))
    assert len(views) > 20
    deadline = time.monotonic() + 30
    while alive(workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive(workers), "workers outlived their command"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_is_finished(stop, photos, undisturbed, tmp_path):
    store = tmp_path / "masks.store"
    started = subprocess.Popen(
        command(*BUILD, photos, "--store", store, "--workers", 2, "--checkpoint-s", 1000),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    lines = []
    for line in started.stderr:  # with checkpoints 1000 s apart, what is kept is what the interruption wrote
        lines.append(line)
        if re.match(r"\d+ of 300 images, ", line):  # not the line about the catalog
            os.killpg(started.pid, stop) if stop == signal.SIGINT else os.kill(started.pid, stop)
            break
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "interrupted; finished blocks are kept" in err
    assert "Traceback" not in err
    done = blocks_done(store)
    assert 1 <= done < 5

    assert build(photos, store)["new_rows"] < 300
    mine, theirs = everything(open_version(f"{store}@v1")), everything(open_version(f"{undisturbed}@v1"))
    assert (mine["content_crc"] == theirs["content_crc"]).all()


@pytest.mark.slow
def test_interrupted_while_workers_start_it_says_so_and_nothing_else(photos, tmp_path):
    """Ctrl-C reaches every process of the terminal, also the one that has imported half of what workers need."""
    started = subprocess.Popen(
        command(*BUILD, photos, "--store", tmp_path / "masks.store", "--workers", 2),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in started.stderr:
        if "worker processes" in line:
            time.sleep(0.7)  # it imports for seconds
            os.killpg(started.pid, signal.SIGINT)
            break
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "interrupted; finished blocks are kept" in err
    assert "Traceback" not in err
