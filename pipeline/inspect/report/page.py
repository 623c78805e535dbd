"""The page itself: its data, its HTML, its stylesheet and scripts, the same from disk and from a server."""

import hashlib
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ...config import settings_toml
from ...io.html import render_html, stylesheet
from ...recipe import recorded_recipe
from ...status import HAS_MASK, Status
from ...store.reader import Version
from .escape import packed
from .rows import Metric, ReportRows, columns_json

MARKER = "locloc-report.txt"
MARKER_TEXT = "A page of `locloc masks report`: open index.html. Another report may replace this folder.\n"

SCRIPTS = (
    "core", "rows", "selection", "decisions", "blocks", "figure", "charts", "overview", "filters", "gallery", "viewer",
    "keyboard", "start",
)  # fmt: skip
"""In the order in which they are loaded: none uses a later one before all are there."""

STYLES = ("style", "report")


def page_json(
    shown: ReportRows,
    metrics: list[Metric],
    other: Version | None,
    other_rows: np.ndarray | None,
    root: Path | str,
    truth: list[str],
) -> dict[str, Any]:
    """What `locloc.onData` takes."""
    version = shown.version
    page = columns_json(shown, metrics)
    page["key"] = decisions_key(version)
    page["versions"] = [version_json(version)] + ([version_json(other)] if other is not None else [])
    page["originals"] = originals_url(root)
    page["truth"] = truth
    if other is not None and other_rows is not None:
        page["otherStatus"] = packed(other.status[other_rows], "u1")
        page["otherHasMask"] = packed(np.isin(other.status[other_rows], HAS_MASK), "u1")
    return page


def version_json(version: Version) -> dict[str, Any]:
    """Counts, provenance and recipe of a version."""
    provenance = {key: value for key, value in version.provenance.items() if key not in ("counts", "recipe")}
    counts = version.provenance["counts"]
    return {
        "name": version.name,
        "short": _short(version),
        "tag": version.tag,
        "rows": len(version),
        "counts": {status.label: counts.get(status.label, 0) for status in Status},
        "maskPx": version.mask_px,
        "recipeName": version.provenance["recipe_name"],
        "recipe": settings_toml(recorded_recipe(version.provenance, version.name)),
        "provenance": json.dumps(provenance, indent=2, ensure_ascii=False, default=str),
    }


def decisions_key(version: Version) -> str:
    """Names the version in the browser's storage, which pages of all folders share."""
    metadata = version.provenance
    identity = [metadata["build_id"], version.tag, metadata["published_at"]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def originals_url(root: Path | str) -> str | None:
    """Where the page finds the images themselves; None where a browser cannot read them from there."""
    if isinstance(root, Path):
        return "file://" + quote(os.fsencode(root.absolute())) + "/"
    return root.rstrip("/") + "/" if root.startswith(("https://", "http://")) else None


def asset(name: str) -> bytes:
    """The content of a script or stylesheet: `core.js`, `report.css`. Raises KeyError for any other name."""
    if name not in asset_names():
        raise KeyError(name)
    if name == "style.css":
        return stylesheet().encode()
    return (resources.files(__package__) / "templates" / name).read_bytes()


def asset_names() -> tuple[str, ...]:
    return tuple(f"{name}.css" for name in STYLES) + tuple(f"{name}.js" for name in SCRIPTS)


def write_assets(out: Path) -> None:
    (out / "assets").mkdir(exist_ok=True)
    for name in asset_names():
        (out / "assets" / name).write_bytes(asset(name))


def index_html(version: Version, other: Version | None, live: bool) -> bytes:
    """The HTML. live: whether a server answers, or the page is opened from disk."""
    html = render_html(
        __package__,
        "report.html.j2",
        title=_short(version) + (f" and {_short(other)}" if other is not None else ""),
        scripts=SCRIPTS,
        styles=STYLES,
        live=live,
        compares=other is not None,
    )
    return html.encode(errors="backslashreplace")


def _short(version: Version) -> str:
    """`photos.store@v1`, without the folder that the store is in."""
    return version.name.rstrip("/").rpartition("/")[2]


def write_index(out: Path, version: Version, other: Version | None, live: bool) -> None:
    (out / "index.html").write_bytes(index_html(version, other, live))
