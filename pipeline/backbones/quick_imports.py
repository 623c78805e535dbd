"""timm and torchvision without torch's compiler, whose import takes as long as theirs and most of torch's together.

Both import it for next to nothing: torchvision for a function that `roi_align` calls, timm for a decorator of its
NaFlexViT. Here they get stand-ins, which import the compiler when they are used, and then do as the real ones.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

_UTILS = "torch._dynamo.utils"


def import_timm() -> None:
    """Imports torch, torchvision and timm. Later imports find them there; nothing depends on this but the time."""
    if "torchvision" in sys.modules or "torch._dynamo" in sys.modules:
        return
    import torch.compiler

    real_disable = torch.compiler.disable
    sys.modules[_UTILS] = _LateUtils(_UTILS)
    torch.compiler.disable = _late_disable(real_disable)
    try:
        import timm  # noqa: F401
        import torchvision  # noqa: F401
    finally:
        torch.compiler.disable = real_disable
        _remove_stand_in()


class _LateUtils(ModuleType):
    """Has the function that torchvision wants; whoever wants more gets it from the real module, imported then."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        supported: bool = _real_utils().is_compile_supported(device_type)
        return supported

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        return getattr(_real_utils(), name)


def _remove_stand_in() -> None:
    if isinstance(sys.modules.get(_UTILS), _LateUtils):
        del sys.modules[_UTILS]


def _real_utils() -> ModuleType:
    _remove_stand_in()
    return importlib.import_module(_UTILS)


def _late_disable(real_disable: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable`, which decorates functions at their first call."""

    def disable(fn: Any = None, *given: Any, **named: Any) -> Any:
        if not isinstance(fn, FunctionType):
            return real_disable(fn, *given, **named)

        @functools.cache
        def disabled() -> Any:
            return real_disable(fn, *given, **named)

        @functools.wraps(fn)
        def late(*args: Any, **kwargs: Any) -> Any:
            return disabled()(*args, **kwargs)

        late._torchdynamo_disable = True  # type: ignore[attr-defined]  # by which the compiler knows such functions
        return late

    return disable
