"""The best settings of each system: the same are offered to both sides, and each takes what is fastest for it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .inference_stages import System, model_run
from .timing import Clock, in_turn, spread

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Choice:
    """How a system is run; its weights and what it computes stay the same."""

    channels_last: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compiled: Literal["no", "compile", "cuda graphs"] = "no"

    @property
    def name(self) -> str:
        parts = [self.precision, *(["channels last"] if self.channels_last else [])]
        return ", ".join(parts + ([self.compiled] if self.compiled != "no" else []))


@dataclass(frozen=True)
class Trial:
    """What one choice gave a system."""

    system: str
    choice: Choice
    seconds: float | None  # None where it cannot be run
    why_not: str = ""


def choices(device: torch.device) -> list[Choice]:
    """What is offered. On a CPU nothing is compiled: that takes a C++ compiler, and minutes a system."""
    ways: tuple[Literal["no", "compile", "cuda graphs"], ...] = ("no",)
    if device.type == "cuda":
        ways = ("no", "compile", "cuda graphs")
    return [
        Choice(channels_last, precision, way)
        for way in ways
        for precision in ("fp32", "bf16")
        for channels_last in (False, True)
    ]


def placed(system: System, choice: Choice, device: torch.device) -> System:
    """A copy of a system on the device, run as the choice says. The copy to NumPy stays outside of what is compiled."""
    own = copy.deepcopy(system).to(device, PRECISIONS[choice.precision])
    if choice.channels_last:
        own = own.to(memory_format=torch.channels_last)
        own.maps = _channels_last(own.maps)
    if choice.compiled != "no":
        mode = "reduce-overhead" if choice.compiled == "cuda graphs" else "default"
        for part in ("tokens", "maps", "classes"):
            setattr(own, part, torch.compile(getattr(own, part), mode=mode, dynamic=False))
    if choice.compiled == "cuda graphs":
        own.infer = _new_step(own.infer)
    return own


def _channels_last(maps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda patches: maps(patches.contiguous(memory_format=torch.channels_last))


def _new_step(infer: Callable) -> Callable:
    """Tells CUDA graphs that outputs of the run before are no longer needed."""

    def step(*arguments):
        torch.compiler.cudagraph_mark_step_begin()
        return infer(*arguments)

    return step


def try_choices(
    systems: dict[str, System], views: dict[str, tuple[Tensor, ...]], device: torch.device, clock: Clock, rounds: int
) -> list[Trial]:
    """Every choice for every system. One that fails is recorded with its reason, not hidden."""
    found = []
    for name, system in systems.items():
        for choice in choices(device):
            try:
                own = placed(system, choice, device)
                readings = in_turn({name: model_run(own, views[name])}, clock, rounds, warm_up=1)[name]
                found.append(Trial(name, choice, spread([reading.total_s for reading in readings]).median))
            except Exception as error:  # a compiler, a kernel or memory that is missing: any class of error
                why = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
                found.append(Trial(name, choice, None, why))
            _reset()
    return found


def best(trials: list[Trial]) -> dict[str, Choice]:
    """The fastest choice of each system."""
    fastest: dict[str, Trial] = {}
    for trial in trials:
        known = fastest.get(trial.system)
        if trial.seconds is not None and (known is None or trial.seconds < known.seconds):
            fastest[trial.system] = trial
    return {name: trial.choice for name, trial in fastest.items()}


def _reset() -> None:
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
