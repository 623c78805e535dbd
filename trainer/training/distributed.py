"""Distributed training: launching ranks, raising errors on all of them, and batch norm over the whole batch."""

import logging
import multiprocessing
import re
import signal
import textwrap
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException

from ...pipeline.errors import LocLocError, TrainError
from ...pipeline.io.clean_processes import end_with_parent
from ...pipeline.io.interrupts import interruptible
from ...pipeline.io.log_level import log_level
from ...pipeline.io.signal_watch import STOP_S, watched
from ..data.batches import Batch
from .launchers import find_launcher
from .placed_ranks import PlacedRanks
from .rendezvous import MeetingDDP

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


EXIT_AFTER_S = 4.0
"""A rank that does not hear a signal for so long waits for another one, and ends."""

STOPPED_WAITING = "stopped while it waited for another rank; --resume continues from the last saved state"

ResultT = TypeVar("ResultT")


class RankGone(TrainError):
    """Another rank has ended, so that nothing can be exchanged with it any more."""


def create_fabric(accelerator: str, devices: int, precision: Precision, unused: bool = False) -> Fabric:
    """A Fabric for one device, for ranks that `launch` starts, or for ranks that torchrun or srun has started.

    devices  ignored where ranks were started externally
    unused   whether some parameters of a model never get a gradient
    """
    launcher = find_launcher()
    if launcher.is_external:
        devices = launcher.world_size // launcher.nodes
        if accelerator == "cuda" and devices > torch.cuda.device_count():
            raise TrainError(
                f"{launcher.name} started {devices} ranks on this node, and this one sees {torch.cuda.device_count()} "
                "GPUs; every rank has to see all of its node (in Slurm --gpus-per-node, not --gpus-per-task)"
            )
    elif devices == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=precision, plugins=[LightningEnvironment()])
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=launcher.nodes,
        precision=precision,
        strategy=MeetingDDP(start_method="popen" if launcher.is_external else "spawn", find_unused_parameters=unused),
        plugins=[PlacedRanks(launcher) if launcher.is_external else LightningEnvironment()],
    )


def launch_ranks(fabric: Fabric, train_rank: Callable[[Fabric], ResultT]) -> ResultT:
    """Runs a function on ranks that are started here. A signal to this process alone ends them too.

    A LocLocError that a rank returns is the result, also where the process of a rank is killed afterwards: one that
    has lost the others may abort in its clean-up. Raises KeyboardInterrupt once the ranks have ended.
    """
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        with log_level("torch.multiprocessing.spawn", logging.ERROR):  # a line for each rank that it ends
            result: ResultT = fabric.launch(partial(_heard_rank, train_rank, errors))
    except KeyboardInterrupt:
        ranks = multiprocessing.active_children()
        for rank in ranks:
            rank.terminate()  # SIGTERM: rank 0 saves its state
        end = time.monotonic() + STOP_S
        while any(rank.is_alive() for rank in ranks) and time.monotonic() < end:
            time.sleep(0.05)
        for rank in ranks:
            rank.kill()
        raise
    except ProcessExitedException as ended:  # the others were ended by torch
        returned = _returned(errors)
        raise cause_of_end(ended, returned, fabric.world_size) from None
    if isinstance(result, RankGone) and (error := _first_cause(_returned(errors).values())) is not None:
        raise error
    return result


def _heard_rank(
    train_rank: Callable[[Fabric], ResultT], errors: "SimpleQueue[tuple[int, LocLocError]]", fabric: Fabric
) -> ResultT:
    end_with_parent()
    with interruptible(), watched(EXIT_AFTER_S, STOPPED_WAITING):
        result = train_rank(fabric)
        if isinstance(result, LocLocError):
            errors.put((fabric.global_rank, result))
        return result


def _returned(errors: "SimpleQueue[tuple[int, LocLocError]]") -> dict[int, LocLocError]:
    """By rank: the errors that ranks have returned."""
    returned = {}
    while not errors.empty():
        rank, error = errors.get()
        returned[rank] = error
    return returned


def _first_cause(returned: Iterable[LocLocError]) -> LocLocError | None:
    """Of the errors that ranks have returned, one that is not about another rank; else any; None without one."""
    errors = list(returned)
    return next((error for error in errors if not isinstance(error, RankGone)), next(iter(errors), None))


def cause_of_end(ended: ProcessExitedException, returned: dict[int, LocLocError], ranks: int) -> LocLocError:
    """Why a run ended in which the process of a rank did.

    returned  by rank: its error. One that has an error may abort later, in its clean-up.
    """
    error, rank, code = _first_cause(returned.values()), ended.error_index, ended.exit_code
    if error is not None and (rank in returned or not isinstance(error, RankGone)):
        return error
    how = f"ended with exit code {code}"
    if code < 0:
        name = f"{ended.signal_name}{'; out of memory?' if code == -signal.SIGKILL else ''}"
        how = f"was killed by signal {-code} ({name})"
    return TrainError(
        f"Rank {rank} of {ranks} {how}; the same command with --resume continues from the last saved state"
    )


def is_rank_zero() -> bool:
    """True on rank 0 of externally launched ranks, and in a process that was not launched externally."""
    return find_launcher().rank == 0


def raise_on_all_ranks(fabric: Fabric, error: LocLocError | None) -> None:
    """Raises `error`, or the error of another rank: a rank that stops alone leaves the others waiting for ever."""
    _sum_or_raise(fabric, 0, error)


def count_images(fabric: Fabric, batch: Batch | LocLocError) -> int:
    """Images of a step over all ranks. Raises the error that a rank has in place of a batch, on all of them."""
    if isinstance(batch, LocLocError):
        return _sum_or_raise(fabric, 0, batch)
    return _sum_or_raise(fabric, len(batch.row), None)


def _sum_or_raise(fabric: Fabric, number: int, error: LocLocError | None) -> int:
    """The sum over all ranks, in one reduction with whether any of them has an error. One rank: no reduction."""
    if fabric.world_size > 1:
        try:
            values = torch.tensor([float(error is not None), float(number)], device=fabric.device)
            failed, total = sum_on_device(fabric, values).tolist()
            if not failed:
                return int(total)
            errors: list[LocLocError | None] = [None] * fabric.world_size
            dist.all_gather_object(errors, error)
        except RuntimeError as lost:
            raise rank_gone(fabric, lost) from None
        error = next(error for error in errors if error is not None)
    if error is not None:
        raise error
    return number


def rank_gone(fabric: Fabric, error: RuntimeError) -> RankGone:
    """The error for an exchange with other ranks that failed."""
    sentence = str(error).splitlines()[0].split(". ")[0]
    reason = re.sub(r"^\[[^\]]*\] ", "", sentence)  # gloo begins with a place in its source
    return RankGone(
        f"Rank {fabric.global_rank} of {fabric.world_size} lost another rank, which has printed an error, or was "
        f"killed without one (out of memory?): {textwrap.shorten(reason, 160, placeholder=' ...')}; "
        "the same command with --resume continues"
    )


def is_connection_loss(error: RuntimeError) -> bool:
    """Whether an error comes from an exchange between ranks, and not from the code of this one."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)


def all_reduce_sum(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


def sum_on_device(fabric: Fabric, values: Tensor) -> Tensor:
    """As `all_reduce_sum`, of a tensor on the rank's device and without the barrier that Fabric adds: for each step."""
    if fabric.world_size == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def sync_batch_norms(model: nn.Module, fabric: Fabric) -> nn.Module:
    """Makes the batch norms of a model use the mean and variance over the batches of all ranks."""
    if fabric.world_size == 1:
        return model
    if fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SyncBatchNorm2dCpu.of(child))
    return model


class _DifferentiableSum(torch.autograd.Function):
    """The sum of a tensor over all ranks; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _DifferentiableSum._sum(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _DifferentiableSum._sum(gradient)

    @staticmethod
    def _sum(values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class SyncBatchNorm2dCpu(nn.BatchNorm2d):
    """torch.nn.SyncBatchNorm for CPUs, for `(B, C, h, w)`. B may differ between ranks."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "SyncBatchNorm2dCpu":
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared.train(norm.training)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        count = torch.full((1,), features.numel() / features.shape[1], dtype=features.dtype)
        total = _DifferentiableSum.apply(torch.cat([features.sum((0, 2, 3)), count]))
        mean = total[:-1] / total[-1]
        centred = features - mean[:, None, None]
        variance = _DifferentiableSum.apply(centred.square().sum((0, 2, 3))) / total[-1]
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        with torch.no_grad():
            unbiased = variance * (total[-1] / (total[-1] - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]
