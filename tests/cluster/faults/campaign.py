"""Builds of stores with faults. Each is resumed until it is done, and compared with a build without faults."""

import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from locloc.pipeline.errors import StoreError
from locloc.pipeline.status import Status
from locloc.pipeline.store import Version, list_versions, open_version
from locloc.pipeline.store.repository import open_repository
from locloc.pipeline.store.schema import BLOCK_ROWS
from locloc.pipeline.store.versions import VersionInfo

from ...end_to_end.conftest import everything
from ...pipeline.store.test_gc import live, stored
from .dask_cluster import DaskCluster
from .kinds import (
    CLOCK,
    COORDINATOR,
    COORDINATOR_STOPPED,
    CUT,
    ENDS,
    FULL,
    HANGING,
    IN_IMAGES,
    INODES,
    POISONED,
    READ_ONLY,
    READ_ONLY_LATER,
    SCHEDULER,
    TERMINATED,
    TWICE,
    WORKER,
    WORKER_STOPPED,
)
from .nursery import Child, Nursery
from .tmpfs import SmallDisk

IMAGES = 300
IMAGE_LIMIT_S = 4  # of builds with a bad image; a good one takes milliseconds, also on a busy machine
PAUSE_S = 4.0  # at most, of what is suspended or cut off
LATE = 0.3  # share of the faults that wait for the end of a build: verifying, publishing


@dataclass
class Campaign:
    """Builds one store after the other, with faults."""

    rng: random.Random
    nursery: Nursery
    cluster: DaskCluster
    disk: SmallDisk | None
    folder: Path  # of the stores: the small disk, where there is one
    scratch: Path
    photos: Path
    recipe: Path
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    undisturbed_s: float = 0.0
    ends: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    builds: int = 0
    looks: int = 0

    def locloc(self, *arguments: object, faults: dict[str, float] | None = None) -> Child:
        env = {"LOCLOC_FAULTS": json.dumps(faults)} if faults else None
        return self.nursery.start("locloc", "locloc.cli", *map(str, arguments), env=env)

    def coordinate(
        self, store: Path, photos: Path, image_limit_s: float, faults: dict[str, float] | None = None
    ) -> Child:
        """Starts a build; resumes an unfinished one with `masks resume` or with the same `masks build`, at random."""
        self.cluster.tend()
        how = ["--scheduler", self.cluster.address, "--checkpoint-s", "0.3", "--image-limit-s", image_limit_s]
        if self.rng.random() < 0.5 and unfinished(store):
            return self.locloc("masks", "resume", store, *how, faults=faults)
        return self.locloc(
            "masks", "build", photos, "--store", store, "--recipe", self.recipe, "--weights", "random", *how,
            faults=faults,
        )  # fmt: skip

    def undisturbed(self) -> None:
        """Builds without faults, for the expected content and the time. The first build warms the workers up."""
        for name in ("warm", "undisturbed"):
            store, start = self.scratch / f"{name}.store", time.monotonic()
            self.finish(self.coordinate(store, self.photos, 60), None)
            self.undisturbed_s = time.monotonic() - start
        self.expected = everything(open_version(f"{store}@v1"))
        assert len(self.expected["status"]) == IMAGES and (self.expected["status"] != Status.PENDING).all()

    def build_with(self, faults: list[str]) -> list[str]:
        """Builds one store up to its version; returns the faults that did not come too late."""
        self.builds += 1
        store = self.folder / f"masks-{self.builds}.store"
        photos, spoilt = self.spoil([fault for fault in faults if fault in IN_IMAGES])
        happened = list(spoilt.values())
        image_limit_s = IMAGE_LIMIT_S if spoilt else 60
        with self.reading(store):
            running = None
            for fault in faults:
                if fault in IN_IMAGES:
                    continue
                if fault == READ_ONLY:
                    if running is not None:
                        running.kill()
                    with self.disk.spoilt("read-only"):
                        running = self.coordinate(store, photos, image_limit_s)
                        self.finish(running, READ_ONLY)
                elif fault in (CLOCK, TWICE):
                    if running is not None:
                        running.kill()
                    begin = self.with_another_clock if fault == CLOCK else self.two_at_once
                    running = begin(store, photos, image_limit_s)
                    if running is None:
                        break
                    happened.append(fault)
                    continue
                else:
                    running = running or self.coordinate(store, photos, image_limit_s)
                    self.wait_for_a_moment(fault, running, store)
                    struck = self.strike(fault, running, store)
                    if running.code is None:  # a coordinator survives the death of a worker
                        happened.append(fault)
                        continue
                    if self.finish(running, fault) == 0 or not struck:
                        break
                happened.append(fault)
                running = None
                self.collect_sometimes(store)
            self.finish(running or self.coordinate(store, photos, image_limit_s), WORKER)
            if not published(store):
                self.finish(self.coordinate(store, photos, image_limit_s), None)
        self.compare(open_version(f"{store}@v1"), spoilt)
        self.collect(store)
        for half_made in self.folder.glob(f".{store.name}-*"):  # of a killed build: an hour old for the next one
            os.utime(half_made, (0, 0))
        self.finish(self.coordinate(store, photos, image_limit_s), None)
        shutil.rmtree(store)
        left = sorted(file.name for file in self.folder.iterdir())
        assert not left, f"beside the store: {left}"
        if spoilt:
            shutil.rmtree(photos)
        return happened

    def wait_for_a_moment(self, fault: str, running: Child, store: Path) -> None:
        """Waits for a random time of the build; some faults wait for its end, at random."""
        late = (
            fault in (COORDINATOR, COORDINATOR_STOPPED, TERMINATED, FULL, READ_ONLY_LATER) and self.rng.random() < LATE
        )
        share = self.rng.random()
        wait_s = 0.4 * share if late else (0.2 + 0.7 * share_left(store)) * self.undisturbed_s * share
        give_up = time.monotonic() + 60
        while late and "verifying" not in running.output and running.code is None and time.monotonic() < give_up:
            self.cluster.tend()
            time.sleep(0.02)
        until = time.monotonic() + wait_s
        while running.code is None and time.monotonic() < until:
            self.cluster.tend()
            time.sleep(0.01)

    def strike(self, fault: str, running: Child, store: Path) -> bool:
        """Makes the fault; waits for the end of a coordinator that cannot go on. False if the fault came too late."""
        if running.code is not None:
            return False
        if fault == WORKER:
            for worker in self.rng.sample(self.cluster.workers, self.rng.choice([1, 1, 2])):
                worker.kill()
            return True
        if fault in (WORKER_STOPPED, COORDINATOR_STOPPED):
            return self.suspend(self.rng.choice(self.cluster.workers) if fault == WORKER_STOPPED else running)
        if fault == CUT:
            self.cut()
            return True
        if fault in (FULL, INODES, READ_ONLY_LATER):
            with self.disk.spoilt({FULL: "full", INODES: "inodes", READ_ONLY_LATER: "read-only"}[fault]):
                running.wait(90, self.cluster.tend)
                if store.exists() and fault != READ_ONLY_LATER:
                    list_versions(store)
            return True
        if fault == SCHEDULER:
            self.cluster.scheduler.kill()
        else:
            running.signal({COORDINATOR: signal.SIGKILL, TERMINATED: signal.SIGTERM}[fault])
        running.wait(90, self.cluster.tend)
        return True

    def pause(self) -> None:
        until = time.monotonic() + self.rng.uniform(0.5, PAUSE_S)
        while time.monotonic() < until:
            self.cluster.tend()
            time.sleep(0.02)

    def suspend(self, process: Child) -> bool:
        if not process.signal(signal.SIGSTOP):
            return False
        self.pause()
        process.signal(signal.SIGCONT)
        return True

    def cut(self) -> None:
        """The workers and the scheduler do not hear each other for a while, or lose their connections."""
        if self.rng.random() < 0.3:
            self.cluster.network.reset()
            return
        self.cluster.network.hold()
        try:
            self.pause()
        finally:
            self.cluster.network.release()

    def with_another_clock(self, store: Path, photos: Path, image_limit_s: float) -> Child:
        """A coordinator whose clock jumps by hours, ahead or back, while it works."""
        hours, after_s = self.rng.choice([-30, -2, 2, 30]), self.rng.uniform(0, 0.5) * self.undisturbed_s
        faults = {"clock_s": 3600 * hours, "clock_after_s": after_s}
        return self.coordinate(store, photos, image_limit_s, faults)

    def two_at_once(self, store: Path, photos: Path, image_limit_s: float) -> Child | None:
        """Two coordinators started together: one is told of the other, which is returned; None where it is done."""
        both = [self.coordinate(store, photos, image_limit_s) for _ in range(2)]
        while all(one.code is None for one in both):
            self.cluster.tend()
            time.sleep(0.02)
        both.sort(key=lambda one: one.code is None)
        if self.finish(both[0], TWICE) == 0:
            self.finish(both[1], TWICE)
            return None
        return both[1]

    def finish(self, child: Child, fault: str | None) -> int:
        """Waits for a coordinator's exit code and asserts that it goes with the fault, with an error of one line."""
        code = child.wait(600, self.cluster.tend)
        patterns, output = ENDS.get(fault, {0: ""}), child.output
        assert code in patterns, f"{fault}: exit {code}\n{output}"
        assert "Traceback" not in output, f"{fault}: exit {code}\n{output}"
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        if code in (1, 130):
            assert len(errors) == 1 and output.splitlines()[-1] == errors[0], f"{fault}: not one line\n{output}"
            assert re.search(patterns[code], errors[0]), f"{fault}: {errors[0]}"
        elif code == -signal.SIGTERM:
            before_or_after = not output or "interrupted" in output or re.search(r"@v1(: | already)", output)
            assert before_or_after, f"terminated, but the interruption is not reported\n{output}"
        elif code == 0:
            assert not errors, output
        if fault is not None:
            self.ends[fault][f"exit {code}" + (f" {self.generic(errors[0])}" if errors else "")] += 1
        return code

    def generic(self, line: str) -> str:
        """An error line without what differs between runs: stores, addresses, numbers of blocks."""
        line = re.sub(rf"{re.escape(str(self.folder))}\S*", "STORE", line.removeprefix("error: "))
        line = re.sub(r"tcp://[0-9.:]*[0-9]|127\.0\.0\.1:\d+", "ADDRESS", line)
        return re.sub(r"Block \d+ \([^)]*\)", "Block N", line)[:150]

    def spoil(self, faults: list[str]) -> tuple[Path, dict[str, str]]:
        """A copy of the images with one bad image for each of the faults, and the faults by image id."""
        if not faults:
            return self.photos, {}
        folder = self.scratch / f"photos-{self.builds}"
        shutil.copytree(self.photos, folder, copy_function=os.link)
        spoilt = {}
        files = sorted(folder.rglob("*.jpg"))
        if self.rng.random() < 0.7:  # all in one block: isolation starts fewer processes
            start = self.rng.randrange(0, IMAGES, BLOCK_ROWS)
            files = files[start : start + BLOCK_ROWS]
        for fault, file in zip(faults, self.rng.sample(files, len(faults)), strict=True):
            data = file.read_bytes()
            file.unlink()
            file.write_bytes(data + IN_IMAGES[fault])
            spoilt[str(file.relative_to(folder))] = fault
        return folder, spoilt

    def compare(self, version: Version, spoilt: dict[str, str]) -> None:
        """Asserts that every byte is as expected, and that bad images are recorded as crashed, with the reason."""
        found, bad = everything(version), [version.row(image_id) for image_id in spoilt]
        good = np.ones(len(version), bool)
        good[bad] = False
        differing = [name for name in found if not np.array_equal(found[name][good], self.expected[name][good])]
        assert found.keys() == self.expected.keys() and not differing, f"{version.name} differs in {differing}"
        assert version.provenance["counts"]["crashed"] == len(bad)
        for (status, why), fault in zip(version.reasons(bad), spoilt.values(), strict=True):
            assert status == Status.CRASHED
            wanted = {POISONED: "it killed its process (SIGSEGV)", HANGING: f"took longer than {IMAGE_LIMIT_S} s"}
            assert why.startswith(wanted[fault]), why
            self.ends[fault][f"status 6: {why}"] += 1
        assert not found["mask"][bad].any() and not found["attention"][bad].any()

    def collect_sometimes(self, store: Path) -> None:
        if self.rng.random() < 0.3 and store.exists():
            child = self.locloc("masks", "gc", store)
            assert child.wait(60) == 0, child.output

    def collect(self, store: Path) -> None:
        """Asserts that garbage collection leaves live objects only, and that a second one has nothing to delete."""
        for count in (r"\d+", "0"):
            child = self.locloc("masks", "gc", store)
            assert child.wait(60) == 0, child.output
            assert re.search(rf": {count} objects deleted", child.output), child.output
        assert set(stored(store)) == live(store)
        assert open_repository(store).list_branches() == {"main"}
        assert len(list((store / "locloc.lease").iterdir())) == 1

    @contextmanager
    def reading(self, store: Path) -> Iterator[None]:
        """Runs a reader during the build; asserts that it never sees an incomplete version."""
        out, stop = self.scratch / f"seen-{self.builds}.jsonl", self.scratch / f"stop-{self.builds}"
        script = Path(__file__).with_name("reader.py")
        reader = self.nursery.start("reader", str(script), str(store), str(out), str(stop))
        yield
        stop.touch()
        assert reader.wait(60) == 0, reader.output
        *views, end = [json.loads(line) for line in out.read_text().splitlines()]
        self.looks += end["looks"]
        nothing_yet = ("has no published version yet", "is not a mask store")
        for view in views:
            if isinstance(view, str):
                assert any(text in view for text in nothing_yet), view
            else:
                assert view == ["v1", 0, 0, 0]


def unfinished(store: Path) -> bool:
    return any(info.tag is None for info in infos(store))


def published(store: Path) -> bool:
    return any(info.tag is not None for info in infos(store))


def share_left(store: Path) -> float:
    """Share of the blocks that the last checkpoint lacks."""
    counts = [info.metadata.get("counts", {}) for info in infos(store)]
    return min((1 - each["blocks_done"] / each["blocks"] for each in counts if each), default=1.0)


def infos(store: Path) -> list[VersionInfo]:
    try:
        return list_versions(store)
    except StoreError:  # not there yet
        return []
