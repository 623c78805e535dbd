"""Builds in a bucket whose server fails at one request in twenty, or is slow: the version has the right bytes anyway.

Run with `-s` to see how many requests failed. `--fault-seed` chooses which.
"""

import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.store import open_version

from ..end_to_end.conftest import command, everything, make_images
from .s3 import behind_proxy, bucket, bucket_of, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]

pytestmark = pytest.mark.slow

SHARE = 0.05
KINDS = ("500", "503", "reset", "lost")
TRIES = 5  # what is finished is kept, so the same command goes on


@pytest.mark.parametrize(("kinds", "delay_s"), [(KINDS, 0.0), ((), 0.1)], ids=["fails", "slow"])
def test_a_build_against_a_server_that_fails(
    bucket: str, s3_server: str, small_recipe: Path, tmp_path: Path, monkeypatch, request, kinds, delay_s: float
):
    seed = request.config.getoption("--fault-seed")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"seed {seed}")
    rng, happened, begun = random.Random(seed), Counter(), time.monotonic()

    def fault() -> str:
        kind = rng.choice(kinds) if kinds and rng.random() < SHARE else ""
        happened[kind] += 1
        return kind

    photos = make_images(tmp_path / "photos", 200)
    for file in photos.rglob("*.jpg"):
        bucket_of(bucket).write(f"photos/{file.relative_to(photos)}", file.read_bytes())
    how = ("--recipe", small_recipe, "--weights", "random", "--workers", 2)
    here = tmp_path / "here.store"
    subprocess.run(command("masks", "build", photos, "--store", here, *how), check=True, capture_output=True)
    ends = []
    with behind_proxy(s3_server, fault=fault, delay_s=delay_s) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        build = command("masks", "build", f"{bucket}/photos", "--store", f"{bucket}/masks.store", *how)
        while len(ends) < TRIES and (not ends or ends[-1]):
            done = subprocess.run([*build, "--checkpoint-s", "0.5"], capture_output=True, text=True, timeout=600)
            assert "Traceback" not in done.stderr + done.stdout, done.stderr
            assert done.returncode in (0, 1), done.stderr
            ends.append(done.returncode and done.stderr.splitlines()[-1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    print(f"{time.monotonic() - begun:.0f} s, requests: {dict(happened)}, ends: {ends}")
    assert ends[-1] == 0, ends
    assert all(line.startswith("error: ") for line in ends[:-1])
    there, expected = everything(open_version(f"{bucket}/masks.store@v1")), everything(open_version(f"{here}@v1"))
    assert [name for name in expected if not np.array_equal(there[name], expected[name])] == []
