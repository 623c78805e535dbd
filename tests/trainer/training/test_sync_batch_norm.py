"""Batch norm over the batches of several ranks, which are threads here."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from locloc.trainer.training.distributed import SyncBatchNorm2dCpu

IMAGES = (3, 1)
"""Of each rank."""


@pytest.fixture
def of_ranks(monkeypatch):
    """Calls a function in a thread for each rank; gloo joins them."""
    store, here = dist.HashStore(), threading.local()
    monkeypatch.setattr(dist, "all_reduce", lambda values: here.group.allreduce([values]).wait())

    def call(function, rank):
        here.group = dist.ProcessGroupGloo(store, rank, len(IMAGES), timedelta(seconds=20))
        return function(rank)

    def call_all(function):
        with ThreadPoolExecutor(len(IMAGES)) as pool:
            return list(pool.map(lambda rank: call(function, rank), range(len(IMAGES))))

    return call_all


def normed(norm: nn.Module, features: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Values `(b, C, h, w)`, their features' gradients, and those of the weight and the bias."""
    features = features.clone().requires_grad_()
    values = norm(features)
    (values * weights).sum().backward()
    return values.detach(), features.grad, norm.weight.grad, norm.bias.grad


def test_values_gradients_and_statistics_are_those_of_one_batch(of_ranks):
    features, weights = torch.randn(2, sum(IMAGES), 5, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    whole = nn.BatchNorm2d(5).double()
    nn.init.uniform_(whole.weight, 0.5, 2, generator=torch.Generator().manual_seed(0))
    norms = [SyncBatchNorm2dCpu.of(whole).double() for _ in IMAGES]
    shares = list(zip(features.split(IMAGES), weights.split(IMAGES), strict=True))
    ranks = of_ranks(lambda rank: normed(norms[rank], *shares[rank]))
    values, of_features, of_weight, of_bias = normed(whole, features, weights)
    close = torch.testing.assert_close
    close(torch.cat([rank[0] for rank in ranks]), values)
    close(torch.cat([rank[1] for rank in ranks]), of_features)
    close(sum(rank[2] for rank in ranks), of_weight)
    close(sum(rank[3] for rank in ranks), of_bias)
    for norm in norms:
        close(norm.state_dict(), whole.state_dict())
