"""A function replayed from a CUDA graph, which is launched as one instead of kernel by kernel."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], object]]]


def capture(work: Callable[[], Any], warm_up: int = 3) -> tuple[Any, Callable[[], object]]:
    """What `work` returns, and the replay of its kernels, which writes the same tensors again."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warm_up):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return result, graph.replay


class Captured:
    """A function of tensors that is captured at its first call, and replayed at later ones with inputs of that form.

    Returns the same tensors each time, with new values.
    """

    def __init__(self, function: Callable[..., Any], capture: Capture = capture):
        self._function, self._capture = function, capture
        self._inputs: tuple[Tensor, ...] = ()
        self._result: Any = None
        self._replay: Callable[[], object] | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        if self._replay is None:
            self._inputs = tuple(each.clone() for each in inputs)
            self._result, self._replay = self._capture(lambda: self._function(*self._inputs))
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._replay()
        return self._result
