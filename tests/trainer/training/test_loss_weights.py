"""The loss of a row counts by its weight, and by 1 where there are none."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from locloc.trainer.data.batches import FeatureBatch
from locloc.trainer.recipe import FitSettings
from locloc.trainer.training.distributed import create_fabric
from locloc.trainer.training.loop import compute_gradients


def gradient(weights: torch.Tensor | None) -> tuple[float, float]:
    """Of a model that is one factor: losses 0, 1, 2, 3 times it, in the rows 3, 2, 1 and 0. And the loss."""
    fabric, model = create_fabric("cpu", 1, "32-true"), nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    task = SimpleNamespace(
        fit=FitSettings(batch_size=4), inputs=lambda batch: (batch.features,), losses=lambda output, _: output[:, 0],
        weights=weights, name="generator",
    )  # fmt: skip
    batch = FeatureBatch(torch.arange(4.0)[:, None], torch.zeros(4, 1, 1, dtype=torch.bool), torch.tensor([3, 2, 1, 0]))
    losses = compute_gradients(fabric, task, fabric.setup_module(model), batch, 4)
    return float(model.weight.grad), losses.start_reading(fabric)(task)


def test_weights_multiply_losses():
    assert gradient(None) == pytest.approx((1.5, 1.5))
    assert gradient(torch.ones(4)) == pytest.approx((1.5, 1.5))
    assert gradient(torch.tensor([2.0, 0.0, 1.0, 1.0])) == pytest.approx(((3 * 2 + 1) / 4, (3 * 2 + 1) / 4))
