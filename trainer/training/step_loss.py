"""The loss of a step, which on a GPU is read a step late: reading it at once would wait for the device to run empty.

Everything about a step that the host wants to know is one tensor, one reduction over ranks and one copy to the host,
which begins when the step ends and is waited for after the next step has been launched.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ...pipeline.errors import TrainError
from .distributed import raise_on_all_ranks, rank_gone, sum_on_device
from .training_tasks import TrainingTask


@dataclass(frozen=True)
class StepLoss:
    """The losses of a rank's share of a batch, on its device."""

    total: Tensor  # () sum of the images' losses
    finite: Tensor  # (b,) bool, by image
    rows: Tensor  # (b,) int64, on the CPU
    images: int  # of all ranks

    def start_reading(self, fabric: Fabric, gradient_norm: Tensor | None = None) -> Callable[[TrainingTask], float]:
        """Begins the copy to the host. The returned function waits for it, and returns the images' mean loss.

        gradient_norm  of all ranks' gradients, to be checked too

        That function raises TrainError on all ranks where an image's loss or the gradients are not finite.
        """
        norm = self.total.new_zeros(()) if gradient_norm is None else gradient_norm
        values = torch.stack([self.total, (~self.finite).sum().to(self.total), (~norm.isfinite()).to(self.total)])
        try:
            values = sum_on_device(fabric, values)
        except RuntimeError as lost:
            raise rank_gone(fabric, lost) from None
        host, copied = _to_host(values)

        def read(task: TrainingTask) -> float:
            if copied is not None:
                copied.synchronize()
            total, not_finite, gradients = host.tolist()
            if not_finite:
                bad = self.rows[~self.finite.cpu()]
                raise_on_all_ranks(fabric, _not_finite(task, bad, len(self.rows)) if len(bad) else None)
            if gradients:
                raise TrainError(
                    f"{task.name}: the gradients of {self.images} images are not finite; train again with a lower "
                    f"--set {task.name}.fit.lr_base"
                )
            return total / self.images

        return read


def _to_host(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy in pinned memory, and the event that ends it: other work of the device is not waited for."""
    if values.device.type != "cuda":
        return values, None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied


def _not_finite(task: TrainingTask, rows: Tensor, images: int) -> TrainError:
    """The error for `rows` out of `images` images whose loss is not finite."""
    ids = ", ".join(task.ids(rows[:8].numpy()))
    return TrainError(
        f"{task.name}: the loss of {len(rows)} of {images} images is not finite "
        f"({ids}{', ...' if len(rows) > 8 else ''}); check these, or train again with a lower "
        f"--set {task.name}.fit.lr_base"
    )
