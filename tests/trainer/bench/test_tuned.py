"""The greedy search of settings: which trials there are, and which choice each system takes."""

import time

import pytest
import torch

from locloc.trainer.bench import tuned
from locloc.trainer.bench.cuda_graph import Captured
from locloc.trainer.bench.timing import Reading
from locloc.trainer.bench.tuned import NO_TIME, Choice, Trial, best, search, steps

CPU = torch.device("cpu")


@pytest.fixture
def measure(monkeypatch):
    """Times a system by its choice: `faster[name]` has the settings that help it, each by a second."""
    monkeypatch.setattr(tuned, "apply_choice", lambda system, choice, device: choice)
    faster = {"x": {"tf32", "channels last", "graphs"}, "y": {"bf16", "cuda graphs"}}

    def seconds(choice: Choice, name: str) -> list[Reading]:
        if choice.compiled == "compile" and name == "y":
            raise RuntimeError("no compiler\nat ...")
        of_choice = {choice.precision, "channels last" if choice.channels_last else "", choice.compiled}
        return [Reading({"all": 10.0 - len(of_choice & faster[name])}, 0)]

    return seconds


def run(measure, on_gpu: bool, compile_until: float = time.monotonic() + 1e6) -> list[Trial]:
    return search({"x": None, "y": None}, CPU, measure, steps(on_gpu, True), compile_until)


def test_each_system_keeps_what_makes_it_faster_and_goes_on_from_there(measure):
    trials = run(measure, on_gpu=True)
    assert best(trials) == {"x": Choice(True, "tf32", "graphs"), "y": Choice(False, "bf16", "cuda graphs")}
    assert [trial.choice for trial in trials if trial.system == "x"] == [
        Choice(), Choice(False, "tf32"), Choice(False, "bf16"), Choice(True, "tf32"),
        Choice(True, "tf32", "graphs"), Choice(True, "tf32", "compile"), Choice(True, "tf32", "cuda graphs"),
    ]  # fmt: skip
    assert [trial.why_not for trial in trials if trial.seconds is None] == ["no compiler"]
    names = [trial.system for trial in trials]
    assert names == [*"xy", *"xxyy", *"xy", *"xxxyyy"], "step by step, so that no system gets more of the time"


def test_each_trial_is_told_before_it_begins(measure):
    told: list[str] = []
    systems = {"x": None, "y": None}
    search(systems, CPU, measure, steps(False, True), time.monotonic() + 1e6, told.append)
    assert told == ["x, fp32", "y, fp32", "x, bf16", "y, bf16", "x, fp32, channels last", "y, bf16, channels last"]


def test_on_a_cpu_nothing_is_compiled_and_nothing_is_tf32(measure):
    trials = run(measure, on_gpu=False)
    assert [trial.choice for trial in trials if trial.system == "x"] == [
        Choice(), Choice(False, "bf16"), Choice(True, "fp32"),
    ]  # fmt: skip
    assert best(trials) == {"x": Choice(True), "y": Choice(False, "bf16")}


def test_what_one_system_had_no_time_to_compile_is_taken_by_none(measure):
    deadline = time.monotonic() + 1e6

    def slow(choice, name):
        if choice.needs_compiler and name == "x":
            tuned.time.monotonic = lambda: deadline + 1  # the first compiled system takes all the time
        return measure(choice, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuned.time, "monotonic", time.monotonic)
        trials = run(slow, on_gpu=True, compile_until=deadline)
    late = [(trial.system, trial.choice.compiled) for trial in trials if trial.why_not == NO_TIME]
    assert late == [("x", "cuda graphs"), ("y", "compile"), ("y", "cuda graphs")]
    assert best(trials) == {"x": Choice(True, "tf32", "graphs"), "y": Choice(False, "bf16")}


def test_a_captured_function_is_called_once_and_replayed_with_new_inputs():
    calls, replays = [], []

    def double(values):
        calls.append(values)
        return out.copy_(2 * values)

    def capture(work):
        return work(), lambda: (replays.append(1), work())  # a graph does the work again, without the function

    out, captured = torch.zeros(2), Captured(double, capture)
    assert [captured(torch.full((2,), float(n))).tolist() for n in (1, 2, 3)] == [[2, 2], [4, 4], [6, 6]]
    assert len(replays) == 3 and all(values is calls[0] for values in calls), "always the same input tensors"
