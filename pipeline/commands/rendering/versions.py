"""Tables of `masks list` and `masks show`."""

from typing import Any

import pyarrow.compute as pc
from rich.markup import escape
from rich.table import Table

from ...catalogs.left_out import left_out_from_json, left_out_text
from ...io.console import one_line, out
from ...store.reader import Version, VersionInfo
from ...store.writer import coverage


def print_versions(versions: list[VersionInfo]) -> None:
    if not versions:
        out.print("No versions yet.")
        return
    headers = (
        "version", "made by", "published", "images", "done", "coverage", "backbone", "weights", "recipe", "fingerprint",
    )  # fmt: skip
    table = Table(*headers, box=None)
    for version in versions:
        metadata, counts = version.metadata, version.metadata.get("counts", {})
        rows, done = metadata["catalog"]["rows"], counts.get("ok", 0) + counts.get("fallback", 0)
        if version.tag is None:
            name = f"[yellow]unfinished {version.build_id[:8]}[/]"
            when = f"[yellow]{counts['blocks_done']} of {counts['blocks']} blocks[/]" if counts else ""
        else:
            name = f"[bold]{escape(version.tag)}[/]" + (" (latest)" if version.is_latest else "")
            when = metadata["published_at"][:16].replace("T", " ")
        backbone = metadata["backbone"]
        table.add_row(
            name, _operation(metadata), when, str(rows), str(done), f"{done / rows:.1%}", escape(backbone["name"]),
            escape(backbone["weights"]), escape(metadata["recipe_name"]), version.fingerprint[:12],
        )  # fmt: skip
    out.print(table)


def _operation(metadata: dict[str, Any]) -> str:
    kind, parent = metadata["operation"]["kind"], metadata["parent"]
    return f"{kind} of {parent}" if parent else kind


def version_summary(version: Version) -> dict[str, Any]:
    """The output of `masks show --json`: counts, coverage, provenance, and the rows with an error text."""
    metadata = version.provenance
    rows = version.table.select(["id", "status", "error"])
    return {
        "version": version.tag,
        "counts": metadata["counts"],
        "coverage": coverage(metadata["counts"]),
        "provenance": {key: value for key, value in metadata.items() if key != "counts"},
        "errors": rows.filter(pc.is_valid(rows["error"])).to_pylist(),
    }


def print_version(version: Version, errors: int = 20) -> None:
    summary = version_summary(version)
    metadata, counts = summary["provenance"], summary["counts"]
    done = counts["ok"] + counts["fallback"]
    out.print(f"[bold]{escape(version.name)}[/]: {done} of {counts['rows']} images, coverage {summary['coverage']:.1%}")
    table = Table(show_header=False, box=None)
    for status, rows in counts.items():
        if rows and status not in ("rows", "blocks", "blocks_done"):
            table.add_row(status, str(rows))
    backbone = metadata["backbone"]
    for name, value in (
        ("published", f"{metadata['published_at']}, on {metadata['host']}, {metadata['device']}"),
        ("made by", _operation(metadata)),
        (
            "catalog",
            f"{metadata['catalog']['kind']} {metadata['catalog']['root']} ({metadata['catalog']['sha256'][:12]})",
        ),
        ("left out", left_out_text(left_out_from_json(metadata["catalog"].get("left_out", ())))),
        (
            "backbone",
            f"{backbone['name']}, weights {backbone['weights']} ({backbone['sha256'][:12]})",
        ),
        ("recipe", f"{metadata['recipe_name']}: {_flat(metadata['recipe'])}"),
        (
            "made with",
            f"locloc {metadata['code_version']}, " + ", ".join(f"{k} {v}" for k, v in metadata["packages"].items()),
        ),
        ("resumed", f"{len(metadata['resumed'])} times" if metadata["resumed"] else ""),
        ("fingerprint", metadata["fingerprint"]),
    ):
        if value:
            table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)
    if summary["errors"]:
        out.print(
            f"\n{len(summary['errors'])} rows with a reason"
            + (f", the first {errors}:" if len(summary["errors"]) > errors else ":")
        )
        reasons = Table("status", "reason", "id", box=None)
        for row in summary["errors"][:errors]:
            reasons.add_row(row["status"], escape(row["error"]), escape(one_line(row["id"])))
        out.print(reasons)


def _flat(settings: dict[str, Any], prefix: str = "") -> str:
    parts = []
    for name, value in settings.items():
        parts.append(_flat(value, f"{name}.") if isinstance(value, dict) else f"{prefix}{name} {value}")
    return ", ".join(parts)
