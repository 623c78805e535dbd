"""Steps `f` and `f2`: LocLoc against PPD, as `locloc bench` measures it, and with larger batches, TF32, CUDA graphs."""

import json
import statistics
import time

import torch
from measure import DEVICE, ON_GPU, VIT, capture_graph
from results import emit, out_dir, part

from locloc.trainer.bench import KEEP_TOKENS, SHARED_BLOCKS, report
from locloc.trainer.bench.inference_stages import System, model_run, random_views
from locloc.trainer.bench.report import BenchReport, BenchRequest, Timings
from locloc.trainer.bench.systems import (
    AT_224,
    GUIDED,
    NO_TRIP,
    RELEASED,
    SHARED,
    TAPERED,
    create_system,
    forms,
)
from locloc.trainer.bench.timing import Reading, create_clock, in_turn, ratio
from locloc.trainer.bench.tuned import Choice, apply_choice

BACKBONE, BATCH = (VIT, 32) if ON_GPU else ("pocket", 2)
CLASSES = 200
ROUNDS, WARM_UP = (8, 2) if ON_GPU else (1, 0)
TO_RELEASED = "ms a batch, to PPD as released, to PPD at 224"
TO_NO_TRIP = "ms a batch, to PPD without round trip, to PPD at 224"


def bench() -> None:
    """The benchmark without torch.compile, then the systems by precision and batch."""
    with part("the product's bench"):
        _locloc_bench()
    wanted = (NO_TRIP, AT_224, SHARED, TAPERED, GUIDED, RELEASED)
    created = {
        form.name: create_system(form, CLASSES, BACKBONE)
        for form in forms(True, KEEP_TOKENS, SHARED_BLOCKS)
        if form.name in wanted
    }
    for precision in ("fp32", "tf32", "bf16") if ON_GPU else ("fp32",):
        choice = Choice(precision=precision)
        systems = {name: apply_choice(system, choice, torch.device(DEVICE)) for name, system in created.items()}
        for batch in (32, 256) if ON_GPU else (2,):
            settings = {"precision": precision, "batch": batch}
            with part(f"ratios {precision} {batch}"):
                _eager(systems, settings)
            if ON_GPU:
                with part(f"graphs {precision} {batch}"):
                    _graphs(systems, settings)


def _locloc_bench() -> None:
    """What `locloc bench --compare-ppd` measures, with the settings that need no compiler."""
    begin = time.perf_counter()
    request = BenchRequest(
        compare_ppd=True, device=DEVICE, batch=BATCH, backbone=BACKBONE, rounds=6 if ON_GPU else 1, quick=not ON_GPU,
        compiles=False,
    )  # fmt: skip
    result = report.run_bench(request, print)
    (out_dir() / "bench.json").write_text(json.dumps(result.as_json(), indent=1, default=str))
    _emit_bench(result, time.perf_counter() - begin)


def _emit_bench(result: BenchReport, seconds: float) -> None:
    emit(f"bench, {TO_RELEASED}", seconds=seconds, batch=BATCH, **_lines(result.model))
    choices = {line.system: line.setting for line in result.tuned.lines}
    emit("bench, best settings", choices=choices, **_lines(result.tuned))
    emit("bench, end to end", **_lines(result.whole))
    rows = [
        [
            row.system,
            row.batch,
            round(row.images_per_s),
            round(row.peak_share, 3),
            row.memory_mb and round(row.memory_mb),
        ]
        for row in result.throughput
    ]
    emit("bench, throughput", rows=rows)


def _lines(timings: Timings) -> dict:
    """By system: ms a batch, and the ratios to PPD as released and at 224."""
    lines = {
        line.system: [
            round(1e3 * line.total.median, 3),
            *(value and round(value, 3) for value in (line.to_released, line.to_224)),
        ]
        for line in timings.lines
    }
    return lines | {"noise": round(timings.noise, 3)}


def _table(readings: dict[str, list[Reading]], *references: str) -> dict[str, list[float]]:
    """By system: ms a batch, and the ratio to each reference."""
    return {
        name: [
            round(1e3 * statistics.median(reading.total_s for reading in of_system), 3),
            *(round(ratio(of_system, readings[reference]), 3) for reference in references),
        ]
        for name, of_system in readings.items()
    }


def _eager(systems: dict[str, System], settings: dict) -> None:
    device = torch.device(DEVICE)
    runs = {
        name: model_run(system, random_views(system.form, settings["batch"], device))
        for name, system in systems.items()
    }
    readings = in_turn(runs, create_clock(device), ROUNDS, WARM_UP)
    emit(TO_RELEASED, **settings, how="eager", **_table(readings, RELEASED, AT_224))


@torch.inference_mode()
def _graphs(systems: dict[str, System], settings: dict) -> None:
    """Each system that does not copy to the CPU, replayed from a CUDA graph."""
    device, runs = torch.device(DEVICE), {}
    for name, system in systems.items():
        if system.form.round_trip:
            continue
        views = random_views(system.form, settings["batch"], device)
        replay = capture_graph(lambda system=system, views=views: system.infer(views, lambda _: None), 2)
        runs[name] = lambda lap, replay=replay: (replay(), lap("all"))
    readings = in_turn(runs, create_clock(device), ROUNDS, WARM_UP)
    emit(TO_NO_TRIP, **settings, how="CUDA graph of eager", **_table(readings, NO_TRIP, AT_224))


def compiled() -> None:
    """Three systems with torch.compile and CUDA graphs: how long compiling takes, and the times after it."""
    if not ON_GPU:
        emit("compile", skipped="no GPU")
        return
    device, runs = torch.device(DEVICE), {}
    clock = create_clock(device)
    for form in forms(True, KEEP_TOKENS, SHARED_BLOCKS):
        if form.name not in (AT_224, GUIDED, TAPERED):
            continue
        with part(f"compile {form.name}"):
            begin = time.perf_counter()
            system = apply_choice(create_system(form, CLASSES), Choice(True, "bf16", "cuda graphs"), device)
            run = model_run(system, random_views(form, 256, device))
            for _ in range(4):
                clock.time(run)
            emit("compile", system=form.name, seconds=time.perf_counter() - begin)
            runs[form.name] = run
            if AT_224 in runs:
                table = _table(in_turn(runs, clock, 8, 1), AT_224)
                how = "torch.compile and CUDA graphs, bf16"
                emit("ms a batch of 256, to PPD at 224", how=how, **table)
