"""The whole benchmark as on a GPU: how many runs it times, and what it says of them. The clock is a fake."""

from collections import Counter

import pytest
import torch

from locloc.pipeline.backbones.pocket import create_pocket
from locloc.trainer.bench import report
from locloc.trainer.bench.report import BenchRequest, run_bench
from locloc.trainer.bench.resources import weight_bytes
from locloc.trainer.bench.systems import NO_TRIP, RELEASED
from locloc.trainer.bench.timing import Reading, Where

PHASES = ("model stages, 20", "end to end", "settings", "model stages, batch 3, fp32", "model stages, batch 3, tf32",
          "model stages, batch 3, bf16", "the classifier alone")  # fmt: skip


class CountingClock:
    """Runs nothing: each run takes a hundredth of a second."""

    unit = "fake seconds"

    def __init__(self):
        self.phase, self.runs = "", Counter()

    def time(self, run) -> Reading:
        self.runs[self.phase] += 1
        return Reading({"backbone": 0.004, "classifier": 0.003, "generator": 0.003}, 0.01)

    def begin(self, step: str) -> None:
        self.phase = next((phase for phase in PHASES if step.startswith(phase)), step)


@pytest.mark.slow
def test_on_a_gpu_it_times_so_many_runs_that_it_ends_within_six_minutes(monkeypatch):
    """7 systems with the copy of the first. An H100 runs the slowest at some 1,500 images/s in IEEE float32."""
    monkeypatch.setattr(report, "LARGE", 3)  # what is run is not, so its views need not be large
    clock = CountingClock()
    where = Where(torch.device("cpu"), clock, on_gpu=True)
    asked = BenchRequest(compare_ppd=True, device="cuda", batch=2, backbone="pocket")
    result = run_bench(asked, clock.begin, where)
    peaks = clock.runs.pop("parameters and arithmetic")
    assert peaks == 3 * 2 * 8
    larger = 7 * (6 + 2)
    tuned = 6 * (20 + 3)
    assert clock.runs == {
        PHASES[0]: 6 + 7 * (20 + 3),
        PHASES[1]: 1 + 6 * (6 + 1),
        PHASES[2]: 5 * 7 * (6 + 2) + tuned,
        PHASES[3]: larger, PHASES[4]: larger, PHASES[5]: larger,
        PHASES[6]: 4 * (6 + 1) + 5 * 4 * (6 + 1),
    }  # fmt: skip
    images = 32 * sum(clock.runs[phase] for phase in PHASES[:3]) + 256 * 3 * larger + 5 * 7 * (1 + 32 + 128 + 512)
    assert images / 1500 < 120, "the rest of six minutes is for compiling and for decoding"
    assert [trial.choice.compiled for trial in result.trials].count("compile") == 5
    assert [timings.lines[0].setting for timings in result.larger] == ["fp32", "tf32", "bf16"]
    assert set(result.peaks) == {"fp32", "tf32", "bf16"} and "IEEE" in result.float32
    for timings in (result.model, result.tuned, *result.larger):
        lines = {line.system: line for line in timings.lines}
        assert lines[NO_TRIP].to_released == lines[RELEASED].to_no_trip == 1
        assert all(line.peak_share > 0 for line in timings.lines)
    assert result.whole.lines[0].peak_share is None


def test_weights_of_a_system_are_counted_once():
    vit = create_pocket()
    expected = 4 * sum(parameter.numel() for parameter in vit.parameters())
    both = torch.nn.ModuleList([vit, vit, torch.nn.Sequential(vit.patch_embed)])
    assert weight_bytes(both) == expected > 0
