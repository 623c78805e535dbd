"""Counts parameters and arithmetic: in full, and by the rules behind the paper's Table 3.

Models and inputs are on the meta device, so nothing is computed. A multiply-accumulate (MAC) is two FLOPs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ..models.classifier import Classifier
from ..models.generator import create_generator
from ..models.ppd import Decoder, LinearClassifier
from ..models.token_selection import select_tokens, shared_block_count
from .systems import SIZE_PX, VIT, Form, Ppd, create_system, create_vit, forms

MI = 2**20


@dataclass(frozen=True)
class Count:
    """The counts of a module for one image."""

    module: str
    parameters: int
    macs: int  # in full: FlopCounterMode / 2
    paper_counter: int  # the FLOPs that the paper's counter reports


@dataclass(frozen=True)
class PipelineCount:
    """The counts of a whole system for one image."""

    form: str
    parameters: int
    backbone_macs: int
    classifier_macs: int
    generator_macs: int

    @property
    def macs(self) -> int:
        return self.backbone_macs + self.classifier_macs + self.generator_macs


class PaperCounter(TorchFunctionMode):
    """Counts by torchstat's rules, which give Table 3's 1.39 and 0.25 GFLOPS to the last digit.

    A convolution counts its multiplications, and one addition per value for its bias; a linear layer its weights; batch
    norm with weights two operations per input value; a (leaky) ReLU and a pooling one per input value. Everything else
    counts zero: transposed convolutions, attention's products, resizing, sigmoids.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        result = func(*args, **(kwargs or {}))
        rule = _RULES.get(getattr(func, "__name__", ""))
        if rule is not None:
            self.operations += rule(result, *args, **(kwargs or {}))
        return result


def _convolution(result: Tensor, _: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **more: Any) -> int:
    positions = result.shape[0] * prod(result.shape[2:])
    return positions * (weight.numel() + (0 if bias is None else len(bias)))


def _linear(result: Tensor, _: Tensor, weight: Tensor, *rest: Any, **more: Any) -> int:
    return prod(result.shape[:-1]) * weight.numel()


def _each_input(per_value: int) -> Callable[..., int]:
    return lambda _, features, *rest, **more: per_value * features.numel()


_RULES = {
    "conv2d": _convolution,
    "linear": _linear,
    "batch_norm": _each_input(2),
    "relu": _each_input(1),
    "leaky_relu": _each_input(1),
    "max_pool2d": _each_input(1),
    "boolean_dispatch": _each_input(1),  # torch's name for nn.functional.max_pool2d
    "avg_pool2d": _each_input(1),
}


def macs(run: Callable[[], Any]) -> tuple[int, Any]:
    """Multiply-accumulates of a function, and its result."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = run()
    return counter.get_total_flops() // 2, result


def paper_count(run: Callable[[], Any]) -> int:
    with PaperCounter() as counter, torch.no_grad():
        run()
    return counter.operations


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count(name: str, model: nn.Module, *inputs: Tensor | None) -> Count:
    """Counts one forward pass."""
    model.eval()
    return Count(name, parameters(model), macs(lambda: model(*inputs))[0], paper_count(lambda: model(*inputs)))


def count_modules(classes: int, keep_tokens: float, shared_blocks: float, vit_name: str = VIT) -> list[Count]:
    """Counts every module of both systems for one image."""
    with torch.device("meta"):
        vit = create_vit(vit_name)
        width, (side, _) = vit.embed_dim, vit.patch_embed.grid_size
        square, larger = torch.empty(1, width, side, side), torch.empty(1, width, side + 2, side + 2)
        tokens, pixels = torch.empty(1, 1 + side * side, width), torch.empty(1, 3, SIZE_PX, SIZE_PX)
        grid, keep = (side, side), select_tokens(torch.empty(1, 1, side, side), (side, side), keep_tokens)
        models: list[tuple[str, nn.Module, tuple[Tensor | None, ...]]] = [
            ("ViT", vit, (pixels,)),
            (f"PPD linear, {classes} classes", LinearClassifier(width, classes), (torch.empty(1, 4 * width),)),
            (f"PPD decoder, {side} x {side}", Decoder(width), (square,)),
            (f"PPD decoder, {side + 2} x {side + 2}", Decoder(width), (larger,)),
            ("GEG paper", create_generator("paper", width), (square,)),
            ("GEG tapered", create_generator("tapered", width), (square,)),
        ]
        shared = shared_block_count(len(vit.blocks), shared_blocks)
        for number in sorted({classes, 1000}):
            models.append((f"LFDM, {number} classes", Classifier(vit, number, grid), (tokens,)))
            if keep is not None or shared:
                lfdm = Classifier(vit, number, grid, keep_tokens, shared)
                size = f"{len(lfdm.blocks)} blocks, {side * side if keep is None else keep.shape[1]} of {side * side}"
                models.append((f"LFDM, {number} classes, {size} tokens", lfdm, (tokens, keep)))
    return [count(name, model, *inputs) for name, model, inputs in models]


def count_pipeline(form: Form, classes: int, vit_name: str = VIT) -> PipelineCount:
    """Counts a whole system for one image, stage by stage."""
    with torch.device("meta"):
        model = create_system(form, classes, vit_name)
    views = [torch.empty(1, side, side, 3, dtype=torch.uint8, device="meta") for side in form.views_px]
    backbone, (first, patches) = macs(lambda: model.tokens(*views))
    generator, maps = macs(lambda: model.maps(patches))
    classifier, _ = macs(lambda: model.classes(first) if isinstance(model, Ppd) else model.classes(first, maps))
    return PipelineCount(form.name, parameters(model), backbone, classifier, generator)


def count_pipelines(
    compare_ppd: bool, classes: int, keep_tokens: float, shared_blocks: float, vit_name: str = VIT
) -> list[PipelineCount]:
    return [count_pipeline(form, classes, vit_name) for form in forms(compare_ppd, keep_tokens, shared_blocks)]
