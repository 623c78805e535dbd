"""Which environment is a launcher's: srun's step and torchrun, and neither a batch script nor what was left over."""

import pytest

from locloc.pipeline.errors import TrainError
from locloc.trainer.training.launchers import RESERVED_STEPS, Launcher, find_launcher

BATCH = {
    "SLURM_JOB_ID": "12345", "SLURM_NNODES": "2", "SLURM_NODELIST": "gpu[3-4]", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8",
    "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "train",
}  # fmt: skip
STEP = BATCH | {
    "SLURM_STEP_ID": "1", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[3-4]",
    "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
}  # fmt: skip
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "gpu3", "MASTER_PORT": "29500",
}  # fmt: skip


def test_a_task_of_srun_is_placed_by_its_step():
    launcher = find_launcher(STEP)
    assert launcher == Launcher("srun", 5, 8, 1, 2, 1, "gpu3", 15000 + (31 + 12345) % 10000)
    assert launcher.is_external
    assert find_launcher(STEP | {"SLURM_PROCID": "0"}).port == launcher.port
    assert find_launcher(STEP | {"SLURM_STEP_ID": "2"}).port != launcher.port  # steps of a job run side by side
    assert find_launcher(STEP | {"MASTER_ADDR": "head", "MASTER_PORT": "7"}).port == 7


@pytest.mark.parametrize(
    "more",
    [
        {},  # a batch script
        {"SLURM_JOB_NAME": "interactive"},  # the shell of salloc
        {"SLURM_STEP_ID": str(0xFFFFFFFB)},  # the step of a batch script
        {"SLURM_STEP_ID": str(0xFFFFFFFA)},  # salloc's interactive step
        {"SLURM_STEP_ID": str(RESERVED_STEPS)},
        {"SLURM_STEP_ID": "batch"},
        {"SLURM_STEP_ID": ""},
    ],
)
def test_a_batch_script_is_one_process_and_says_so(more):
    launcher = find_launcher(BATCH | more)
    assert not launcher.is_external and launcher.rank == 0
    assert "SLURM_NTASKS=8 is ignored" in launcher.note and "srun locloc train" in launcher.note


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "8"},  # left over, without a job
        {"WORLD_SIZE": "8"},
        {"RANK": "3", "WORLD_SIZE": "8"},  # nobody says where rank 0 is
        {"LOCAL_WORLD_SIZE": "4"},
        {"LOCAL_RANK": "2"},
        BATCH | {"SLURM_NTASKS": "1"},
        STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "0"},  # srun --pty
        TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0"},
    ],
)
def test_what_is_no_launcher_of_several_is_one_process(environment):
    launcher = find_launcher(environment)
    assert not launcher.is_external and (launcher.rank, launcher.note) == (0, "")


def test_torchrun_in_a_task_of_srun_is_torchrun():
    assert find_launcher(STEP | TORCHRUN) == Launcher("torchrun", 5, 8, 1, 2, 1, "gpu3", 29500)
    kubeflow = {name: TORCHRUN[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    assert find_launcher(kubeflow) == Launcher("torchrun", 5, 8, 0, 8, 5, "gpu3", 29500)


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (STEP | {"SLURM_STEP_NUM_TASKS": "7"}, "7 ranks on 2 nodes: every node needs as many"),
        (STEP | {"SLURM_PROCID": "x"}, "SLURM_PROCID=x is no number"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE=two is no number"),
    ],
)
def test_what_cannot_be_placed_is_named(environment, complaint):
    with pytest.raises(TrainError, match=complaint):
        find_launcher(environment)
