"""Faults at random moments, each followed by a resume: the same bytes in the end, and nobody saw anything else.

`pytest tests/cluster/test_faults.py --faults 200 --fault-seed 7`. Every store is built by separate coordinators on a
scheduler and workers of their own, which are killed as the fault says; what has ended is started again, as a cluster
manager and a user do.
"""

import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from locloc.pipeline.errors import StoreError
from locloc.pipeline.status import Status
from locloc.pipeline.store import Version, list_versions, open_version
from locloc.pipeline.store.reader import VersionInfo
from locloc.pipeline.store.repository import open_repository
from locloc.pipeline.store.schema import BLOCK_ROWS

from ..end_to_end.conftest import everything, make_images
from ..pipeline.store.test_gc import live, stored
from .conftest import SMALL_RECIPE
from .faults.dask_cluster import SETTINGS, DaskCluster
from .faults.hook.sitecustomize import HANG, POISON
from .faults.nursery import Child, Nursery
from .faults.tmpfs import SmallDisk, small_disk

WORKER, SCHEDULER, COORDINATOR, TERMINATED = (
    "worker killed", "scheduler killed", "coordinator killed", "coordinator terminated"
)  # fmt: skip
FULL, READ_ONLY, POISONED, HANGING = "disk full", "store read-only", "poison image", "hanging image"
IN_IMAGES = {POISONED: POISON, HANGING: HANG}
WEIGHTS = {
    WORKER: 4, SCHEDULER: 2, COORDINATOR: 4, TERMINATED: 4, FULL: 2, READ_ONLY: 1, POISONED: 1, HANGING: 1
}  # fmt: skip

IMAGES = 300
DISK_MB = 12
IMAGE_LIMIT_S = 4  # where images hang; all others take milliseconds, also on a busy machine
LATE = 0.3  # of the faults wait for the end of a build: verifying, publishing

# What a coordinator says, by fault: exit codes, and the one line of an error. 0 is a fault that came too late.
SAYS = {
    WORKER: {0: "", 1: r"Workers at .* die while they load|was on workers that died again|A worker at .* does not"},
    SCHEDULER: {0: "", 1: r"The scheduler at .* was lost|No connection to the Dask scheduler|has no workers"},
    COORDINATOR: {0: "", -signal.SIGKILL: ""},
    TERMINATED: {0: "", 130: "interrupted; finished blocks are kept", -signal.SIGTERM: ""},
    FULL: {0: "", 1: r"(?i)no space left on device"},
    READ_ONLY: {1: r"(?i)read-only file system"},
}


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
    said: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    builds: int = 0
    looks: int = 0

    def locloc(self, *arguments: object) -> Child:
        return self.nursery.start("locloc", "locloc.cli", *map(str, arguments))

    def coordinate(self, store: Path, photos: Path, image_limit_s: float) -> Child:
        """Starts a build, or goes on with it by one of the two ways."""
        self.cluster.tend()
        how = ["--scheduler", self.cluster.address, "--checkpoint-s", "0.3", "--image-limit-s", image_limit_s]
        if self.rng.random() < 0.5 and unfinished(store):
            return self.locloc("masks", "resume", store, *how)
        return self.locloc(
            "masks", "build", photos, "--store", store, "--recipe", self.recipe, "--weights", "random", *how
        )

    def undisturbed(self) -> None:
        """What all others must equal, and how long it takes. The first one warms the workers up."""
        for name in ("warm", "undisturbed"):
            store, start = self.scratch / f"{name}.store", time.monotonic()
            self.finish(self.coordinate(store, self.photos, 60), None)
            self.undisturbed_s = time.monotonic() - start
        self.expected = everything(open_version(f"{store}@v1"))
        assert len(self.expected["status"]) == IMAGES and (self.expected["status"] != Status.PENDING).all()

    def build_with(self, faults: list[str]) -> list[str]:
        """One store, from nothing to its version; returns those of the faults that have happened."""
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
                    self.disk.set_read_only(True)
                    running = self.coordinate(store, photos, image_limit_s)
                    self.finish(running, READ_ONLY)
                    self.disk.set_read_only(False)
                else:
                    running = running or self.coordinate(store, photos, image_limit_s)
                    self.wait_for_a_moment(fault, running, store)
                    struck = self.strike(fault, running, store)
                    if running.code is None:  # it survives the death of a worker
                        happened.append(fault)
                        continue
                    if self.finish(running, fault) == 0 or not struck:
                        break
                happened.append(fault)
                running = None
                self.collect_now_and_then(store)
            self.finish(running or self.coordinate(store, photos, image_limit_s), WORKER)
            if not published(store):
                self.finish(self.coordinate(store, photos, image_limit_s), None)
        self.compare(open_version(f"{store}@v1"), spoilt)
        self.collect(store)
        for half_made in self.folder.glob(f".{store.name}-*"):  # by one that was killed; the next build an hour later
            os.utime(half_made, (0, 0))
        self.finish(self.coordinate(store, photos, image_limit_s), None)
        shutil.rmtree(store)
        left = sorted(file.name for file in self.folder.iterdir())
        assert not left, f"beside the store: {left}"
        if spoilt:
            shutil.rmtree(photos)
        return happened

    def wait_for_a_moment(self, fault: str, running: Child, store: Path) -> None:
        """At any time of a build; or, now and then, just when it ends."""
        late = fault in (COORDINATOR, TERMINATED, FULL) and self.rng.random() < LATE
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
        """Does it, and waits for the end of a coordinator that should not go on; False where it came too late."""
        if running.code is not None:
            return False
        match fault:
            case "worker killed":
                for worker in self.rng.sample(self.cluster.workers, self.rng.choice([1, 1, 2])):
                    worker.kill()
                return True
            case "scheduler killed":
                self.cluster.scheduler.kill()
            case "coordinator killed":
                running.signal(signal.SIGKILL)
            case "coordinator terminated":
                running.signal(signal.SIGTERM)
            case "disk full":
                self.disk.fill()
                try:
                    running.wait(90, self.cluster.tend)
                    if store.exists():
                        list_versions(store)
                finally:
                    self.disk.free()
        running.wait(90, self.cluster.tend)
        return True

    def finish(self, child: Child, fault: str | None) -> int:
        """Waits for its end, which must be one of those that go with the fault, and told in one line."""
        code = child.wait(600, self.cluster.tend)
        says, output = SAYS.get(fault, {0: ""}), child.output
        assert code in says, f"{fault}: exit {code}\n{output}"
        assert "Traceback" not in output, f"{fault}: exit {code}\n{output}"
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        if code in (1, 130):
            assert len(errors) == 1 and output.splitlines()[-1] == errors[0], f"{fault}: not one line\n{output}"
            assert re.search(says[code], errors[0]), f"{fault}: {errors[0]}"
        elif code == -signal.SIGTERM:
            before_or_after = not output or "interrupted" in output or re.search(r"@v1(: | already)", output)
            assert before_or_after, f"terminated at work, and it did not listen\n{output}"
        elif code == 0:
            assert not errors, output
        if fault is not None:
            self.said[fault][f"exit {code}" + (f" {self.plainly(errors[0])}" if errors else "")] += 1
        return code

    def plainly(self, line: str) -> str:
        """Without what is another in every run."""
        line = re.sub(rf"{re.escape(str(self.folder))}\S*", "STORE", line.removeprefix("error: "))
        line = re.sub(r"tcp://[0-9.:]*[0-9]|127\.0\.0\.1:\d+", "ADDRESS", line)
        return re.sub(r"Block \d+ \([^)]*\)", "Block N", line)[:150]

    def spoil(self, faults: list[str]) -> tuple[Path, dict[str, str]]:
        """The images with one bad one for each of the faults, and the fault of each of these by its id."""
        if not faults:
            return self.photos, {}
        folder = self.scratch / f"photos-{self.builds}"
        shutil.copytree(self.photos, folder, copy_function=os.link)
        spoilt = {}
        files = sorted(folder.rglob("*.jpg"))
        if self.rng.random() < 0.7:  # in one block, which saves the processes that look at the others
            start = self.rng.randrange(0, IMAGES, BLOCK_ROWS)
            files = files[start : start + BLOCK_ROWS]
        for fault, file in zip(faults, self.rng.sample(files, len(faults)), strict=True):
            data = file.read_bytes()
            file.unlink()
            file.write_bytes(data + IN_IMAGES[fault])
            spoilt[str(file.relative_to(folder))] = fault
        return folder, spoilt

    def compare(self, version: Version, spoilt: dict[str, str]) -> None:
        """Every byte is as expected, but for the bad images, which are told to be what they are."""
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
            self.said[fault][f"status 6: {why}"] += 1
        assert not found["mask"][bad].any() and not found["attention"][bad].any()

    def collect_now_and_then(self, store: Path) -> None:
        if self.rng.random() < 0.3 and store.exists():
            child = self.locloc("masks", "gc", store)
            assert child.wait(60) == 0, child.output

    def collect(self, store: Path) -> None:
        """Nothing is left that nobody refers to, and nothing to be done a second time."""
        for count in (r"\d+", "0"):
            child = self.locloc("masks", "gc", store)
            assert child.wait(60) == 0, child.output
            assert re.search(rf": {count} objects deleted", child.output), child.output
        assert set(stored(store)) == live(store)
        assert open_repository(store).list_branches() == {"main"}
        assert len(list((store / "locloc.lease").iterdir())) == 1

    @contextmanager
    def reading(self, store: Path) -> Iterator[None]:
        """A reader looks at the store all the while, and must never see a part of a version."""
        out, stop = self.scratch / f"seen-{self.builds}.jsonl", self.scratch / f"stop-{self.builds}"
        script = Path(__file__).parent / "faults" / "reader.py"
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
    """Of the blocks, by the last checkpoint."""
    counts = [info.metadata.get("counts", {}) for info in infos(store)]
    return min((1 - each["blocks_done"] / each["blocks"] for each in counts if each), default=1.0)


def infos(store: Path) -> list[VersionInfo]:
    try:
        return list_versions(store)
    except StoreError:  # not there yet
        return []


def builds_of(rng: random.Random, kinds: list[str], count: int) -> Iterator[list[str]]:
    """Deals out `count` faults of these kinds to builds, each kind once before any comes twice."""
    dealt = kinds[:count] + rng.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=max(0, count - len(kinds)))
    rng.shuffle(dealt)
    images = [fault for fault in dealt if fault in IN_IMAGES]
    others = [fault for fault in dealt if fault not in IN_IMAGES]
    while others or images:
        if images and rng.random() < len(images) / (len(images) + len(others)):
            yield [images.pop() for _ in range(min(2, len(images)))]
        elif others:
            yield [others.pop() for _ in range(min(rng.randint(2, 5), len(others)))]


def test_faults_and_resumes(request, tmp_path: Path, capsys):
    count = request.config.getoption("--faults")
    seed = request.config.getoption("--fault-seed")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    rng, start = random.Random(seed), time.monotonic()
    print(f"seed {seed}")
    recipe = tmp_path / "small.toml"
    recipe.write_text(SMALL_RECIPE.replace("mask_px = 64", "mask_px = 32"))
    photos = make_images(tmp_path / "photos", IMAGES)
    happened: Counter[str] = Counter()
    with (
        small_disk(tmp_path / "disk", DISK_MB) as disk,
        Nursery(tmp_path / "processes", SETTINGS) as nursery,
    ):
        folder = disk.folder if disk else tmp_path / "stores"
        folder.mkdir(exist_ok=True)
        cluster = DaskCluster(nursery, tmp_path / "processes")
        campaign = Campaign(rng, nursery, cluster, disk, folder, tmp_path, photos, recipe)
        campaign.undisturbed()
        ready_s = time.monotonic() - start
        kinds = [kind for kind in WEIGHTS if disk is not None or kind not in (FULL, READ_ONLY)]
        waiting = deque(builds_of(rng, kinds, count))
        while waiting:
            faults = waiting.popleft()
            done = Counter(campaign.build_with(faults))
            happened += done
            if late := list((Counter(faults) - done).elements()):  # the build was over before they could happen
                waiting.append(late)
                campaign.undisturbed_s *= 0.8  # the machine was busier when that was measured
            assert campaign.builds <= 20 + 3 * count, "most faults come too late"
    took_s = time.monotonic() - start
    with capsys.disabled():
        print(f"\n{happened.total()} faults in {campaign.builds} builds, seed {seed}: {took_s:.0f} s, "
              f"{ready_s:.0f} s of them to begin with; a reader looked {campaign.looks} times")  # fmt: skip
        if disk is None:
            print("no disk full and no read-only store: this process may not mount a tmpfs")
        for kind in kinds:
            print(f"{happened[kind]:5}  {kind}")
            for said, times in campaign.said[kind].most_common():
                print(f"{times:11}  {said}")
    assert happened.total() == count
    assert count < len(kinds) or all(happened[kind] for kind in kinds)
