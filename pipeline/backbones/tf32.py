"""Float32 products of CUDA: IEEE's, or by name TF32, which rounds their inputs to 10 bits of mantissa.

By torch's defaults convolutions are TF32 and matrix products are not. Here both are one or the other. They are set by
torch's older names: torch.compile and Lightning Fabric read these, and raise once the newer ones were set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CUDA: Any = torch.backends.cuda.matmul
_CUDNN: Any = torch.backends.cudnn
_OLDER_NAMES: tuple[tuple[Any, str], ...] = ((_CUDA, "allow_tf32"), (_CUDNN, "allow_tf32"))
_NEWER_NAMES: tuple[tuple[Any, str], ...] = (
    (_CUDA, "fp32_precision"), (_CUDNN.conv, "fp32_precision"), (_CUDNN.rnn, "fp32_precision"),
)  # fmt: skip


def set_tf32(used: bool) -> None:
    """Sets both for this process."""
    for backend, name in _OLDER_NAMES:
        setattr(backend, name, used)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Products inside are TF32 if `precision` is "tf32", else IEEE's; those after it are as before."""
    names = _OLDER_NAMES
    try:
        before = [getattr(backend, name) for backend, name in names]
    except RuntimeError:  # a caller has set the newer ones
        names = _NEWER_NAMES
        before = [getattr(backend, name) for backend, name in names]
    set_tf32(precision == "tf32")
    try:
        yield
    finally:
        for (backend, name), value in zip(names, before, strict=True):
            setattr(backend, name, value)
