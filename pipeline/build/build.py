"""`locloc masks build`: images and a recipe > a version, if there is none like it."""

from dataclasses import dataclass, field
from pathlib import Path

from ..catalogs import Catalog
from ..recipe import Recipe, load_recipe
from .coordinator import make_version
from ..store.schema import block_count
from ..store.location import Place
from ..store.reader import list_versions, open_version
from ..store.repository import check_can_hold_store, has_repository
from ..store.writer import StoreWriter
from .spec import BuildSummary, OnProgress, RunSettings, Work, check_same_files, device_name, fingerprint, provenance, resolve_backbone


@dataclass(frozen=True)
class BuildRequest:
    """What a build is asked for. `recipe` decides the masks; the rest is where, and how."""

    catalog: Catalog
    store: Place | Path | str
    recipe: Recipe = field(default_factory=load_recipe)
    recipe_name: str = "locloc"
    weights: str | None = None  # None: the hub's; "random"; or a file
    name: str | None = None  # of the version; None: the next v1, v2, ...
    run: RunSettings = field(default_factory=RunSettings)


@dataclass(frozen=True)
class BuildPlan:
    """What a build would do. `version` is the published version that already is what was asked for, if there is one."""

    version: str | None
    fingerprint: str
    images: int
    blocks: int
    blocks_done: int
    store_mb: float  # upper bound of what the whole version adds to the store
    device: str
    workers: int


def plan_build(request: BuildRequest) -> BuildPlan:
    """What `build_masks` would do with the same request. Writes nothing."""
    found = resolve_backbone(request.recipe, request.weights)
    wanted = fingerprint(request.recipe, request.catalog.sha256, found.about)
    store = Place.of(request.store)
    check_can_hold_store(store)
    same = [info for info in list_versions(store) if info.fingerprint == wanted] if has_repository(store) else []
    done = next((info for info in reversed(same) if info.tag), same[-1] if same else None)
    rows, mask_px = len(request.catalog), request.recipe.mask_px
    row_bytes = mask_px * mask_px // 8 + 2 * found.heads * found.grid[0] * found.grid[1] + 80
    return BuildPlan(
        done.tag if done else None,
        wanted,
        rows,
        block_count(rows),
        done.about.get("counts", {}).get("blocks_done", 0) if done else 0,
        rows * row_bytes / 1e6,
        device_name(),
        request.run.cluster.workers,
    )


def build_masks(request: BuildRequest, on_progress: OnProgress = lambda progress: None) -> BuildSummary:
    """Builds and publishes a version, goes on with one that was cut short, or finds that it is there already.

    Raises LocLocError subclasses. Whatever ends a build, what it had finished stays in the store, and the same request
    goes on from there.
    """
    found = resolve_backbone(request.recipe, request.weights)
    catalog = request.catalog
    about = provenance(catalog, request.recipe, request.recipe_name, found.about, {"kind": "build"})
    with StoreWriter(request.store) as writer:
        if (there := writer.published(about["fingerprint"])) is not None:
            version = open_version(f"{writer.store}@{there.tag}")
            check_same_files(catalog, version.status, version.read_column("input_digest"), version.name)
            return BuildSummary(there.tag, there.fingerprint, there.about["counts"], already_there=True)
        work = Work(
            writer.store, catalog, request.recipe, about, found.heads, found.grid, found.spec, name=request.name
        )
        return make_version(work, writer, request.run, on_progress)
