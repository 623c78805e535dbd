"""Runs the whole benchmark of systems and returns its results as one value, which `--json` writes."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...pipeline.backbones.tf32 import float32_products
from ...pipeline.bench.machine import describe_machine
from ...pipeline.errors import BenchError
from ..models.classifier import Classifier
from ..models.localizer import PRECISIONS
from ..models.token_selection import select_tokens, shared_block_count
from .counts import Count, PipelineCount, count_modules, count_pipelines
from .inference_stages import System, load_images, model_run, random_views, whole_run
from .printed import Row, rows
from .request import BenchRequest
from .resources import Peak, Throughput, measure_peaks, measure_throughput
from .systems import AT_224, GUIDED, NO_TRIP, RELEASED, SHARED, TAPERED, Lap, create_system, create_vit, forms
from .timing import Clock, Reading, Spread, Where, again, in_turn, noise, ratio, spread
from .tuned import Choice, Trial, apply_choice, best, measure_stages, search, steps

SCHEMA = 1

LARGE = 256
"""The second batch size of a GPU, which hides what launching kernels costs."""
COMPILING_S = 150.0
"""After so many seconds on a GPU nothing more is compiled: the whole is to take less than six minutes."""


@dataclass(frozen=True)
class Line:
    """One system's times."""

    system: str
    setting: str
    total: Spread  # seconds a batch
    wall: Spread
    stages: dict[str, Spread]
    to_released: float | None  # time relative to PPD as released, in the same rounds
    to_224: float | None  # relative to PPD at 224
    to_no_trip: float | None = None  # relative to PPD as released, without its copy to NumPy
    peak_share: float | None = None  # of the device's peak at this precision; None where that was not measured


@dataclass(frozen=True)
class Timings:
    """Systems timed in alternating rounds. `noise` is the time of the first system's second copy relative to it."""

    what: str
    lines: list[Line]
    noise_of: str
    noise: float


@dataclass(frozen=True)
class ClassifierTime:
    """The time of LFDM alone."""

    classes: int
    blocks: int
    tokens: int
    seconds: Spread


@dataclass(frozen=True)
class BenchReport:
    asked: dict[str, Any]
    machine: dict[str, Any]
    unit: str  # of seconds, in words
    modules: list[Count]
    pipelines: list[PipelineCount]
    printed: list[Row]
    model: Timings
    whole: Timings
    trials: list[Trial]
    tuned: Timings
    classifiers: list[ClassifierTime]
    peak: Peak
    throughput: list[Throughput]
    larger: list[Timings]  # on a GPU: model stages at batch LARGE, by precision
    peaks: dict[str, Peak]  # by precision
    float32: str  # what fp32 and tf32 mean here, in words
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_bench(
    asked: BenchRequest, on_step: Callable[[str], None] = lambda _: None, where: Where | None = None
) -> BenchReport:
    """Runs the benchmark from top to bottom.

    on_step  called with a description before each step
    where    None: the device that was asked for, with its clock

    Raises BenchError for settings that this machine does not support.
    """
    asked.check()
    if where is None and asked.device == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda, but torch sees no GPU here; --device cpu measures the CPU")
    begin = time.monotonic()
    where = where or Where.of(torch.device(asked.device))
    device, clock, on_gpu = where.device, where.clock, where.on_gpu
    if asked.threads:
        torch.set_num_threads(asked.threads)
    rounds = asked.rounds or (1 if asked.quick else 20 if on_gpu else 3)
    few, small = (min(rounds, 6), asked.batch) if on_gpu else (1, min(asked.batch, 4))

    on_step("parameters and arithmetic")
    guided = asked.keep_tokens, asked.shared_blocks
    modules = count_modules(asked.classes, *guided, asked.backbone)
    pipelines = count_pipelines(asked.compare_ppd, asked.classes, *guided, asked.backbone)
    printed = rows(count_modules(200, 1.0, 0)) if asked.compare_ppd else []

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = Choice(precision=asked.precision)
        peaks = measure_peaks(where, _precisions(asked.precision, on_gpu))
        peak = peaks[asked.precision]
        by_name = {pipeline.form: pipeline.macs for pipeline in pipelines}
        shares = _Shares(by_name, peaks)
        created = {
            form.name: create_system(form, asked.classes, asked.backbone)
            for form in forms(asked.compare_ppd, *guided)
            if form.name != SHARED
        }
        systems = {name: apply_choice(system, plain, device) for name, system in created.items()}
        first = next(iter(systems))

        on_step(f"model stages, {rounds} rounds of {len(systems) + 1} systems, batch {asked.batch}")
        in_turn(  # chooses kernels and touches memory pages
            {name: model_run(system, random_views(system.form, 2, device)) for name, system in systems.items()},
            clock, rounds=0, warm_up=1,
        )  # fmt: skip
        views = {name: random_views(system.form, asked.batch, device) for name, system in systems.items()}
        runs = {name: model_run(system, views[name]) for name, system in systems.items()}
        runs[again(first)] = model_run(apply_choice(created[first], plain, device), views[first])
        readings = in_turn(runs, clock, rounds, int(on_gpu) * 3)
        model = _timings("model stages", readings, first, asked.precision, shares.at(asked.batch))

        on_step("end to end, from encoded images on")
        images = load_images(asked.images, asked.batch)
        wanted = (RELEASED, *([NO_TRIP] if on_gpu else []), AT_224, TAPERED, GUIDED)
        compared = {name: systems[name] for name in wanted if name in systems}
        runs = {name: whole_run(system, images, device) for name, system in compared.items()}
        runs[again(next(iter(runs)))] = runs[next(iter(runs))]
        clock.time(whole_run(compared[TAPERED], images[:2], device))
        whole = _timings("end to end", in_turn(runs, clock, few, int(on_gpu)), next(iter(runs)), asked.precision)

        small_views = {name: random_views(system.form, small, device) for name, system in compared.items()}
        measure = measure_stages(small_views, clock, few, 2 if on_gpu else 1)
        offered = steps(on_gpu, asked.compiles and not asked.quick)
        trials = search(
            {name: created[name] for name in compared}, device, measure, offered, begin + COMPILING_S,
            lambda trial: on_step(f"settings of each: {trial}"),
        )  # fmt: skip
        tuned = _tuned(best(trials), created, views, where, rounds, 3 if on_gpu else 1, shares.at(asked.batch))
        larger = []
        for precision in _precisions(asked.precision, on_gpu) if on_gpu and not asked.quick else ():
            on_step(f"model stages, batch {LARGE}, {precision}")
            larger.append(_larger(precision, created, where, few, shares.at(LARGE)))

        on_step("the classifier alone; throughput")
        classifiers = _classifiers(asked, device, clock, small, few)
        more = () if asked.quick or not on_gpu else (4 * asked.batch, 16 * asked.batch)
        batches = sorted({1, small, *more} - ({asked.batch} if not on_gpu else set()))
        throughput = measure_throughput(compared, by_name, batches, where, peak, few)
        throughput += [] if on_gpu else _throughput_of(model, compared, by_name, peak, asked.batch)
    return BenchReport(
        {**asdict(asked), "images": str(asked.images or "made scenes"), "rounds": rounds}, describe_machine(device),
        clock.unit, modules, pipelines, printed, model, whole, trials, tuned, classifiers, peak, throughput, larger,
        peaks, FLOAT32,
    )  # fmt: skip


FLOAT32 = "fp32 is IEEE float32, in products and convolutions alike; TF32 is used only where a setting says tf32"


def _precisions(asked: str, on_gpu: bool) -> tuple[str, ...]:
    """Those whose peaks are measured, the one that was asked for first. A CPU without AMX takes long for bf16's."""
    return tuple(dict.fromkeys((asked, *(("fp32", "tf32", "bf16") if on_gpu else ()))))


@dataclass(frozen=True)
class _Shares:
    """Shares of the measured peaks that systems reach."""

    macs: dict[str, int]  # an image, by system
    peaks: dict[str, Peak]  # by precision

    def at(self, batch: int) -> "Share":
        """The share, given a system, a setting that begins with its precision, and the seconds of a batch."""

        def share(system: str, setting: str, seconds: float) -> float | None:
            macs, peak = self.macs[system.removesuffix(again(""))], self.peaks.get(setting.split(",")[0])
            return None if peak is None else peak.share(batch * macs, seconds)

        return share


Share = Callable[[str, str, float], float | None]


def _timings(
    what: str, readings: dict[str, list[Reading]], first: str, setting: str | dict[str, str],
    share: Share | None = None,
) -> Timings:  # fmt: skip
    lines = []
    for name, of_system in readings.items():
        stages = {stage: spread([one.stages[stage] for one in of_system]) for stage in of_system[0].stages}
        to = {
            base: ratio(of_system, readings[base]) if base in readings else None for base in (RELEASED, AT_224, NO_TRIP)
        }
        total, wall = spread([one.total_s for one in of_system]), spread([one.wall_s for one in of_system])
        its_setting = setting if isinstance(setting, str) else setting[name]
        its_share = None if share is None else share(name, its_setting, total.median)
        ratios = to[RELEASED], to[AT_224], to[NO_TRIP]
        lines.append(Line(name, its_setting, total, wall, stages, *ratios, its_share))
    return Timings(what, lines, first, noise(readings, first))


def _larger(precision: str, systems: dict[str, System], where: Where, rounds: int, share: Share) -> Timings:
    """Model stages of all systems at batch LARGE."""
    first, choice = next(iter(systems)), Choice(precision=precision)
    applied = {name: apply_choice(system, choice, where.device) for name, system in systems.items()}
    applied[again(first)] = apply_choice(systems[first], choice, where.device)
    runs = {name: model_run(system, random_views(system.form, LARGE, where.device)) for name, system in applied.items()}
    readings = in_turn(runs, where.clock, rounds, warm_up=2)
    return _timings(f"model stages, batch {LARGE}", readings, first, precision, share)


def _tuned(
    chosen: dict[str, Choice], systems: dict[str, System], views: dict[str, tuple[torch.Tensor, ...]],
    where: Where, rounds: int, warm_up: int, share: Share,
) -> Timings:  # fmt: skip
    """Times all systems once more, each with its best settings. The first run, which compiles, is not timed."""
    first = next(iter(chosen))
    tuned = {name: apply_choice(systems[name], choice, where.device) for name, choice in chosen.items()}
    runs = {name: model_run(system, views[name]) for name, system in tuned.items()}
    runs[again(first)] = model_run(apply_choice(systems[first], chosen[first], where.device), views[first])
    names = {name: choice.name for name, choice in chosen.items()} | {again(first): chosen[first].name}
    readings = in_turn(runs, where.clock, rounds, warm_up)
    return _timings("model stages, best settings of each", readings, first, names, share)


def _throughput_of(
    model: Timings, systems: dict[str, System], macs: dict[str, int], peak: Peak, batch: int
) -> list[Throughput]:
    """Throughput at the full batch size, from the times already measured."""
    lines = [line for line in model.lines if line.system in systems]
    return [
        Throughput(
            one.system, batch, batch / one.wall.median, peak.share(batch * macs[one.system], one.total.median), None
        )
        for one in lines
    ]


def _classifiers(
    asked: BenchRequest, device: torch.device, clock: Clock, batch: int, rounds: int
) -> list[ClassifierTime]:
    """Times LFDM with the requested number of classes and with 1000, with all tokens and guided."""
    vit, times = create_vit(asked.backbone), []
    grid = vit.patch_embed.grid_size
    dtype = PRECISIONS[asked.precision]
    tokens = torch.randn(batch, 1 + grid[0] * grid[1], vit.embed_dim, device=device, dtype=dtype)
    selected = select_tokens(torch.rand(batch, 1, *grid, device=device), grid, asked.keep_tokens)
    shared_blocks = shared_block_count(len(vit.blocks), asked.shared_blocks)
    ways: list[tuple[int, torch.Tensor | None]] = [(0, None)]
    if shared_blocks or selected is not None:
        ways.append((shared_blocks, selected))
    for classes in sorted({asked.classes, 1000}):
        for shared, keep in ways:
            model = Classifier(vit, classes, grid, shared_blocks=shared).eval().requires_grad_(False).to(device, dtype)

            def run(lap: Lap, model: Classifier = model, keep: torch.Tensor | None = keep) -> None:
                with torch.inference_mode(), float32_products(asked.precision):
                    model(tokens, keep)
                lap("classifier")

            readings = in_turn({"": run}, clock, rounds, 1)[""]
            count = grid[0] * grid[1] if keep is None else keep.shape[1]
            seconds = spread([one.total_s / batch * asked.batch for one in readings])
            times.append(ClassifierTime(classes, len(model.blocks), count, seconds))
    return times
