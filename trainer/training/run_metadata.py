"""The metadata of a run: run.json, recipe.toml, and the fingerprint that tells whether a run can be resumed."""

import hashlib
import importlib.metadata
import json
import platform
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...pipeline.catalogs.row_filter import RowFilter
from ...pipeline.config import settings_toml
from ...pipeline.errors import TrainError, os_error_reason
from ...pipeline.io.atomic import write_atomic
from ...pipeline.io.machine import device_name
from ...pipeline.store import Version
from ..data.splits import TrainingRows, keep_ids
from ..recipe import TrainRecipe
from .resume import RunBefore, check_new
from .validation_metrics import VALIDATION_TAUS

_PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow")


def run_metadata(
    version: Version,
    recipe: TrainRecipe,
    recipe_name: str,
    precision: str,
    cache_tokens: bool,
    only: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of a run, for run.json and the headers of checkpoints.

    only  the choice of rows: its text and the digest of the rows' ids
    """
    provenance = version.provenance
    settings = recipe.model_dump(mode="json")
    metadata = {
        "version": version.name,
        "masks_fingerprint": provenance["fingerprint"],
        "catalog_sha256": provenance["catalog"]["sha256"],
        "classes": provenance["catalog"]["classes"],
        "backbone": provenance["backbone"],
        "images": provenance["recipe"]["images"],
        "recipe_name": recipe_name,
        "recipe": settings,
        "precision": precision,
        "cache_tokens": cache_tokens,
        "only": only,
        "taus": VALIDATION_TAUS.tolist(),
    }
    return metadata | {"fingerprint": run_fingerprint(version, settings, metadata)}


def run_fingerprint(version: Version, settings: dict[str, Any], metadata: dict[str, Any]) -> str:
    """A digest of all that decides a run's result. settings: the recipe's."""
    provenance = version.provenance
    identity = {
        "recipe": settings,
        "masks": provenance["fingerprint"],
        "published_at": provenance["published_at"],
        "backbone": provenance["backbone"]["sha256"],
        "precision": metadata["precision"],
        "cache_tokens": metadata["cache_tokens"],
    }
    if metadata["only"] is not None:
        identity["only"] = metadata["only"]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def recorded_choice(only: RowFilter, rows: TrainingRows) -> dict[str, Any]:
    """The `only` of the metadata."""
    ids = rows.ids(np.flatnonzero(rows.chosen))
    digest = hashlib.sha256("\0".join(ids).encode()).hexdigest()
    text = only.text if only.ids is None else "a list of ids"  # which is kept, wherever it was
    return {"text": text, "by_id": only.ids is not None, "images": len(ids), "sha256": digest}


def begin_run(out: Path, recipe: TrainRecipe, metadata: dict[str, Any], ids: Sequence[str] | None) -> None:
    """Writes recipe.toml and run.json into a new or empty folder. Raises TrainError.

    ids  those that --only FILE named; they are kept in only.txt
    """
    check_new(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / "recipe.toml", settings_toml(recipe))
        if ids is not None:
            keep_ids(out, ids)
        environment = {
            "code_version": __version__,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "python": platform.python_version(),
            "device": device_name(),
            "host": socket.gethostname(),
        }
        write_atomic(out / "run.json", json.dumps(metadata | environment, indent=2) + "\n")
    except OSError as error:
        raise TrainError(f"{out} cannot be written: {os_error_reason(error)}; name another --out") from None


def record_changes(run: RunBefore, recipe: TrainRecipe, metadata: dict[str, Any], differing: list[str]) -> None:
    """Writes recipe.toml and run.json of a run that goes on with other settings."""
    changed = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "settings": differing}
    kept = {name: metadata[name] for name in ("recipe", "recipe_name", "fingerprint")}
    history = {"cache_key": cache_key(run.metadata), "changed": [*run.metadata.get("changed", []), changed]}
    write_atomic(run.out / "recipe.toml", settings_toml(recipe))
    write_atomic(run.out / "run.json", json.dumps(run.metadata | kept | history, indent=2) + "\n")


def cache_key(metadata: dict[str, Any]) -> str:
    """Names the caches of a run; it stays when settings change that no cache depends on."""
    return str(metadata.get("cache_key", metadata["fingerprint"]))
