"""`kill -9` of a training at a step drawn from a printed seed: resumed, it ends in the same bytes."""

import os
import random
import signal
import subprocess
import time

import pytest
import safetensors.torch
import torch

from ..conftest import command
from .conftest import SMALL, in_process, losses


@pytest.mark.slow
def test_killed_at_any_step_and_resumed_gives_the_same_weights(version, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    arguments = ("train", version, *SMALL, "--checkpoint-s", rng.choice([0, 1000]))
    in_process(*arguments, "--out", undisturbed)

    def steps() -> int:
        return sum(file.read_bytes().count(b'"lr"') for file in run.glob("*/metrics.jsonl"))

    wanted, delay_s = rng.randrange(1, 12), rng.uniform(0, 0.4)  # of 6 steps a stage
    started = subprocess.Popen(command(*arguments, "--out", run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    give_up = time.monotonic() + 120
    while steps() < wanted and started.poll() is None and time.monotonic() < give_up:
        time.sleep(0.005)
    time.sleep(delay_s)
    os.kill(started.pid, signal.SIGKILL)
    _, err = started.communicate()
    assert started.returncode == -signal.SIGKILL, err.decode()
    assert wanted <= steps() <= 12

    resumed = in_process(*arguments, "--out", run, "--resume")
    for stage in ("generator", "classifier"):
        assert losses(run, stage) == losses(undisturbed, stage)
        for name in ("best", "last"):
            mine, theirs = (folder / stage / f"{name}.safetensors" for folder in (run, undisturbed))
            assert mine.read_bytes() == theirs.read_bytes(), (stage, name)
    assert not list(run.rglob("*.part"))

    begun = time.monotonic()
    assert in_process(*arguments, "--out", run, "--resume") == resumed, "a finished run was changed"
    assert time.monotonic() - begun < 20


@pytest.mark.slow
def test_more_epochs_end_in_the_weights_of_as_many_at_once(version, tmp_path):
    more = ("--stage", "generator", *SMALL, "--set", "generator.fit.schedule=constant")
    at_once = [*more, "--set", "generator.fit.epochs=3"]
    in_process("train", version, "--out", tmp_path / "once", *at_once)
    in_process("train", version, "--out", tmp_path / "run", *more)
    in_process("train", "--out", tmp_path / "run", "--workers", 0, "--resume", "--set", "generator.fit.epochs=3")
    mine, theirs = (
        safetensors.torch.load_file(tmp_path / name / "generator" / "last.safetensors") for name in ("run", "once")
    )
    assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())
    assert losses(tmp_path / "run", "generator") == losses(tmp_path / "once", "generator")
