"""The best settings of each system: all systems try the same settings, and each keeps its fastest."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..models.localizer import PRECISIONS
from .inference_stages import System, model_run
from .timing import Clock, in_turn, spread


@dataclass(frozen=True)
class Choice:
    """Settings under which a system runs; they do not change its weights or its computation."""

    channels_last: bool = False
    precision: str = "fp32"  # of PRECISIONS
    compiled: Literal["no", "compile", "cuda graphs"] = "no"

    @property
    def name(self) -> str:
        parts = [self.precision, *(["channels last"] if self.channels_last else [])]
        return ", ".join(parts + ([self.compiled] if self.compiled != "no" else []))


@dataclass(frozen=True)
class Trial:
    """The time of one system with one choice."""

    system: str
    choice: Choice
    seconds: float | None  # None if it cannot be run
    why_not: str = ""


def choices(device: torch.device) -> list[Choice]:
    """The settings to try. On a CPU nothing is compiled: that takes a C++ compiler, and minutes per system."""
    compiled: tuple[Literal["no", "compile", "cuda graphs"], ...] = ("no",)
    if device.type == "cuda":
        compiled = ("no", "compile", "cuda graphs")
    return [
        Choice(channels_last, precision, way)
        for way in compiled
        for precision in ("fp32", "bf16")
        for channels_last in (False, True)
    ]


def apply_choice(system: System, choice: Choice, device: torch.device) -> System:
    """A copy of a system on the device with these settings. The copy to NumPy is never compiled."""
    tuned: Any = copy.deepcopy(system).to(device, PRECISIONS[choice.precision])  # its methods are replaced
    if choice.channels_last:
        tuned = tuned.to(memory_format=torch.channels_last)
        tuned.maps = _channels_last(tuned.maps)
    if choice.compiled != "no":
        mode = "reduce-overhead" if choice.compiled == "cuda graphs" else "default"
        for method in ("tokens", "maps", "classes"):
            setattr(tuned, method, torch.compile(getattr(tuned, method), mode=mode, dynamic=False))
    if choice.compiled == "cuda graphs":
        tuned.infer = _new_step(tuned.infer)
    return tuned


def _channels_last(maps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda patches: maps(patches.contiguous(memory_format=torch.channels_last))


def _new_step(infer: Callable[..., Any]) -> Callable[..., Any]:
    """Marks each run as a new step: CUDA graphs may overwrite the outputs of the previous run."""

    def step(*arguments: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return infer(*arguments)

    return step


def try_choices(
    systems: dict[str, System], views: dict[str, tuple[Tensor, ...]], device: torch.device, clock: Clock, rounds: int
) -> list[Trial]:
    """Times every system with every choice. A choice that fails is recorded with its reason."""
    trials = []
    for name, system in systems.items():
        for choice in choices(device):
            try:
                tuned = apply_choice(system, choice, device)
                readings = in_turn({name: model_run(tuned, views[name])}, clock, rounds, warm_up=1)[name]
                trials.append(Trial(name, choice, spread([reading.total_s for reading in readings]).median))
            except Exception as error:  # no compiler, no kernel, not enough memory: any class of error
                why = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
                trials.append(Trial(name, choice, None, why))
            _reset()
    return trials


def best(trials: list[Trial]) -> dict[str, Choice]:
    """The fastest choice of each system."""
    fastest: dict[str, tuple[float, Choice]] = {}
    for trial in trials:
        if trial.seconds is not None:
            known = fastest.get(trial.system)
            if known is None or trial.seconds < known[0]:
                fastest[trial.system] = trial.seconds, trial.choice
    return {name: choice for name, (_, choice) in fastest.items()}


def _reset() -> None:
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
