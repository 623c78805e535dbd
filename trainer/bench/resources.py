"""The device's peak, each system's throughput and share of the peak, and its memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...pipeline.backbones.tf32 import float32_products
from ..models.localizer import PRECISIONS
from .inference_stages import System, model_run, random_views
from .systems import Lap
from .timing import Clock, Where, in_turn, spread

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices that are multiplied
COPIED_MB = {"cpu": 64, "cuda": 1024}


@dataclass(frozen=True)
class Peak:
    """Measured by one matrix product and one copy."""

    flops: float  # a second
    bytes_copied: float  # a second, read and written

    def share(self, macs: float, seconds: float) -> float:
        return 2 * macs / seconds / self.flops


@dataclass(frozen=True)
class Throughput:
    system: str
    batch: int
    images_per_s: float
    peak_share: float
    memory_mb: float | None  # the system's own peak, with its weights; None on a CPU, where torch does not measure it


def measure_peak(device: torch.device, dtype: torch.dtype, clock: Clock) -> Peak:
    """The best of several runs, by the clock that systems are measured with: on a CPU, seconds of one thread."""
    side, length = SIDE[device.type], COPIED_MB[device.type] * 2**20 // 4
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source, target = (torch.ones(length, device=device) for _ in range(2))
    product = _best(lambda: torch.mm(a, b), clock)
    copied = _best(lambda: target.copy_(source), clock)
    return Peak(2 * side**3 / product, 2 * 4 * length / copied)


def _best(work: Callable[[], object], clock: Clock, times: int = 8) -> float:
    def run(lap: Lap) -> None:
        work()
        lap("work")

    return min(clock.time(run).total_s for _ in range(times))


def measure_peaks(where: Where, precisions: tuple[str, ...]) -> dict[str, Peak]:
    """By precision."""
    peaks = {}
    for precision in precisions:
        with float32_products(precision):
            peaks[precision] = measure_peak(where.device, PRECISIONS[precision], where.clock)
    return peaks


def measure_throughput(
    systems: dict[str, System], macs: dict[str, int], batches: list[int], where: Where, peak: Peak, rounds: int
) -> list[Throughput]:
    """Model stages at several batch sizes: images a second by wall time, the share of the peak by the clock."""
    throughput = []
    for batch in batches:
        for name, system in systems.items():
            own = OwnMemory.create(where.device)
            views = random_views(system.form, batch, where.device)
            readings = in_turn({name: model_run(system, views)}, where.clock, rounds, warm_up=1)[name]
            wall = spread([reading.wall_s for reading in readings]).median
            share = peak.share(batch * macs[name], spread([reading.total_s for reading in readings]).median)
            throughput.append(Throughput(name, batch, batch / wall, share, own.peak_mb(system)))
    return throughput


@dataclass(frozen=True)
class OwnMemory:
    """The peak of a device's memory since this was created, without what was there before."""

    device: torch.device
    before: int  # bytes

    @classmethod
    def create(cls, device: torch.device) -> "OwnMemory":
        if device.type != "cuda":
            return cls(device, 0)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return cls(device, torch.cuda.memory_allocated())

    def peak_mb(self, system: System) -> float | None:
        """With the weights of this system alone, which were there before too; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return (torch.cuda.max_memory_allocated() - self.before + weight_bytes(system)) / 2**20


def weight_bytes(system: System) -> int:
    """Of parameters and buffers, each storage counted once."""
    tensors = [*system.parameters(), *system.buffers()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
