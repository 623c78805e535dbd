"""The benchmark of systems as tables in the terminal."""

from rich.markup import escape
from rich.table import Table

from ...pipeline.io.console import out
from .printed import NOT, TYPO, Row
from .report import BenchReport, Timings

_COLOURS = {TYPO: "yellow", NOT: "red"}


def print_report(report: BenchReport) -> None:
    machine, asked = report.machine, report.asked
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    out.print(f"[bold]{escape(where)}[/], torch {machine['versions']['torch']}, {machine['date']}, {machine['commit']}")
    out.print(f"batch {asked['batch']}, {asked['classes']} classes, {asked['precision']}, {asked['rounds']} rounds")
    out.print(f"[dim]{report.float32}[/]\n")
    if asked["quick"]:
        out.print("[dim]--quick: to see that it runs. A round is no measurement: quote none of the times.[/]\n")
    _modules(report)
    if report.printed:
        _printed(report.printed)
    _pipelines(report)
    for timings in (report.model, *report.larger, report.whole, report.tuned):
        _timings(timings, report.unit)
    _trials(report)
    _classifiers(report)
    _throughput(report)


def _modules(report: BenchReport) -> None:
    table = table_of(
        "Modules, one image (1 MAC is 2 FLOPs)", "module", "parameters", "/ 2^20", "paper's counter, M", "in full, MMAC"
    )
    for module in report.modules:
        table.add_row(
            module.module,
            f"{module.parameters:,}",
            f"{module.parameters / 2**20:.3f}",
            f"{module.paper_counter / 1e6:,.1f}",
            f"{module.macs / 1e6:,.1f}",
        )
    show(table)


def _printed(rows: list[Row]) -> None:
    columns = "table", "figure", "printed", "its counter or sum", "in full", "", "verdict"
    table = table_of("What the paper printed, of ViT-S/16 whatever --backbone is", *columns)
    for row in rows:
        verdict = f"[{_COLOURS[row.verdict]}]{row.verdict}[/]" if row.verdict in _COLOURS else row.verdict
        table.add_row(
            row.table, row.what, row.printed, _format_number(row.paper_counter), _format_number(row.in_full), row.unit,
            verdict + (f"  [dim]{row.note}[/]" if row.note else ""),
        )  # fmt: skip
    table.columns[5].justify = table.columns[6].justify = "left"
    show(table)


def _pipelines(report: BenchReport) -> None:
    table = table_of(
        "Whole systems, one image, MMAC in full", "system", "parameters", "backbone", "classifier", "generator", "total"
    )
    for system in report.pipelines:
        stages = (system.backbone_macs, system.classifier_macs, system.generator_macs, system.macs)
        table.add_row(system.form, f"{system.parameters:,}", *(f"{macs / 1e6:,.1f}" for macs in stages))
    show(table)


def _timings(timings: Timings, unit: str) -> None:
    stages = list(dict.fromkeys(stage for line in timings.lines for stage in line.stages))
    with_no_trip = any(line.to_no_trip is not None for line in timings.lines)
    with_share = any(line.peak_share is not None for line in timings.lines)
    columns = (
        "system", "settings", *stages, "total", "p10", "p90", "wall", "of PPD released", "of PPD at 224",
        *(["no round trip"] if with_no_trip else []), *(["of the peak"] if with_share else []),
    )  # fmt: skip
    table = table_of(f"{timings.what}: seconds a batch, {unit}, median of {timings.lines[0].total.runs}", *columns)
    for line in timings.lines:
        table.add_row(
            line.system, line.setting, *(f"{line.stages[stage].median:.4f}" for stage in stages),
            f"{line.total.median:.4f}", f"{line.total.p10:.4f}", f"{line.total.p90:.4f}", f"{line.wall.median:.4f}",
            _ratio(line.to_released), _ratio(line.to_224),
            *([_ratio(line.to_no_trip)] if with_no_trip else []),
            *(["" if line.peak_share is None else f"{line.peak_share:.0%}"] if with_share else []),
        )  # fmt: skip
    table.columns[1].justify = "left"
    table.caption = f"noise: {timings.noise_of} takes {timings.noise:.3f} times as long as itself (A/A, same rounds)"
    show(table)


def _trials(report: BenchReport) -> None:
    table = table_of("Settings that were tried", "system", "settings", "seconds a batch")
    for trial in report.trials:
        table.add_row(trial.system, trial.choice.name, escape(trial.why_not) or f"{trial.seconds:.4f}")
    table.columns[1].justify = "left"
    show(table)


def _classifiers(report: BenchReport) -> None:
    table = table_of("LFDM alone", "classes", "blocks", "patch tokens", "seconds a batch")
    for one in report.classifiers:
        table.add_row(str(one.classes), str(one.blocks), str(one.tokens), f"{one.seconds.median:.4f}")
    show(table)


def _throughput(report: BenchReport) -> None:
    peak = report.peak
    measured = (
        f"{peak.flops / 1e9:,.0f} GFLOP and {peak.bytes_copied / 1e9:,.1f} GB copied in a second of {report.unit}"
    )
    title = f"Throughput; measured peaks: {measured}"
    table = table_of(title, "system", "batch", "images/s", "of the peak", "device memory, MB")
    for one in report.throughput:
        memory = "on a GPU only" if one.memory_mb is None else f"{one.memory_mb:,.0f}"
        table.add_row(one.system, str(one.batch), f"{one.images_per_s:,.1f}", f"{one.peak_share:.0%}", memory)
    show(table)


def table_of(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def show(table: Table) -> None:
    out.print(table)
    out.print()


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
