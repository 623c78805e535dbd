"""Runs the whole benchmark of systems and returns its results as one value, which `--json` writes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...pipeline.bench.machine import describe_machine
from ...pipeline.errors import BenchError
from ..models.classifier import Classifier
from ..models.localizer import PRECISIONS
from ..models.token_selection import select_tokens, shared_block_count
from .counts import Count, PipelineCount, count_modules, count_pipelines
from .inference_stages import System, load_images, model_run, random_views, whole_run
from .printed import Row, rows
from .request import BenchRequest
from .resources import Peak, Throughput, measure_peak, measure_throughput
from .systems import AT_224, GUIDED, RELEASED, SHARED, TAPERED, Lap, create_system, create_vit, forms
from .timing import Clock, Reading, Spread, again, create_clock, in_turn, noise, ratio, spread
from .tuned import Choice, Trial, apply_choice, best, try_choices

SCHEMA = 1


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
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_bench(asked: BenchRequest, on_step: Callable[[str], None] = lambda _: None) -> BenchReport:
    """Runs the benchmark from top to bottom.

    on_step  called with a description before each step

    Raises BenchError for settings that this machine does not support.
    """
    asked.check()
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda, but torch sees no GPU here; --device cpu measures the CPU")
    device = torch.device(asked.device)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    on_gpu = device.type == "cuda"
    rounds = asked.rounds or (1 if asked.quick else 30 if on_gpu else 3)
    few, small = (rounds, asked.batch) if on_gpu else (1, min(asked.batch, 4))
    clock = create_clock(device)

    on_step("parameters and arithmetic")
    guided = asked.keep_tokens, asked.shared_blocks
    modules = count_modules(asked.classes, *guided, asked.backbone)
    pipelines = count_pipelines(asked.compare_ppd, asked.classes, *guided, asked.backbone)
    printed = rows(count_modules(200, 1.0, 0)) if asked.compare_ppd else []

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = Choice(precision=asked.precision)
        peak = measure_peak(device, PRECISIONS[asked.precision], clock)
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
        model = _timings("model stages", in_turn(runs, clock, rounds, int(on_gpu) * 3), first, asked.precision)

        on_step("end to end, from encoded images on")
        images = load_images(asked.images, asked.batch)
        compared = {name: systems[name] for name in (RELEASED, AT_224, TAPERED, GUIDED) if name in systems}
        runs = {name: whole_run(system, images, device) for name, system in compared.items()}
        runs[again(next(iter(runs)))] = runs[next(iter(runs))]
        clock.time(whole_run(compared[TAPERED], images[:2], device))
        whole = _timings("end to end", in_turn(runs, clock, few, int(on_gpu)), next(iter(runs)), asked.precision)

        on_step("settings of each")
        small_views = {name: random_views(system.form, small, device) for name, system in compared.items()}
        trials = try_choices({name: created[name] for name in compared}, small_views, device, clock, few)
        tuned = _tuned(best(trials), created, views, device, clock, rounds, warm_up=3 if on_gpu else 1)

        on_step("the classifier alone; throughput")
        classifiers = _classifiers(asked, device, clock, small, few)
        by_name = {pipeline.form: pipeline.macs for pipeline in pipelines}
        more = () if asked.quick or not on_gpu else (4 * asked.batch, 16 * asked.batch)
        batches = sorted({1, small, *more} - ({asked.batch} if not on_gpu else set()))
        throughput = measure_throughput(compared, by_name, batches, device, clock, peak, few)
        throughput += [] if on_gpu else _throughput_of(model, compared, by_name, peak, asked.batch)
    return BenchReport(
        {**asdict(asked), "images": str(asked.images or "made scenes"), "rounds": rounds}, describe_machine(device),
        clock.unit, modules, pipelines, printed, model, whole, trials, tuned, classifiers, peak, throughput,
    )  # fmt: skip


def _timings(what: str, readings: dict[str, list[Reading]], first: str, setting: str | dict[str, str]) -> Timings:
    lines = []
    for name, of_system in readings.items():
        stages = {stage: spread([one.stages[stage] for one in of_system]) for stage in of_system[0].stages}
        to = {base: ratio(of_system, readings[base]) if base in readings else None for base in (RELEASED, AT_224)}
        total, wall = spread([one.total_s for one in of_system]), spread([one.wall_s for one in of_system])
        its_setting = setting if isinstance(setting, str) else setting[name]
        lines.append(Line(name, its_setting, total, wall, stages, to[RELEASED], to[AT_224]))
    return Timings(what, lines, first, noise(readings, first))


def _tuned(
    chosen: dict[str, Choice], systems: dict[str, System], views: dict[str, tuple[torch.Tensor, ...]],
    device: torch.device, clock: Clock, rounds: int, warm_up: int,
) -> Timings:  # fmt: skip
    """Times all systems once more, each with its best settings. The first run, which compiles, is not timed."""
    first = next(iter(chosen))
    tuned = {name: apply_choice(systems[name], choice, device) for name, choice in chosen.items()}
    runs = {name: model_run(system, views[name]) for name, system in tuned.items()}
    runs[again(first)] = model_run(apply_choice(systems[first], chosen[first], device), views[first])
    names = {name: choice.name for name, choice in chosen.items()} | {again(first): chosen[first].name}
    return _timings("model stages, best settings of each", in_turn(runs, clock, rounds, warm_up), first, names)


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
                with torch.inference_mode():
                    model(tokens, keep)
                lap("classifier")

            readings = in_turn({"": run}, clock, rounds, 1)[""]
            count = grid[0] * grid[1] if keep is None else keep.shape[1]
            seconds = spread([one.total_s / batch * asked.batch for one in readings])
            times.append(ClassifierTime(classes, len(model.blocks), count, seconds))
    return times
