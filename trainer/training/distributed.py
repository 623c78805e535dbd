"""Several processes as one: they stop together, and a batch norm sees the whole batch."""

import os

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as sums
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from ...pipeline.errors import LocLocError


def create_fabric(accelerator: str, devices: int, precision: str, unused: bool = False) -> Fabric:
    """For one device, for several that `launch` starts processes for, or for those that torchrun or srun has started.

    unused  some parameters of a model never get a gradient
    """
    outside = launched_externally()
    if devices == 1 and not outside:
        return Fabric(accelerator=accelerator, devices=1, precision=precision, plugins=[LightningEnvironment()])
    nodes = 1
    if outside:
        environment = os.environ
        if "LOCAL_WORLD_SIZE" in environment:
            devices = int(environment["LOCAL_WORLD_SIZE"])
            nodes = int(environment["WORLD_SIZE"]) // devices
        else:
            nodes = int(environment["SLURM_NNODES"])
            devices = int(environment["SLURM_NTASKS"]) // nodes
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=precision,
        strategy=DDPStrategy(start_method="popen" if outside else "spawn", find_unused_parameters=unused),
        plugins=[] if outside else [LightningEnvironment()],  # a batch job of one task is not SLURM's to spread out
    )


def launched_externally() -> bool:
    """torchrun, or srun with several tasks, has started this process and others like it."""
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    return "LOCAL_WORLD_SIZE" in os.environ or (tasks > 1 and "SLURM_PROCID" in os.environ)


def is_rank_zero() -> bool:
    """The one of those that writes and prints."""
    return not launched_externally() or int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


def raise_on_all_ranks(fabric: Fabric, error: LocLocError | None) -> None:
    """Raises `error`, or that of another process: one that stopped alone would leave the others waiting for ever."""
    if fabric.world_size > 1:
        flag = torch.tensor(float(error is not None), device=fabric.device)
        if not fabric.all_reduce(flag, reduce_op="sum"):
            return
        errors: list[LocLocError | None] = [None] * fabric.world_size
        dist.all_gather_object(errors, error)
        error = next(one for one in errors if one is not None)
    if error is not None:
        raise error


def sync_batch_norms(model: nn.Module, fabric: Fabric) -> nn.Module:
    """Makes the batch norms of a model use the mean and variance of all processes' images together."""
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
    """`(B, C, h, w)`: torch.nn.SyncBatchNorm for CPUs, which that does not know. Shares may differ in size."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "SyncBatchNorm2dCpu":
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared.train(norm.training)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        count = torch.full((1,), features.numel() / features.shape[1], dtype=features.dtype)
        total = sums.all_reduce(torch.cat([features.sum((0, 2, 3)), count]))
        mean = total[:-1] / total[-1]
        centred = features - mean[:, None, None]
        variance = sums.all_reduce(centred.square().sum((0, 2, 3))) / total[-1]
        with torch.no_grad():
            unbiased = variance * (total[-1] / (total[-1] - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]
