"""Two processes on a CPU, joined by gloo, train as one does: started by us, and by torchrun."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from locloc.pipeline.store import open_version
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.training.request import RuntimeConfig, TrainRequest
from locloc.trainer.training.run import train

from ..conftest import command
from ..conftest import run as run_command
from .conftest import lines, losses
from .rank import CHANGES


@pytest.fixture(scope="module")
def alone(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    recipe = load_train_recipe("locloc", "synthetic", CHANGES)
    train(TrainRequest(version, out, recipe, "locloc", runtime=RuntimeConfig(accelerator="cpu", workers=0)))
    return out


def assert_same_curves(one: Path, other: Path) -> None:
    for stage, steps in (("generator", 6), ("classifier", 3)):
        assert len(losses(one, stage)) == steps
        assert losses(one, stage) == pytest.approx(losses(other, stage), abs=2e-4)
        mine, theirs = ([line for line in lines(run, stage) if "val_loss" in line] for run in (one, other))
        assert [line["val_loss"] for line in mine] == pytest.approx([line["val_loss"] for line in theirs], abs=2e-3)
        assert [line["val_images"] for line in mine] == [line["val_images"] for line in theirs]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(version, alone, tmp_path):
    changes = [part for change in CHANGES for part in ("--set", change)]
    said = run_command(
        "train", version, "--out", tmp_path / "run", "--devices", 2, "--accelerator", "cpu", "--workers", 0, *changes
    )
    assert not any(word in said.stderr for word in ("Warning", "Initializing", "backend")), said.stderr
    assert_same_curves(tmp_path / "run", alone)


@pytest.mark.slow
def test_under_torchrun_every_image_is_seen_once_an_epoch(version, alone, tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("rank.py")
    done = subprocess.run(
        [*torchrun, script, version, tmp_path / "run", seen], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert_same_curves(tmp_path / "run", alone)

    shares = [Counter((seen / rank).read_text().splitlines()) for rank in ("0", "1")]
    train_rows = [row for row, split in enumerate(open_version(version).table["split"].to_pylist()) if split == "train"]
    assert len(train_rows) == 24
    wanted = Counter({f"MaskPairs {row}": 2 for row in train_rows} | {f"LabelledImages {row}": 1 for row in train_rows})
    assert sum(shares, Counter()) == wanted
    assert [share.total() for share in shares] == [36, 36]


def of_srun(rank: int, tasks: int) -> dict[str, str]:
    """The environment of a task that srun has started."""
    return os.environ | {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_NNODES": "1",
        "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": str(tasks), "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0", "LOCLOC_RENDEZVOUS_S": "60",
    }  # fmt: skip


@pytest.mark.slow
def test_tasks_of_srun_meet_and_train_as_one(version, alone, tmp_path):
    changes = [part for change in CHANGES for part in ("--set", change)]
    arguments = ("train", version, "--out", tmp_path / "run", "--accelerator", "cpu", "--workers", 0, *changes)
    ranks = [
        subprocess.Popen(command(*arguments), env=of_srun(rank, 2), stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    said = [rank.communicate(timeout=180)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert_same_curves(tmp_path / "run", alone)


def two_in_training(version: str, out: Path) -> subprocess.Popen:
    """A process that has started two ranks, which are past their first step."""
    started = subprocess.Popen(
        command(
            "train", version, "--out", out, "--devices", 2, "--accelerator", "cpu", "--workers", 0, "--stage",
            "generator", "--set", "generator.fit.epochs=200", "--set", "generator.fit.batch_size=8",
        ),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in started.stderr:
        if "steps, loss" in line:
            break
    return started


@pytest.mark.slow
def test_a_killed_rank_is_named_in_one_line(version, tmp_path):
    started = two_in_training(version, tmp_path / "run")
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    ranks = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ranks) == 2
    os.kill(int(ranks[1]), signal.SIGKILL)
    _, err = started.communicate(timeout=40)
    (line,) = [line for line in err.splitlines() if line and not line.startswith("generator, epoch")]
    assert started.returncode == 1
    assert line.startswith("error: Rank 1 of 2 was killed by signal 9 (SIGKILL; out of memory?); the same command with")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_first_process_ends_the_ranks_it_started(version, tmp_path, stop):
    out = tmp_path / "run"
    started = two_in_training(version, out)
    started.send_signal(stop)
    _, err = started.communicate(timeout=40)
    assert started.returncode == 130 and "Traceback" not in err, err
    state = torch.load(out / "generator" / "state.pt", weights_only=True)
    assert state["step"] == len(losses(out, "generator")) >= 1


@pytest.mark.slow
def test_a_rank_whose_others_do_not_come_hears_a_signal(version, tmp_path):
    waiting = subprocess.Popen(
        command("train", version, "--out", tmp_path / "run", "--accelerator", "cpu", "--workers", 0),
        env=of_srun(0, 8), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(20)  # until it waits
    assert waiting.poll() is None
    begun = time.monotonic()
    waiting.send_signal(signal.SIGTERM)
    _, err = waiting.communicate(timeout=40)
    assert waiting.returncode == 130 and "interrupted" in err and time.monotonic() < begun + 10
    assert not (tmp_path / "run").exists()


def test_an_error_in_one_process_ends_all(version, scenes, tmp_path):
    """The other one would wait for its gradients for ever."""
    broken = tmp_path / "scenes"
    (broken / "images").mkdir(parents=True)
    for file in (scenes / "images").iterdir():
        (broken / "images" / file.name).write_bytes(file.read_bytes())
    (broken / "images" / "000004.jpg").write_bytes(b"another file")
    said = run_command(
        "train", version, "--out", tmp_path / "run", "--images", broken, "--devices", 2, "--accelerator", "cpu",
        "--workers", 0, "--stage", "generator", code=1,
    )  # fmt: skip
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("error:")]
    assert "000004 is another file than the one its mask was made from" in line
    assert "Traceback" not in said.stderr
