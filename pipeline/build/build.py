"""`locloc masks build`: makes a version from images and a recipe, unless the store has it already."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..backbones.precision import auto_precision
from ..catalogs.catalog import Catalog
from ..io.machine import device_name
from ..masks.map_source import SecondRound
from ..recipe import REVISIONS, Recipe, load_recipe
from ..recipes.choice import GIVEN
from ..store.location import StoreLocation
from ..store.reader import open_version
from ..store.repository import check_can_hold_store, has_repository
from ..store.schema import block_count
from ..store.versions import check_name_is, check_new_name, list_versions, published_version
from ..store.writer import StoreWriter
from .block import TaskContext
from .coordinator import make_version
from .describe import local_kernels
from .needs_gpu import check_this_machine
from .spec import (
    BuildSpec,
    BuildSummary,
    OnProgress,
    ResolvedBackbone,
    RunSettings,
    already_there,
    check_same_files,
    fingerprint,
    maps_metadata,
    precision_text,
    provenance,
    resolve_backbone,
)


@dataclass(frozen=True)
class BuildRequest:
    """The arguments of a build. Masks depend on `catalog`, `recipe` and `weights` alone."""

    catalog: Catalog
    store: StoreLocation | Path | str
    recipe: Recipe = field(default_factory=load_recipe)
    recipe_name: str = "locloc"
    weights: str | None = None  # a file or "random"; None: the published ones
    name: str | None = None  # of the version; None: the next v1, v2, ...
    run: RunSettings = field(default_factory=RunSettings)
    recipe_why: str = GIVEN  # how the recipe was chosen
    maps: SecondRound | None = None  # the generator whose maps the recipe uses
    of: str | None = None  # the version whose images these are, where `masks refine --from` asked for them
    precision_why: str | None = None  # how `auto` was decided, where it was
    revisions: Mapping[str, int] = field(default_factory=lambda: dict(REVISIONS))  # older ones where it is resumed

    def at_one_precision(self) -> "BuildRequest":
        """The request with what `auto` stands for on this machine, in the recipe and so in the fingerprint."""
        if self.recipe.backbone.precision != "auto":
            return self
        cluster = self.run.cluster
        auto = auto_precision(with_gpu=cluster.gpus != 0 and cluster.is_local)
        why = auto.why + ("" if cluster.is_local else "; workers run elsewhere")
        return replace(self, recipe=self.recipe.with_precision(auto.precision), precision_why=why)


@dataclass(frozen=True)
class BuildPlan:
    """What a build would do. `version`: the published version with the same fingerprint, if there is one."""

    version: str | None
    fingerprint: str
    images: int
    blocks: int
    blocks_done: int
    store_mb: float  # upper bound of the space that the whole version takes
    device: str
    workers: int
    precision: str  # of the ViT, and how it was chosen
    warnings: tuple[str, ...] = ()


def plan_build(request: BuildRequest) -> BuildPlan:
    """The plan of `build_version` for a request. Writes nothing."""
    store, request = StoreLocation.of(request.store), request.at_one_precision()
    check_can_hold_store(store)
    check_this_machine(request.recipe, request.run.cluster)
    backbone = resolve_backbone(request.recipe, request.weights, None, request.maps, forked_with=())
    digest = fingerprint(request.recipe, request.catalog.sha256, backbone.metadata, maps_metadata(request.maps))
    versions = list_versions(store) if has_repository(store) else []
    done = published_version(versions, digest, request.name)
    if done is not None and done.tag is not None:
        check_name_is(done.tag, request.name, store)
    elif request.name is not None:
        check_new_name(request.name, [info.tag for info in versions if info.tag is not None], store)
    unfinished = [info for info in versions if info.tag is None and info.fingerprint == digest]
    done = done or (unfinished[-1] if unfinished else None)
    rows, mask_px = len(request.catalog), request.recipe.mask_px
    heads, grid_height, grid_width = backbone.attention
    row_bytes = mask_px * mask_px // 8 + 2 * heads * grid_height * grid_width + 80  # mask, attention, columns
    return BuildPlan(
        done.tag if done else None,
        digest,
        rows,
        block_count(rows),
        done.metadata.get("counts", {}).get("blocks_done", 0) if done else 0,
        rows * row_bytes / 1e6,
        device_name(),
        request.run.cluster.workers,
        precision_text(request.recipe.backbone.precision, request.precision_why),
    )


def build_version(
    request: BuildRequest,
    on_progress: OnProgress = lambda progress: None,
    backbone: ResolvedBackbone | None = None,
) -> BuildSummary:
    """Builds and publishes a version, resumes an interrupted build, or returns the version if it exists already.

    backbone  the backbone of the request where the caller has loaded it, else None

    Raises LocLocError subclasses. The finished blocks of an interrupted build stay in the store, and the same request
    resumes it.
    """
    check_can_hold_store(request.store)
    request = request.at_one_precision()
    check_this_machine(request.recipe, request.run.cluster)
    kernels = local_kernels(request.recipe, request.run.cluster)
    backbone = backbone or resolve_backbone(request.recipe, request.weights, None, request.maps, kernels)
    catalog, recipe, maps = request.catalog, request.recipe, request.maps
    operation = {"kind": "build"} | ({"of": request.of} if request.of is not None else {})
    metadata = provenance(
        catalog, recipe, request.recipe_name, backbone.metadata, operation, recipe_why=request.recipe_why,
        maps=maps_metadata(maps), precision_why=request.precision_why, revisions=request.revisions,
    )  # fmt: skip
    with StoreWriter(request.store) as writer:
        if (published := writer.published(metadata["fingerprint"], request.name)) is not None:
            version = open_version(f"{writer.store}@{published.tag}")
            check_same_files(catalog, version.status, version.read_column("input_digest"), version.name)
            return already_there(writer.store, version.tag, published.metadata, request.name)
        source = maps.source if maps is not None else None
        context = TaskContext(catalog.root, recipe, backbone.spec, maps=source, revisions=request.revisions)
        spec = BuildSpec(writer.store, catalog, context, metadata, backbone.attention, request.name, maps=maps)
        return make_version(spec, writer, request.run, on_progress)
