"""What is to be made, by `masks build` as by `retry`, `refine` and `extend`: one version, told in one form.

`build.py` and `derive.py` say what; `run.py` does it.
"""

import hashlib
import importlib.metadata
import json
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ... import __version__
from ..backbones.vit import BUNDLED, Backbone, BackboneSpec
from ..catalogs import Catalog, resolve
from .cluster.spec import ClusterSpec
from ..errors import ImageError, RecipeError, StoreError
from ..io.images import read_image_bytes
from .progress import Progress
from ..recipe import REVISIONS, Recipe
from ..status import Status
from ..store.schema import SCHEMA, STATS, input_digest
from ..store.location import Place
from ..store.reader import Version
from ..store.writer import Shared, coverage, timestamp

SAMPLED_FILES = 32  # looked at before work is taken for done

_PACKAGES = ("torch", "timm", "opencv-python-headless", "pillow", "numpy", "numba", "zarr", "icechunk", "dask")

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class RunSettings:
    """How a version is made: on which workers, within which limits. It moves no mask."""

    cluster: ClusterSpec = field(default_factory=ClusterSpec)
    checkpoint_s: float = 20.0
    image_limit_s: float = 120.0  # a picture that takes longer is given up as status 6
    log: Path | None = None  # JSON lines; None: beside the store


@dataclass(frozen=True)
class Work:
    """One version to be made."""

    store: Place
    catalog: Catalog
    recipe: Recipe
    about: dict[str, Any]  # provenance; with `fingerprint`, and the `build_id` that names its branch
    heads: int
    grid: tuple[int, int]
    backbone: BackboneSpec | None  # None where no attention has to be computed
    name: str | None = None  # of the version; None: the next v1, v2, ...
    parent: Version | None = None
    reuse: Literal["rows", "attention"] | None = None  # what of the parent's rows is taken over, see Job
    kept: np.ndarray | None = None  # (N,) int64: which of them, -1 for none
    shared: Shared | None = None  # where it begins as its parent

    @property
    def fingerprint(self) -> str:
        return self.about["fingerprint"]


@dataclass(frozen=True)
class BuildSummary:
    """What a build did; nothing, where the version was there already."""

    version: str
    fingerprint: str
    counts: dict[str, int]  # rows by status, and `rows`
    already_there: bool = False
    new_rows: int = 0
    images_per_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=dict)  # worker time by stage, summed over the workers
    worker_s: float = 0.0  # workers x time from the first task to the last result
    coordinator_s: dict[str, float] = field(default_factory=dict)  # of the coordinator: merging, checkpoints, verifying
    log: str | None = None

    @property
    def coverage(self) -> float:
        return coverage(self.counts)


@dataclass(frozen=True)
class ResolvedBackbone:
    """A backbone that was loaded once, to know its weights."""

    spec: BackboneSpec  # with its sha256
    heads: int
    grid: tuple[int, int]
    about: dict[str, Any]


def resolve_backbone(recipe: Recipe, weights: str | None, sha256: str | None = None) -> ResolvedBackbone:
    """Loads it. Raises RecipeError for heads that it does not have, BackboneError for weights other than `sha256`."""
    if weights not in (None, "random"):
        weights = str(Path(weights).absolute())  # workers may stand elsewhere
    spec = BackboneSpec(recipe.backbone.name, recipe.backbone.size_px, recipe.backbone.precision, weights, sha256)
    backbone = Backbone(spec)
    check_heads(recipe, backbone.heads)
    about = {
        "name": spec.name,
        "weights": weights or ("bundled" if spec.name in BUNDLED else "hub"),
        "sha256": backbone.sha256,
        "mean": backbone.mean,
        "std": backbone.std,
        "patch_px": backbone.patch_px,
        "prefix_tokens": backbone.prefix,
    }
    return ResolvedBackbone(replace(spec, sha256=backbone.sha256), backbone.heads, backbone.grid, about)


def check_heads(recipe: Recipe, heads: int) -> None:
    wanted = recipe.saliency.heads
    if wanted != "mean" and max(wanted) >= heads:
        raise RecipeError(
            f"saliency.heads asks for head {max(wanted)}, but {recipe.backbone.name} has heads 0 to {heads - 1}"
        )


def fingerprint(recipe: Recipe, catalog_sha256: str, backbone: dict[str, Any]) -> str:
    """Of all that decides masks: recipe, catalog, weights, and the revisions of locloc's own stages."""
    return recipe.fingerprint(
        schema=SCHEMA,
        catalog=catalog_sha256,
        weights=backbone["sha256"],
        mean=backbone["mean"],
        std=backbone["std"],
    )


def provenance(
    catalog: Catalog,
    recipe: Recipe,
    recipe_name: str,
    backbone: dict[str, Any],
    operation: dict[str, Any],
    parent: Version | None = None,
) -> dict[str, Any]:
    """All that decided the masks, and the process that began to make them. `operation` says by which command."""
    found = fingerprint(recipe, catalog.sha256, backbone)
    begins = [found, operation, parent.tag, parent.provenance["published_at"]] if parent is not None else None
    return {
        "fingerprint": found,
        "build_id": hashlib.sha256(json.dumps(begins).encode()).hexdigest() if begins else found,
        "operation": operation,
        "parent": parent.tag if parent is not None else None,
        "recipe_name": recipe_name,
        "recipe": recipe.model_dump(mode="json"),
        "revisions": REVISIONS | {f"refine.{recipe.refine.engine}": recipe.refine.revision},
        "catalog": {
            "kind": catalog.kind,
            "root": str(catalog.root),
            "sha256": catalog.sha256,
            "rows": len(catalog),
            "classes": list(catalog.classes),
        },
        "backbone": backbone,
        "stats": list(STATS),
        "created_at": timestamp(),
        "code_version": __version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": device_name(),
        "host": socket.gethostname(),
    }


def check_same_files(catalog: Catalog, status: np.ndarray, digest: np.ndarray, where: str) -> None:
    """Looks at some rows that are done: are their files still those that they were made from?

    The fingerprint knows names, not contents: reading a million files again would cost as much as decoding them.
    What was missing then, or crashed its process, is left to `masks retry`. Raises StoreError for files that differ.
    """
    done = np.flatnonzero(digest.any(1) & (status != Status.PENDING))
    for row in np.unique(done[np.linspace(0, len(done) - 1, min(len(done), SAMPLED_FILES)).astype(int)]).tolist():
        (image_id,), (path,) = catalog.slice(row, row + 1)
        try:
            now = input_digest(read_image_bytes(resolve(catalog.root, path)))
        except ImageError:  # what is not here now says nothing of what was there then
            continue
        if not np.array_equal(now, digest[row]):
            raise StoreError(
                f"{image_id} was another file when {where} was made from images of the same names; "
                "give these images a store of their own with --store"
            )


def device_name() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU ({platform.machine()})"
