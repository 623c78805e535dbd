"""Which program has started this process, as one of several ranks: torchrun, srun, or none.

Slurm sets SLURM_NTASKS, SLURM_PROCID and the like in every batch script and in the shell of `salloc` too, where a
command is a single process. Only in a task that srun has started does SLURM_STEP_ID number a step. Imports no torch.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ...pipeline.errors import TrainError

RESERVED_STEPS = 0xFFFFFFF0
"""Steps from this number on are Slurm's own: the batch script, the interactive shell of `salloc`, `extern`."""

ANNOUNCED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, and other launchers that follow it, such as Kubeflow's."""


@dataclass(frozen=True)
class Launcher:
    """A process's place among the ranks of a run."""

    name: Literal["none", "torchrun", "srun"]
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    nodes: int = 1
    node: int = 0
    address: str = "127.0.0.1"  # of rank 0
    port: int = 0
    note: str = ""  # what was ignored, and what to do about it, in one line

    @property
    def is_external(self) -> bool:
        """Whether several ranks were started for this run."""
        return self.world_size > 1


def find_launcher(environment: Mapping[str, str] | None = None) -> Launcher:
    """The launcher of this process. Raises TrainError for ranks that cannot be placed on their nodes."""
    env = os.environ if environment is None else environment
    if all(env.get(name) for name in ANNOUNCED):
        return _torchrun(env)
    if _is_step(env):
        return _srun(env)
    tasks = _number(env, "SLURM_NTASKS", 1)
    if tasks > 1 and "SLURM_JOB_ID" in env:
        return Launcher(
            "none",
            note=f"SLURM_NTASKS={tasks} is ignored: this is one process, which srun has not started. To train on "
            f"all {tasks} tasks write `srun locloc train ...` in the batch script",
        )
    return Launcher("none")


def _is_step(env: Mapping[str, str]) -> bool:
    step = env.get("SLURM_STEP_ID", env.get("SLURM_STEPID", ""))
    return step.isdecimal() and int(step) < RESERVED_STEPS and "SLURM_PROCID" in env


def _torchrun(env: Mapping[str, str]) -> Launcher:
    world = _number(env, "WORLD_SIZE", 1)
    local_world = _number(env, "LOCAL_WORLD_SIZE", world if "LOCAL_RANK" in env else 1)
    nodes = _nodes(world, max(1, world // local_world), "torchrun --nproc-per-node")
    rank = _number(env, "RANK", 0)
    return Launcher(
        "torchrun", rank, world, _number(env, "LOCAL_RANK", rank % local_world), nodes, rank // local_world,
        env["MASTER_ADDR"], _number(env, "MASTER_PORT", 0),
    )  # fmt: skip


def _srun(env: Mapping[str, str]) -> Launcher:
    world = _number(env, "SLURM_STEP_NUM_TASKS", _number(env, "SLURM_NTASKS", 1))
    nodes = _number(env, "SLURM_STEP_NUM_NODES", _number(env, "SLURM_NNODES", 1))
    job, step = _number(env, "SLURM_JOB_ID", 0), _number(env, "SLURM_STEP_ID", 0)
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST") or "127.0.0.1"
    return Launcher(
        "srun", _number(env, "SLURM_PROCID", 0), world, _number(env, "SLURM_LOCALID", 0),
        _nodes(world, nodes, "srun --ntasks-per-node"), _number(env, "SLURM_NODEID", 0),
        env.get("MASTER_ADDR") or _first_host(hosts),
        _number(env, "MASTER_PORT", 15000 + (31 * step + job) % 10000),  # the same for all tasks of a step
    )  # fmt: skip


def _first_host(hosts: str) -> str:
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.resolve_root_node_address(hosts)


def _nodes(world: int, nodes: int, option: str) -> int:
    if world % nodes:
        raise TrainError(f"{world} ranks on {nodes} nodes: every node needs as many as the others; see {option}")
    return nodes


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    """Raises TrainError for text that is no number."""
    text = env.get(name, "")
    if text and not text.isdecimal():
        raise TrainError(f"{name}={text} is no number, which a launcher sets; unset it to train in one process")
    return int(text) if text else default
