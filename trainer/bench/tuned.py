"""The best settings of each system, found greedily: one kind of setting after the other, each system keeping its best.

All systems try the same settings. Combinations that no step of the search reaches are not tried: on a GPU that would be
24 a system, half of them compiled, for 7 of this search.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ...pipeline.backbones.tf32 import float32_products
from ..models.localizer import PRECISIONS
from .cuda_graph import Captured
from .inference_stages import System, model_run
from .timing import Clock, Reading, in_turn, spread

Compiled = Literal["no", "graphs", "compile", "cuda graphs"]

_NAMES: dict[Compiled, str] = {
    "graphs": "CUDA graphs", "compile": "torch.compile", "cuda graphs": "torch.compile with CUDA graphs",
}  # fmt: skip
NO_TIME = "not tried: the time for compiling was over"


@dataclass(frozen=True)
class Choice:
    """Settings under which a system runs; they do not change its weights or its computation.

    compiled  "graphs": captured as CUDA graphs as they are; "compile": torch.compile; "cuda graphs": both, by
              torch.compile
    """

    channels_last: bool = False
    precision: str = "fp32"  # of PRECISIONS; fp32 is IEEE's
    compiled: Compiled = "no"

    @property
    def name(self) -> str:
        parts = [self.precision, *(["channels last"] if self.channels_last else [])]
        return ", ".join(parts + ([_NAMES[self.compiled]] if self.compiled != "no" else []))

    @property
    def needs_compiler(self) -> bool:
        return self.compiled in ("compile", "cuda graphs")


@dataclass(frozen=True)
class Trial:
    """The time of one system with one choice."""

    system: str
    choice: Choice
    seconds: float | None  # None if it cannot be run
    why_not: str = ""


def steps(on_gpu: bool, compiles: bool) -> list[list[dict[str, Any]]]:
    """The steps of the search: changes of the best choice so far. The first is the choice where the search begins.

    On a CPU nothing is compiled: that takes a C++ compiler, and minutes per system.
    """
    precisions = ("tf32", "bf16") if on_gpu else ("bf16",)
    by_compiler: tuple[Compiled, ...] = ("compile", "cuda graphs") if compiles else ()
    ways: tuple[Compiled, ...] = ("graphs", *by_compiler)
    found: list[list[dict[str, Any]]] = [
        [{}],
        [{"precision": precision} for precision in precisions],
        [{"channels_last": True}],
    ]
    return found + ([[{"compiled": way} for way in ways]] if on_gpu else [])


def apply_choice(system: System, choice: Choice, device: torch.device) -> System:
    """A copy of a system on the device with these settings. The copy to NumPy is never compiled or captured."""
    tuned: Any = copy.deepcopy(system).to(device, PRECISIONS[choice.precision])  # its methods are replaced
    if choice.channels_last:
        tuned = tuned.to(memory_format=torch.channels_last)
        tuned.maps = _channels_last(tuned.maps)
    for method in ("tokens", "maps", "classes"):
        if choice.compiled == "graphs":
            setattr(tuned, method, Captured(getattr(tuned, method)))
        elif choice.compiled != "no":
            mode = "reduce-overhead" if choice.compiled == "cuda graphs" else "default"
            setattr(tuned, method, torch.compile(getattr(tuned, method), mode=mode, dynamic=False))
    if choice.compiled == "cuda graphs":
        tuned.infer = _new_step(tuned.infer)
    tuned.infer = _with_products(tuned.infer, choice.precision)
    return tuned


def _channels_last(maps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda patches: maps(patches.contiguous(memory_format=torch.channels_last))


def _new_step(infer: Callable[..., Any]) -> Callable[..., Any]:
    """Marks each run as a new step: CUDA graphs may overwrite the outputs of the previous run."""

    def step(*arguments: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return infer(*arguments)

    return step


def _with_products(infer: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """Float32 products are IEEE's, or TF32 where that is the precision."""

    def run(*arguments: Any) -> Any:
        with float32_products(precision):
            return infer(*arguments)

    return run


Measure = Callable[[System, str], list[Reading]]


def search(
    systems: dict[str, System], device: torch.device, measure: Measure, steps: list[list[dict[str, Any]]],
    compile_until: float, on_trial: Callable[[str], None] = lambda text: None,
) -> list[Trial]:  # fmt: skip
    """All trials of the greedy search, step by step over all systems. One that fails is recorded with its reason.

    measure        the readings of a system, given its name
    compile_until  by `time.monotonic`; later nothing is compiled. What one system could not try then, no system takes
    on_trial       called with system and settings before each trial
    """
    trials: list[Trial] = []
    for changes in steps:
        so_far = best(trials)
        for name, system in systems.items():
            for change in changes:
                choice = replace(so_far.get(name, Choice()), **change)
                on_trial(f"{name}, {choice.name}")
                trials.append(_try(name, system, choice, device, measure, compile_until))
    return trials


def _try(
    name: str, system: System, choice: Choice, device: torch.device, measure: Measure, compile_until: float
) -> Trial:
    if choice.needs_compiler and time.monotonic() > compile_until:
        return Trial(name, choice, None, NO_TIME)
    try:
        readings = measure(apply_choice(system, choice, device), name)
        return Trial(name, choice, spread([reading.total_s for reading in readings]).median)
    except Exception as error:  # no compiler, no kernel, not enough memory: any class of error
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        return Trial(name, choice, None, why)
    finally:
        _reset()


def measure_stages(views: dict[str, tuple[Tensor, ...]], clock: Clock, rounds: int, warm_up: int) -> Measure:
    """Times the model stages. The first `warm_up` runs, which compile and capture, are not timed."""
    return lambda system, name: in_turn({name: model_run(system, views[name])}, clock, rounds, warm_up)[name]


def best(trials: list[Trial]) -> dict[str, Choice]:
    """The fastest choice of each system, of ways to compile that no system lacked the time for."""
    unfair = {trial.choice.compiled for trial in trials if trial.why_not == NO_TIME}
    fastest: dict[str, tuple[float, Choice]] = {}
    for trial in trials:
        if trial.seconds is not None and trial.choice.compiled not in unfair:
            known = fastest.get(trial.system)
            if known is None or trial.seconds < known[0]:
                fastest[trial.system] = trial.seconds, trial.choice
    return {name: choice for name, (_, choice) in fastest.items()}


def _reset() -> None:
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
