"""What the host reads of a step: one copy, and nothing that waits for the device before the next step's launch."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from locloc.pipeline.errors import TrainError
from locloc.trainer.data.batches import ImageBatch
from locloc.trainer.recipe import FitSettings
from locloc.trainer.training import step_loss
from locloc.trainer.training.distributed import create_fabric
from locloc.trainer.training.loop import compute_gradients, update_weights
from locloc.trainer.training.step_loss import StepLoss


class ToTheHost(TorchDispatchMode):
    """Counts copies from the device. In FakeTensorMode what needs a value, like `if tensor:`, raises."""

    def __init__(self):
        super().__init__()
        self.copies = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sources = {arg.device.type for arg in args if isinstance(arg, torch.Tensor)}
        if isinstance(out, torch.Tensor) and out.device.type == "cpu" and "cuda" in sources:
            self.copies.append(str(func))
        return out


def fake_fabric(net):
    def backward(loss):  # autograd itself needs a real device
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def clip_gradients(net, _, max_norm, error_if_nonfinite):
        return nn.utils.clip_grad_norm_(net.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite)

    return SimpleNamespace(
        device=torch.device("cuda"), world_size=1, backward=backward, clip_gradients=clip_gradients,
        autocast=nullcontext, no_backward_sync=lambda net, enabled: nullcontext(),
    )  # fmt: skip


@pytest.mark.parametrize("weights", [None, torch.ones(8)], ids=["plain", "weighted"])
def test_a_step_reads_the_device_once_and_after_its_end(monkeypatch, weights):
    read, host = [], torch.zeros(3)

    def to_host(values):
        read.append(values)
        return host, None

    monkeypatch.setattr(step_loss, "_to_host", to_host)
    task = SimpleNamespace(
        name="generator", fit=FitSettings(batch_size=8, accumulate=2, clip_norm=1.0), weights=weights,
        inputs=lambda part: (part.rgb.float(),), losses=lambda output, target: (output[:, 0] - target).square(),
    )  # fmt: skip
    with FakeTensorMode(allow_non_fake_inputs=True), ToTheHost() as mode:
        net = nn.Linear(4, 1, device="cuda")
        fabric = fake_fabric(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        batch = ImageBatch(torch.zeros(8, 4, dtype=torch.uint8), torch.zeros(8), torch.arange(8))
        for _ in range(2):
            losses = compute_gradients(fabric, task, net, batch, 8)
            norm = update_weights(fabric, task, net, optimizer, check=False)
            reading = losses.start_reading(fabric, norm)
    assert mode.copies == [] and len(read) == 2
    assert all(values.device.type == "cuda" and values.shape == (3,) for values in read)
    assert reading(task) == 0


def test_losses_and_gradients_that_are_not_finite_are_told():
    fabric = create_fabric("cpu", 1, "32-true")
    task = SimpleNamespace(name="generator", ids=lambda rows: [f"image {row}" for row in rows])
    finite, rows = torch.tensor([True, False, True]), torch.tensor([5, 7, 9])
    good = StepLoss(torch.tensor(6.0), torch.ones(3, dtype=torch.bool), rows, 3)
    assert good.start_reading(fabric, torch.tensor(1.0))(task) == 2
    with pytest.raises(TrainError, match=r"loss of 1 of 3 images is not finite \(image 7\)"):
        StepLoss(torch.tensor(torch.nan), finite, rows, 3).start_reading(fabric)(task)
    with pytest.raises(TrainError, match="gradients of 3 images are not finite"):
        good.start_reading(fabric, torch.tensor(torch.inf))(task)


def test_adam_s_steps_stay_on_the_cpu():
    """Where they are on the device, Adam reads each of them in every step."""
    weight = nn.Parameter(torch.zeros(3))
    trained = torch.optim.AdamW([weight])
    weight.grad = torch.ones(3)
    trained.step()
    resumed = torch.optim.AdamW([nn.Parameter(torch.zeros(3, device="meta"))])
    resumed.load_state_dict(trained.state_dict())
    (state,) = resumed.state.values()
    assert state["step"].device.type == "cpu" and np.isclose(float(state["step"]), 1)
    assert state["exp_avg"].device.type == "meta"
