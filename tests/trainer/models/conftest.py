"""State dicts as in the authors' released files, with random weights."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

State = dict[str, Tensor]


class RandomTensors:
    """Weights that leave every layer's output about as large as its input."""

    def __init__(self, seed: int):
        self._generator = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(shape, generator=self._generator)

    def kernel(self, *shape: int) -> Tensor:
        return self.tensor(*shape, std=(2 / math.prod(shape[1:])) ** 0.5)

    def deconvolution(self, inputs: int, outputs: int) -> Tensor:
        return self.tensor(inputs, outputs, 4, 4, std=(2 / (4 * inputs)) ** 0.5)

    def batch_norm(self, name: str, channels: int) -> State:
        return {
            f"{name}.weight": 1 + self.tensor(channels, std=0.2),
            f"{name}.bias": self.tensor(channels, std=0.2),
            f"{name}.running_mean": self.tensor(channels, std=0.2),
            f"{name}.running_var": 0.5 + torch.rand(channels, generator=self._generator),
            f"{name}.num_batches_tracked": torch.tensor(940),
        }

    def layer_norm(self, name: str, width: int) -> State:
        return {f"{name}.weight": 1 + self.tensor(width, std=0.2), f"{name}.bias": self.tensor(width, std=0.2)}

    def dense(self, name: str, inputs: int, outputs: int) -> State:
        return {
            f"{name}.weight": self.tensor(outputs, inputs, std=inputs**-0.5),
            f"{name}.bias": self.tensor(outputs, std=0.1),
        }


def geg_file() -> State:
    random, state = RandomTensors(1), {}
    steps = {"down_1.1": (384, 8), "down_2.1": (8, 16), "down_3.1": (16, 32)}
    steps |= {"up_1.conv": (48, 16), "up_2.conv": (24, 12), "up_3.conv": (396, 200)}
    for step, (inputs, outputs) in steps.items():
        name = f"att_layer4.{step}.UConv"
        state[f"{name}.0.weight"] = random.kernel(outputs, inputs, 3, 3)
        state |= random.batch_norm(f"{name}.1", outputs)
        state[f"{name}.3.weight"] = random.kernel(outputs, outputs, 3, 3)
        state |= random.batch_norm(f"{name}.4", outputs)
    for step, inputs in ((1, 200), (2, 256), (3, 256)):
        state[f"up{step}.weight"] = random.deconvolution(inputs, 256)
        state |= random.batch_norm(f"bn{step}", 256)
    return state | {"att_conv2.weight": random.kernel(1, 256, 3, 3)} | random.batch_norm("bn_att2", 1)


def decoder_file(channels: int = 384, hidden: int = 2048, width: int = 256) -> State:
    random = RandomTensors(2)
    state = {"conv0.weight": random.kernel(hidden, channels, 3, 3)} | random.batch_norm("bn0", hidden)
    for step, inputs in ((1, hidden), (2, width), (3, width)):
        state[f"up{step}.weight"] = random.deconvolution(inputs, width)
        state |= random.batch_norm(f"bn{step}", width)
    return state | {"att_conv.weight": random.kernel(1, width, 1, 1), "att_conv.bias": random.tensor(1)}


def lfdm_file(width: int = 384, depth: int = 2, classes: int = 1000) -> State:
    random, state = RandomTensors(3), {}
    for block in range(depth):
        name = f"blocks_mini.{block}"
        state |= random.layer_norm(f"{name}.norm1", width) | random.layer_norm(f"{name}.norm2", width)
        state |= random.dense(f"{name}.attn.qkv", width, 3 * width) | random.dense(f"{name}.attn.proj", width, width)
        state |= random.dense(f"{name}.mlp.fc1", width, 4 * width) | random.dense(f"{name}.mlp.fc2", 4 * width, width)
    state |= random.layer_norm("norm_mini", width)
    state |= {"conv.weight": random.kernel(width, width, 3, 3), "conv.bias": random.tensor(width, std=0.1)}
    state["classifier.0.weight"] = random.kernel(classes, width, 3, 3)
    return state | random.batch_norm("classifier.1", classes)


def linear_file(classes: int = 200) -> State:
    return RandomTensors(4).dense("linear", 1536, classes)


@pytest.fixture(scope="session")
def official_files() -> dict[str, Callable[..., State]]:
    """Makes the state dict of an official file, by kind, with names and shapes as the authors released it."""
    return {"generator": geg_file, "decoder": decoder_file, "classifier": lfdm_file, "linear": linear_file}
