"""Output of `masks import`."""

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from ...io.console import out, print_warning

if TYPE_CHECKING:  # imports torch
    from ...build.import_masks import ImportSummary


def summary_json(summary: "ImportSummary") -> dict[str, Any]:
    return {**dataclasses.asdict(summary), "coverage": summary.coverage}


def print_imported(summary: "ImportSummary", store: str) -> None:
    """store: as the user named it."""
    name, counts = f"{store}@{summary.version}", summary.counts
    for warning in summary.warnings:
        print_warning(warning)
    if summary.already_there:
        out.print(f"{escape(name)} already has these masks (fingerprint {summary.fingerprint[:12]}): nothing to do")
        return
    done = counts["ok"] + counts["fallback"]
    without = {
        "empty": counts["fallback"],
        "without a mask or an image": counts["missing"],
        "unreadable": counts["undecodable"],
    }
    said = ", ".join(f"{count} {what}" for what, count in without.items() if count)
    out.print(f"[bold]{escape(name)}[/]: masks of {done} of {counts['rows']} images" + (f" ({said})" if said else ""))
    out.print(f"masks read as: {escape(summary.read_as)}")
    if done < counts["rows"]:
        out.print(f"[dim]`locloc masks show {escape(name)}` says why images have no mask[/]")
