"""The metadata of a run: run.json, recipe.toml, and the fingerprint that tells whether a run can be resumed."""

import hashlib
import importlib.metadata
import json
import platform
import socket
from pathlib import Path
from typing import Any

from ... import __version__
from ...pipeline.config import settings_toml
from ...pipeline.errors import TrainError
from ...pipeline.io.atomic import write_atomic
from ...pipeline.io.machine import device_name
from ...pipeline.store import Version
from ..recipe import TrainRecipe
from .validation_metrics import VALIDATION_TAUS

_PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow")


def run_metadata(
    version: Version, recipe: TrainRecipe, recipe_name: str, precision: str, cache_tokens: bool
) -> dict[str, Any]:
    """The metadata of a run, for run.json and the headers of checkpoints."""
    provenance = version.provenance
    settings = recipe.model_dump(mode="json")
    identity = {
        "recipe": settings,
        "masks": provenance["fingerprint"],
        "published_at": provenance["published_at"],
        "backbone": provenance["backbone"]["sha256"],
        "precision": precision,
        "cache_tokens": cache_tokens,
    }
    return {
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
        "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        "taus": VALIDATION_TAUS.tolist(),
    }


def begin_run(out: Path, recipe: TrainRecipe, metadata: dict[str, Any], resume: bool) -> None:
    """Writes recipe.toml and run.json, or checks that the folder holds the same run."""
    run_json = out / "run.json"
    if run_json.exists():
        before = json.loads(run_json.read_text())
        if not resume:
            raise TrainError(f"{out} holds a run already; resume it with --resume, or name another --out")
        if before["fingerprint"] != metadata["fingerprint"]:
            raise TrainError(f"{out} is another run: {_difference(before, metadata)}; name another --out")
        return
    if resume:
        raise TrainError(f"{out} holds no run to resume; run without --resume")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainError(f"{out} exists and holds no run; name a new or empty folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.toml").write_text(settings_toml(recipe))
    environment = {
        "code_version": __version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": device_name(),
        "host": socket.gethostname(),
    }
    write_atomic(run_json, json.dumps(metadata | environment, indent=2) + "\n")


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first difference between the metadata of two runs."""
    for name in ("version", "masks_fingerprint", "precision", "cache_tokens"):
        if before[name] != now[name]:
            return f"{name} {before[name]}, not {now[name]}"
    old, new = _flat(before["recipe"]), _flat(now["recipe"])
    changed = next((name for name in new if old.get(name) != new[name]), None)
    return f"{changed} = {old.get(changed)}, not {new[changed]}" if changed else "its masks were made again"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
