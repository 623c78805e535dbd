"""Tables of `masks list` and `masks show`."""

from typing import Any

import numpy as np
from rich.markup import escape

from ...catalogs.catalog import count_splits, splits_text
from ...catalogs.left_out import LeftOut, images_left_out, left_out_from_json, left_out_text
from ...io.console import one_line, out
from ...io.tables import print_fields, print_table
from ...status import DONE, Seen, Status
from ...store.reader import Version
from ...store.versions import VersionInfo
from ...store.writer import coverage

NO_STATUS = ("rows", "blocks", "blocks_done")
"""Of the counts."""


def print_versions(versions: list[VersionInfo]) -> None:
    """A line a version. A backbone that all versions share is said once; fingerprints and weights are in the JSON."""
    if not versions:
        out.print("No versions yet.")
        return
    backbones = {version.metadata["backbone"]["name"] for version in versions}
    left_out = [images_left_out(_left_out(version.metadata)) for version in versions]
    headers = ["version", "made by", "published", "images", "coverage", "recipe"]
    # A coverage says nothing of what was never a row.
    rejected = any(version.metadata.get("counts", {}).get("rejected") for version in versions)
    headers += ["rejected"] * rejected + ["left out"] * any(left_out) + ["backbone"] * (len(backbones) > 1)
    rows = []
    for version, beside in zip(versions, left_out, strict=True):
        metadata, counts = version.metadata, version.metadata.get("counts", {})
        images, done = metadata["catalog"]["rows"], counts.get("ok", 0) + counts.get("fallback", 0)
        if version.tag is None:
            name = f"[yellow]unfinished {version.build_id[:8]}[/]"
            when = f"[yellow]{counts['blocks_done']} of {counts['blocks']} blocks[/]" if counts else ""
        else:
            name = f"[bold]{escape(version.tag)}[/]" + (" (latest)" if version.is_latest else "")
            when = metadata["published_at"][:16].replace("T", " ")
        row = [
            name, _operation(metadata), when, str(images), f"{done / images:.1%}", escape(metadata["recipe_name"]),
            *([str(counts.get("rejected", 0))] if rejected else []),
            *([str(beside)] if any(left_out) else []), escape(metadata["backbone"]["name"]),
        ]  # fmt: skip
        rows.append(row[: len(headers)])
    if len(backbones) == 1:
        out.print(f"backbone of all versions: {escape(backbones.pop())}")
    print_table(headers, rows)


def _left_out(metadata: dict[str, Any]) -> tuple[LeftOut, ...]:
    """What the catalog left out; versions of older releases do not say it."""
    return left_out_from_json(metadata["catalog"].get("left_out", ()))


def _operation(metadata: dict[str, Any]) -> str:
    kind, parent = metadata["operation"]["kind"], metadata["parent"]
    if (refined := metadata["operation"].get("of")) is not None:
        return f"refine of {refined}, with the ViT run again"
    return f"{kind} of {parent}" if parent else kind


def _decided(decisions: dict[str, int]) -> str:
    if not any(decisions.values()):
        return ""
    shown = ", ".join(f"{count} {name}" for name, count in decisions.items())
    return f"{shown}; training, export and evaluation leave rejected rows out"


def _recipe(metadata: dict[str, Any]) -> str:
    """Name of the recipe, and how it was chosen, which versions of older releases do not say."""
    why = metadata.get("recipe_why")
    return metadata["recipe_name"] + (f" ({why})" if why else "")


def _precision(metadata: dict[str, Any]) -> str:
    """The precision that `auto` became, and why; empty where the recipe named it."""
    why = metadata.get("precision_why")
    return f"{metadata['recipe']['backbone']['precision']} ({why})" if why else ""


BINS = 10
"""Of the histogram of qualities."""


def quality_summary(version: Version) -> dict[str, Any] | None:
    """Mean and histogram of the qualities: counts of BINS equal steps from 0 to 1. None where none is known.

    unknown  masks without one, of releases that did not compute it
    """
    quality, status = version.read_column("quality"), version.status
    done = np.isin(status, DONE)
    known = quality[done & (quality > 0)]
    if not len(known):
        return None
    counts, _ = np.histogram(known, bins=BINS, range=(0, 1))
    return {"mean": float(known.mean()), "histogram": counts.tolist(), "unknown": int(done.sum() - len(known))}


def version_summary(version: Version) -> dict[str, Any]:
    """The output of `masks show --json`: counts, coverage, provenance, and the rows with an error text."""
    metadata, decisions = version.provenance, version.decisions
    labels, splits = version.catalog_codes()
    return {
        "version": version.tag,
        "counts": metadata["counts"],
        "coverage": coverage(metadata["counts"]),
        "splits": count_splits(splits),
        "classes": len(metadata["catalog"]["classes"]) or len(np.unique(labels[labels >= 0])),
        "provenance": {key: value for key, value in metadata.items() if key != "counts"},
        "decisions": {"accepted": len(decisions.accepted), "rejected": len(decisions.rejected)},
        "quality": quality_summary(version),
        "seen": seen_summary(version),
        "errors": _errors(version),
    }


def _errors(version: Version) -> list[dict[str, str]]:
    """Id, status and error of the rows with an error text. Not by `Version.table`: Arrow imports pandas to make it."""
    rows = np.flatnonzero(version.status > Status.OK)
    if not len(rows):
        return []
    return [
        {"id": version.ids[row], "status": status.label, "error": error}
        for row, (status, error) in zip(rows.tolist(), version.reasons(rows), strict=True)
        if error is not None
    ]


def seen_summary(version: Version) -> dict[str, int] | None:
    """Masks by what their images were to the generator that drew their maps. None where there was none."""
    codes = version.read_column("seen")
    counts = {code.label: int((codes == code).sum()) for code in Seen if code != Seen.UNKNOWN}
    return counts if any(counts.values()) else None


def _classes(count: int, named: bool) -> str:
    return f"{count}{'' if named else ' (numbers)'}" if count else "none"


def _maps_text(maps: dict[str, Any] | None) -> str:
    if maps is None:
        return ""
    return f"of the generator of {maps['run']} ({maps['sha256'][:12]}), which learned from {maps['version']}"


def _seen_text(seen: dict[str, int] | None) -> str:
    """What the generator knew of the images."""
    return "" if seen is None else f"images by the generator: {', '.join(f'{n} {label}' for label, n in seen.items())}"


BAR_CHARACTERS = 40


def _print_quality(quality: dict[str, Any]) -> None:
    """A bar for each step of the histogram, from the lowest one that holds masks."""
    counts = quality["histogram"]
    unknown = f", {quality['unknown']} masks have none" if quality["unknown"] else ""
    out.print(f"\nquality, the expected IoU of each mask: {quality['mean']:.2f} on average{unknown}")
    first = next(number for number, count in enumerate(counts) if count)
    for number in range(first, BINS):
        bar = "#" * -(-counts[number] * BAR_CHARACTERS // max(counts))
        out.print(f"  {number / BINS:.1f} to {(number + 1) / BINS:.1f}  {counts[number]:7d}  {bar}", highlight=False)


def print_version(name: str, summary: dict[str, Any], errors: int = 20) -> None:
    """name: `STORE@VERSION`; summary: as `version_summary` returns it."""
    metadata, counts = summary["provenance"], summary["counts"]
    done = counts["ok"] + counts["fallback"]
    out.print(f"[bold]{escape(name)}[/]: {done} of {counts['rows']} images, coverage {summary['coverage']:.1%}")
    catalog, backbone = metadata["catalog"], metadata["backbone"]
    statuses = [f"{rows} {status}" for status, rows in counts.items() if rows and status not in NO_STATUS]
    packages = ", ".join(f"{package} {version}" for package, version in metadata["packages"].items())
    fields = (
        ("status", ", ".join(statuses)),
        ("splits", splits_text(summary["splits"])),
        ("classes", _classes(summary["classes"], named=bool(catalog["classes"]))),
        ("decisions", _decided(summary["decisions"])),
        ("left out", left_out_text(_left_out(metadata))),
        ("by rule", left_out_text(_left_out(metadata), ("folder", "file"))),
        ("published", f"{metadata['published_at'][:19]}, on {metadata['host']}, {metadata['device']}"),
        ("made by", _operation(metadata)),
        ("catalog", f"{catalog['kind']} {catalog['root']} ({catalog['sha256'][:12]})"),
        ("backbone", f"{backbone['name']}, weights {backbone['weights']} ({backbone['sha256'][:12]})"),
        ("maps", _maps_text(metadata.get("maps"))),
        ("seen", _seen_text(summary["seen"])),
        ("recipe", f"{_recipe(metadata)}; `locloc masks recipe {name}` prints it"),
        ("precision", _precision(metadata)),
        ("made with", f"locloc {metadata['code_version']}, {packages}"),
        ("resumed", f"{len(metadata['resumed'])} times" if metadata["resumed"] else ""),
        ("fingerprint", metadata["fingerprint"]),
    )
    print_fields([(field, one_line(value)) for field, value in fields if value])
    if summary["quality"] is not None:
        _print_quality(summary["quality"])
    if not summary["errors"]:
        return
    shown = f", the first {errors}:" if len(summary["errors"]) > errors else ":"
    out.print(f"\n{len(summary['errors'])} rows with a reason{shown}")
    rows = [
        (row["status"], escape(one_line(row["error"])), escape(one_line(row["id"])))
        for row in summary["errors"][:errors]
    ]
    print_table(("status", "reason", "id"), rows)
