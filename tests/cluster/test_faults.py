"""Faults at random moments, each followed by a resume: the version has the right bytes, and readers see no other.

`pytest tests/cluster/test_faults.py --faults 200 --fault-seed 7`. A fault kills or suspends the coordinator, the
scheduler or workers, cuts their network, starts two coordinators at once, moves the clock, or spoils the disk or an
image. Processes that ended are started again, as a cluster manager and a user do.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..end_to_end.conftest import make_images
from .conftest import SMALL_RECIPE
from .faults.campaign import IMAGES, Campaign
from .faults.dask_cluster import SETTINGS, DaskCluster
from .faults.kinds import IN_IMAGES, ON_SMALL_DISK, WEIGHTS
from .faults.nursery import Nursery
from .faults.tmpfs import small_disk

DISK_MB = 12


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


@pytest.mark.slow
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
        kinds = [kind for kind in WEIGHTS if disk is not None or kind not in ON_SMALL_DISK]
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
            print("no disk full, inodes used up or read-only store: this process may not mount a tmpfs")
        for kind in kinds:
            print(f"{happened[kind]:5}  {kind}")
            for end, times in campaign.ends[kind].most_common():
                print(f"{times:11}  {end}")
    assert happened.total() == count
    assert count < len(kinds) or all(happened[kind] for kind in kinds)
