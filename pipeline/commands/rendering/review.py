"""What `masks report`, `serve` and `decide` print."""

from typing import TYPE_CHECKING

from rich.markup import escape

from ...io.console import one_line, out, print_warning
from ...store.location import StoreLocation

if TYPE_CHECKING:
    from ...build.decide import DecideSummary
    from ...inspect.report.live import LivePage
    from ...inspect.report.write import ReportSummary


def print_report(summary: "ReportSummary") -> None:
    names = summary.version + (f" and {summary.other}" if summary.other else "")
    rows = f"{summary.rows} images" + (f" of {summary.of}, drawn evenly" if summary.rows < summary.of else "")
    out.print(f"[bold]{escape(summary.out)}/index.html[/]: {escape(names)}, {rows}, {summary.bytes / 1e6:.1f} MB")
    for line in summary.truth:
        out.print(escape(one_line(line)))
    out.print(f"Decisions leave the page as decisions.csv: locloc masks decide {escape(summary.version)} decisions.csv")


def print_served(page: "LivePage", url: str) -> None:
    rows = f"{len(page)} images" + (f" of {len(page.version)}, drawn evenly" if len(page) < len(page.version) else "")
    out.print(f"[bold]{escape(url)}[/]")
    out.print(f"{escape(page.version.name)}, {rows}; decisions are kept in {escape(str(page.decisions.file))}")
    out.file.flush()  # the address is wanted now, also where it goes to a file


def print_stopped(page: "LivePage", version: str) -> None:
    kept = len(page.decisions)
    out.print(f"{kept} decisions in {escape(str(page.decisions.file))}" if kept else "no decisions")
    if kept:
        out.print(f"To act on them: locloc masks decide {escape(version)} {escape(str(page.decisions.file))}")


def print_decided(summary: "DecideSummary", store: StoreLocation) -> None:
    counts = f"{summary.rejected} rejected, {summary.accepted} accepted of {summary.rows} rows"
    name = f"[bold]{escape(f'{store}@{summary.version}')}[/]"
    for warning in summary.warnings:
        print_warning(warning)
    if not summary.changed:
        out.print(f"{name} has these decisions already: {counts}; nothing to do")
    elif summary.already_there:
        out.print(f"{name} is {escape(summary.parent)} with these decisions already: {counts}")
    else:
        out.print(f"{name}: {escape(summary.parent)} with {summary.changed} decisions changed; {counts}")
