"""Distributed training: launching ranks, raising errors on all of them, and batch norm over the whole batch."""

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException

from ...pipeline.errors import LocLocError, TrainError
from ...pipeline.io.interrupts import interruptible
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
    except ProcessExitedException:  # a rank that was killed: the others were ended by torch
        if (error := _first_cause(errors)) is not None:
            raise error from None
        raise TrainError("A rank was killed (out of memory?); the same command with --resume continues") from None
    if isinstance(result, RankGone) and (error := _first_cause(errors)) is not None:
        raise error
    return result


def _heard_rank(train_rank: Callable[[Fabric], ResultT], errors: "SimpleQueue[LocLocError]", fabric: Fabric) -> ResultT:
    with interruptible(), watched(EXIT_AFTER_S, STOPPED_WAITING):
        result = train_rank(fabric)
        if isinstance(result, LocLocError):
            errors.put(result)
        return result


def _first_cause(errors: "SimpleQueue[LocLocError]") -> LocLocError | None:
    """Of the errors that ranks have returned, one that is not about another rank; else any; None without one."""
    returned = []
    while not errors.empty():
        returned.append(errors.get())
    return next((error for error in returned if not isinstance(error, RankGone)), next(iter(returned), None))


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
    reason = str(error).splitlines()[0][:200]
    return RankGone(
        f"Rank {fabric.global_rank} of {fabric.world_size} lost another rank, whose own message says why ({reason}); "
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
        total = differentiable.all_reduce(torch.cat([features.sum((0, 2, 3)), count]))
        mean = total[:-1] / total[-1]
        centred = features - mean[:, None, None]
        variance = differentiable.all_reduce(centred.square().sum((0, 2, 3))) / total[-1]
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        with torch.no_grad():
            unbiased = variance * (total[-1] / (total[-1] - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]
