"""Several who want to write to one store at once: one does, and the others are told who, where and since when."""

import json
import random
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.store import Version, list_versions, open_version

from ..end_to_end.conftest import assert_same, make_images
from .conftest import SMALL_RECIPE, wait_for
from .faults.dask_cluster import SETTINGS, DaskCluster
from .faults.nursery import Child, Nursery

BUILDERS, COLLECTORS = 5, 3
LEASE = "locloc.pipeline.store.lease"
STALE_S = 3.0
NO_FLOCK = {"no_flock": True, "set": {LEASE: {"HEARTBEAT_S": 0.3, "STALE_S": STALE_S, "POLL_S": 0.1}}}


@dataclass
class StoreLocation:
    """Images, two workers, and commands that are there at once."""

    nursery: Nursery
    cluster: DaskCluster
    photos: Path
    recipe: Path

    def locloc(self, *arguments: object, faults: dict[str, Any] | None = None) -> Child:
        env = {"LOCLOC_FAULTS": json.dumps(faults or {})}
        return self.nursery.start("locloc", "locloc.cli", *map(str, arguments), env=env)

    def build(self, store: Path, faults: dict[str, Any] | None = None, recipe: Path | None = None) -> Child:
        self.cluster.tend()
        return self.locloc(
            "masks", "build", self.photos, "--store", store, "--recipe", recipe or self.recipe, "--weights", "random",
            "--scheduler", self.cluster.address, "--checkpoint-s", 0, faults=faults,
        )  # fmt: skip


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreLocation]:
    folder = tmp_path_factory.mktemp("builders")
    recipe = folder / "small.toml"
    recipe.write_text(SMALL_RECIPE)
    with Nursery(folder / "processes", SETTINGS) as nursery:
        photos = make_images(folder / "photos", 260)
        yield StoreLocation(nursery, DaskCluster(nursery, folder / "processes"), photos, recipe)


@pytest.fixture(scope="module")
def alone(location: StoreLocation, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version that one builder makes whom nobody disturbs."""
    store = tmp_path_factory.mktemp("alone") / "masks.store"
    ended(location.build(store), 0)
    return open_version(f"{store}@v1")


def ended(child: Child, code: int) -> str:
    """What it printed."""
    assert child.wait(180) == code, child.output
    return child.output


def told(child: Child) -> str:
    """The one line of a process that was refused."""
    output = ended(child, 1)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in output, output
    return errors[0]


def blocks_done(store: Path) -> int:
    try:
        return max((info.metadata.get("counts", {}).get("blocks_done", 0) for info in list_versions(store)), default=0)
    except StoreError:
        return 0


def holder(store: Path) -> int:
    """The process that the newest lease names."""
    try:
        *_, newest = sorted((store / "locloc.lease").iterdir())
        return json.loads(newest.read_text())["pid"]
    except (FileNotFoundError, ValueError):  # none yet, or just being written
        return 0


@pytest.mark.slow
def test_eight_at_once(location: StoreLocation, alone: Version, tmp_path: Path):
    """Five builders and three collectors come again whenever they are sent away. Who builds is killed, three times."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng, store, writes = random.Random(seed), tmp_path / "masks.store", tmp_path / "writes"

    def come(person: int) -> Child:
        faults = {"writes": str(writes)}
        return (
            location.build(store, faults) if person < BUILDERS else location.locloc("masks", "gc", store, faults=faults)
        )

    people = {person: come(person) for person in range(BUILDERS)}
    wait_for(lambda: blocks_done(store) >= 1, 120, "the first block")
    people |= {person: come(person) for person in range(BUILDERS, BUILDERS + COLLECTORS)}
    started, refusals, kills = {child.pid for child in people.values()}, [], 0
    finished: set[int] = set()
    deadline = time.monotonic() + 240
    while len(finished) < BUILDERS:
        assert time.monotonic() < deadline, "not all builders found the version"
        time.sleep(rng.uniform(0, 0.1))
        if kills < 3 and blocks_done(store) > kills:
            kills += any(people[person].pid == holder(store) and people[person].kill() for person in range(BUILDERS))
        for person, child in people.items():
            if child.code is None or person in finished:
                continue
            if child.code == 0 and person < BUILDERS:
                finished.add(person)
                continue
            if child.code == 1:
                refusals.append(told(child))
            else:
                assert child.code in (0, -signal.SIGKILL), child.output
            people[person] = come(person)
            started.add(people[person].pid)
    for person, child in people.items():
        if person >= BUILDERS and child.wait(60) == 1:
            refusals.append(told(child))

    assert kills == 3
    who = [line.split()[0] for line in writes.read_text().splitlines()]
    turns = [pid for pid, _ in groupby(who)]
    assert len(turns) == len(set(turns)) >= 5, f"two wrote by turns: {turns}"
    by_whom = r"is being written to by (another process|process (\d+) on (\S+) since \d{4}-\d\d-\d\d )"
    found = [re.search(by_whom, line) for line in refusals]
    assert all(found), refusals
    assert {int(who[2]) for who in found if who[2]} <= started
    assert {who[3] for who in found if who[2]} == {socket.gethostname()}

    assert [info.tag for info in list_versions(store)] == ["v1"]
    assert_same(open_version(f"{store}@v1"), alone)
    ended(location.locloc("masks", "gc", store), 0)
    assert ": 0 objects deleted" in ended(location.locloc("masks", "gc", store), 0)
    ended(location.locloc("masks", "verify", f"{store}@v1"), 0)
    assert_same(open_version(f"{store}@v1"), alone)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [{}, NO_FLOCK], ids=["flock", "lease alone"])
def test_one_that_is_suspended_and_wakes_in_time_goes_on(
    location: StoreLocation, alone: Version, tmp_path: Path, faults
):
    store = tmp_path / "masks.store"
    first = location.build(store, faults)
    wait_for(lambda: holder(store) == first.pid, 60, "the first to begin")
    assert f"process {first.pid} on {socket.gethostname()} since " in told(location.build(store, faults))
    first.signal(signal.SIGSTOP)
    second = location.build(store, faults)
    if faults:
        time.sleep(STALE_S / 3)
    else:
        assert f"process {first.pid} on" in told(second)  # the kernel knows
    first.signal(signal.SIGCONT)
    if faults:  # as soon as its beat goes on; or the first one was done before the second looked
        refused = second.wait(180) == 1
        assert (f"process {first.pid} on" if refused else "nothing to do") in second.output
    ended(first, 0)
    assert [info.tag for info in list_versions(store)] == ["v1"]
    assert_same(open_version(f"{store}@v1"), alone)


@pytest.mark.slow
def test_one_that_sleeps_too_long_is_followed_and_stops(location: StoreLocation, alone: Version, tmp_path: Path):
    """On a file system without flock, where nothing but its beat says that it lives."""
    store = tmp_path / "masks.store"
    first = location.build(store, NO_FLOCK)
    wait_for(lambda: blocks_done(store) >= 1, 120, "the first block")
    first.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    second = location.build(store, NO_FLOCK)
    wait_for(lambda: holder(store) == second.pid, 60, "the second to follow")
    assert time.monotonic() - stopped > STALE_S - 0.3, "followed while its beat was fresh"
    first.signal(signal.SIGCONT)
    assert f"was taken over by process {second.pid} on" in told(first)
    ended(second, 0)
    assert [info.tag for info in list_versions(store)] == ["v1"]
    assert_same(open_version(f"{store}@v1"), alone)
    ended(location.locloc("masks", "verify", f"{store}@v1", faults=NO_FLOCK), 0)


@pytest.mark.slow
def test_killed_without_flock_it_is_followed_at_once(location: StoreLocation, alone: Version, tmp_path: Path):
    store = tmp_path / "masks.store"
    first = location.build(store, {"no_flock": True})  # it would be stale after 30 s
    wait_for(lambda: blocks_done(store) >= 1, 120, "the first block")
    assert first.kill()
    second, start = location.build(store, {"no_flock": True}), time.monotonic()
    wait_for(lambda: holder(store) == second.pid, 25, "the second to follow")
    assert time.monotonic() - start < 25
    ended(second, 0)
    assert_same(open_version(f"{store}@v1"), alone)


@pytest.mark.slow
def test_a_clock_that_is_a_day_ahead_does_not_decide_which_is_latest(location: StoreLocation, tmp_path: Path):
    store, other = tmp_path / "masks.store", tmp_path / "other.toml"
    other.write_text("seed = 5\n" + SMALL_RECIPE)
    ended(location.build(store, {"clock_s": 86400}), 0)
    ended(location.build(store, recipe=other), 0)
    first, second = (open_version(f"{store}@{tag}").provenance for tag in ("v1", "v2"))
    assert first["published_at"] > second["published_at"], "the clock was not ahead"
    assert open_version(f"{store}@latest").tag == "v2"
    listed = [info.tag for info in list_versions(store)]
    assert listed == ["v1", "v2"]
    lines = ended(location.locloc("masks", "list", store), 0).splitlines()
    rows = lines[1 + next(n for n, line in enumerate(lines) if line.startswith("version ")) :]
    assert [line.split()[0] for line in rows] == listed and "v2 (latest)" in lines[-1]
