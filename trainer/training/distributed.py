"""Distributed training: launching ranks, raising errors on all of them, and batch norm over the whole batch."""

import os
from typing import Literal

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from ...pipeline.errors import LocLocError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def create_fabric(accelerator: str, devices: int, precision: Precision, unused: bool = False) -> Fabric:
    """A Fabric for one device, for ranks that `launch` starts, or for ranks that torchrun or srun has started.

    devices  ignored where ranks were started externally
    unused   whether some parameters of a model never get a gradient
    """
    external = launched_externally()
    if devices == 1 and not external:
        return Fabric(accelerator=accelerator, devices=1, precision=precision, plugins=[LightningEnvironment()])
    nodes = 1
    if external and "LOCAL_WORLD_SIZE" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif external:
        nodes = int(os.environ["SLURM_NNODES"])
        devices = int(os.environ["SLURM_NTASKS"]) // nodes
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=precision,
        strategy=DDPStrategy(start_method="popen" if external else "spawn", find_unused_parameters=unused),
        plugins=[] if external else [LightningEnvironment()],  # else Fabric treats any SLURM job as srun's
    )


def launched_externally() -> bool:
    """True where torchrun, or srun with several tasks, has started this process."""
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    return "LOCAL_WORLD_SIZE" in os.environ or (tasks > 1 and "SLURM_PROCID" in os.environ)


def is_rank_zero() -> bool:
    """True on rank 0 of externally launched ranks, and in a process that was not launched externally."""
    return not launched_externally() or int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


def raise_on_all_ranks(fabric: Fabric, error: LocLocError | None) -> None:
    """Raises `error`, or the error of another rank: a rank that stops alone leaves the others waiting for ever."""
    if fabric.world_size > 1:
        flag = torch.tensor(float(error is not None), device=fabric.device)
        if not all_reduce_sum(fabric, flag):
            return
        errors: list[LocLocError | None] = [None] * fabric.world_size
        dist.all_gather_object(errors, error)
        error = next(error for error in errors if error is not None)
    if error is not None:
        raise error


def all_reduce_sum(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
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
