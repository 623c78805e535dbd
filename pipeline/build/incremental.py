"""Versions derived from versions: `masks retry`, `refine` and `extend`; and `masks resume`, which resumes any build.

Retry and refine keep the row order, so a derived version shares its parent's chunks and writes only those that change.
`extend` inserts new rows between old ones, so it copies the old ones instead of making them again.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..backbones.spec import recorded_weights
from ..catalogs.catalog import Catalog
from ..catalogs.merge import merge_catalogs
from ..catalogs.paths import parse_location
from ..errors import BuildError, RecipeError, StoreError
from ..masks.map_source import OpenRun, SecondRound
from ..recipe import Recipe, built_recipe, recorded_revisions
from ..recipes.choice import GIVEN
from ..status import HAS_MASK, Status
from ..store.location import StoreLocation
from ..store.reader import Version, open_version
from ..store.schema import BLOCK_ROWS, block_count
from ..store.versions import VersionInfo, list_versions, unfinished_catalog
from ..store.writer import SharedParent, StoreWriter
from .block import TaskContext
from .build import BuildRequest, build_version
from .coordinator import make_version
from .decide import take_decisions_over
from .describe import local_kernels
from .spec import (
    BuildSpec,
    BuildSummary,
    OnProgress,
    ResolvedBackbone,
    RunSettings,
    already_there,
    check_heads,
    check_same_files,
    fingerprint,
    maps_metadata,
    provenance,
    resolve_backbone,
)

FAILED = tuple(status for status in Status if status not in (Status.PENDING, *HAS_MASK))

_ATTENTION_REVISIONS = ("decode", "geometry", "attention")


def retry_rows(
    version: Version,
    rows: np.ndarray,
    why: str,
    run: RunSettings,
    root: str | Path | None = None,
    weights: str | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    open_run: OpenRun | None = None,
) -> BuildSummary:
    """Makes some rows of a version again: a new version with the same fingerprint that shares the other rows.

    rows      row numbers; `failed_rows` finds them by status. What was decided about their masks is dropped
    why       as `retried_rows` takes it; recorded in the provenance
    open_run  opens the run whose generator drew the version's maps, if one did
    """
    parent, recipe = version.provenance, built_recipe(version.provenance, version.name)
    catalog, maps = _with_root(version.catalog, root), _same_run(parent, open_run)
    backbone = _same_backbone(recipe, weights, parent, maps, run)
    operation, revisions = {"kind": "retry", "why": why, "rows": len(rows)}, recorded_revisions(parent)
    metadata = provenance(
        catalog, recipe, parent["recipe_name"], backbone.metadata, operation, version, _recipe_why(parent),
        maps_metadata(maps), revisions=revisions,
    )  # fmt: skip
    _check_same_fingerprint(metadata["fingerprint"], version)
    parent_rows = np.arange(len(catalog))
    parent_rows[rows] = -1
    source = maps.source if maps else None
    context = TaskContext(catalog.root, recipe, backbone.spec, version, "rows", maps=source, revisions=revisions)
    shared = SharedParent(version.tag, np.unique(rows // BLOCK_ROWS))
    spec = BuildSpec(version.store, catalog, context, metadata, backbone.attention, name, parent_rows, shared, maps)
    with StoreWriter(version.store) as writer:
        return make_version(spec, writer, run, on_progress)


def failed_rows(version: Version, statuses: Collection[Status] = FAILED) -> np.ndarray:
    """Row numbers `(n,) int64` with one of the statuses."""
    return np.flatnonzero(np.isin(version.status, list(statuses)))


def refine_again(
    version: Version,
    recipe: Recipe,
    recipe_name: str,
    run: RunSettings,
    root: str | Path | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    recipe_why: str = GIVEN,
) -> BuildSummary:
    """Makes new masks from the stored attention of a version, without the ViT; the attention is shared.

    Gives the same bytes as a build with that recipe. What was decided about the old masks is not taken over. Raises
    RecipeError for a recipe that needs other attention.
    """
    catalog, parent = _with_root(version.catalog, root), version.provenance
    _check_same_attention(recipe, version)
    metadata = provenance(
        catalog, recipe, recipe_name, parent["backbone"], {"kind": "refine"}, version, recipe_why, parent.get("maps"),
        revisions=(revisions := recorded_revisions(parent)),
    )  # fmt: skip
    check_heads(recipe, version.attention_shape[0])
    context = TaskContext(catalog.root, recipe, None, version, "attention", revisions=revisions)
    shared = SharedParent(version.tag, np.arange(block_count(len(catalog))))
    every_row = np.arange(len(catalog))
    spec = BuildSpec(version.store, catalog, context, metadata, version.attention_shape, name, every_row, shared)
    return _make_unless_published(spec, run, on_progress)


def refine_from(
    version: Version,
    recipe: Recipe,
    recipe_name: str,
    maps: SecondRound,
    run: RunSettings,
    root: str | Path | None = None,
    weights: str | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    recipe_why: str = GIVEN,
) -> BuildSummary:
    """Makes new masks of a version's images from the maps of a trained generator, as a build of them does.

    The ViT is run again: the generator takes its tokens, which no version keeps.
    """
    catalog, parent = _with_root(version.catalog, root), version.provenance
    backbone = _same_backbone(recipe, weights, parent, maps, run)
    request = BuildRequest(
        catalog, version.store, recipe, recipe_name, backbone.spec.weights, name, run, recipe_why, maps, version.tag
    )
    return build_version(request, on_progress, backbone)


def extend_version(
    version: Version,
    images: Catalog,
    run: RunSettings,
    weights: str | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    open_run: OpenRun | None = None,
) -> BuildSummary:
    """Makes a version of the old images and the new ones, for which only the new ones are computed.

    images    new images; may contain old ones
    open_run  opens the run whose generator drew the version's maps, if one did

    Gives the same bytes as a build of all. Raises CatalogError where the two catalogs contradict each other.
    """
    return _extend(version, merge_catalogs(version.catalog, images), run, weights, name, on_progress, open_run)


def _extend(
    version: Version,
    catalog: Catalog,
    run: RunSettings,
    weights: str | None,
    name: str | None,
    on_progress: OnProgress,
    open_run: OpenRun | None,
) -> BuildSummary:
    parent, recipe = version.provenance, built_recipe(version.provenance, version.name)
    if len(catalog) == len(version):
        return already_there(version.store, version.tag, parent, name)
    # The old rows, where the union has them.
    kept = replace(catalog, table=_rows_of(catalog.table, version.ids), annotated_size=None)
    check_same_files(kept, version.status, version.read_column("input_digest"), version.name, extends=True)
    maps = _same_run(parent, open_run)
    backbone = _same_backbone(recipe, weights, parent, maps, run)
    drawn, revisions = maps_metadata(maps), recorded_revisions(parent)
    made_by = fingerprint(recipe, parent["catalog"]["sha256"], backbone.metadata, drawn, revisions)
    _check_same_fingerprint(made_by, version)
    old = pa.array(version.ids, pa.string())
    parent_rows = pc.fill_null(pc.index_in(catalog.table["id"], old), -1).to_numpy().astype(np.int64)
    operation = {"kind": "extend", "rows": int((parent_rows < 0).sum())}
    metadata = provenance(
        catalog, recipe, parent["recipe_name"], backbone.metadata, operation, version, _recipe_why(parent), drawn,
        revisions=revisions,
    )  # fmt: skip
    source = maps.source if maps else None
    context = TaskContext(catalog.root, recipe, backbone.spec, version, "rows", maps=source, revisions=revisions)
    spec = BuildSpec(version.store, catalog, context, metadata, backbone.attention, name, parent_rows, maps=maps)
    summary = _make_unless_published(spec, run, on_progress)
    if not summary.already_there:
        return summary
    decided = take_decisions_over(open_version(f"{version.store}@{summary.version}"), version, name)
    return replace(summary, version=decided.tag, counts=decided.provenance["counts"])


def _rows_of(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The rows with these ids, of which there is one each; sorted by id, as `table` is."""
    return table.filter(pc.is_in(table["id"], pa.array(ids, pa.string()))).combine_chunks()


def _make_unless_published(spec: BuildSpec, run: RunSettings, on_progress: OnProgress) -> BuildSummary:
    with StoreWriter(spec.store) as writer:
        published = writer.published(spec.fingerprint, spec.name)
        if published is not None and (spec.context.reuse != "attention" or "quality" in published.metadata):
            assert published.tag is not None
            name = None if spec.metadata["operation"]["kind"] == "extend" else spec.name  # decisions may be added yet
            return already_there(spec.store, published.tag, published.metadata, name)
        return make_version(spec, writer, run, on_progress)


def resume_build(
    store: str | Path | StoreLocation,
    run: RunSettings,
    build: str | None = None,
    root: str | Path | None = None,
    weights: str | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    open_run: OpenRun | None = None,
) -> BuildSummary:
    """Resumes an unfinished build from its metadata in the store.

    build     how its id begins, where the store has several
    open_run  opens the run whose generator draws the build's maps, if one does

    Raises StoreError where there is none, or where `build` is ambiguous; BuildError where this release would give other
    masks than those that the build has already.
    """
    location = StoreLocation.of(store)
    info = _unfinished(location, build)
    metadata = info.metadata
    if metadata["operation"]["kind"] == "import":
        raise StoreError(f"The build {info.build_id[:12]} is an import; the same `locloc masks import` resumes it")
    if metadata["operation"]["kind"] == "decide":
        raise BuildError(
            f"The build {info.build_id[:12]} is a `locloc masks decide` of {metadata['parent']} that was interrupted; "
            f"run that command again, or delete it with `locloc masks delete {location}@{info.build_id[:12]}`"
        )
    name = name or metadata.get("name")
    recipe, operation = built_recipe(metadata, f"the build {info.build_id[:12]}"), metadata["operation"]
    recipe_name, why, revisions = metadata["recipe_name"], _recipe_why(metadata), recorded_revisions(metadata)
    catalog = _with_root(unfinished_catalog(location, info.build_id), root)
    maps = _same_run(metadata, open_run) if operation["kind"] == "build" else None
    backbone = _same_backbone(recipe, weights, metadata, maps, run) if operation["kind"] == "build" else None
    resolved = backbone.metadata if backbone else metadata["backbone"]
    if fingerprint(recipe, catalog.sha256, resolved, metadata.get("maps"), revisions) != info.fingerprint:
        raise BuildError(_incompatible_release(f"The build {info.build_id[:12]}", metadata))
    if backbone is not None:
        of = operation.get("of")
        request = BuildRequest(
            catalog, location, recipe, recipe_name, backbone.spec.weights, name, run, why, maps, of, revisions=revisions
        )
        return build_version(request, on_progress, backbone)
    parent = open_version(f"{location}@{metadata['parent']}")
    if operation["kind"] == "retry":
        rows = retried_rows(parent, operation["why"])
        return retry_rows(parent, rows, operation["why"], run, catalog.root, weights, name, on_progress, open_run)
    if operation["kind"] == "refine":
        return refine_again(parent, recipe, recipe_name, run, catalog.root, name, on_progress, why)
    return _extend(parent, catalog, run, weights, name, on_progress, open_run)


def retried_rows(version: Version, why: str) -> np.ndarray:
    """The rows that a retry makes again. `why`: "damaged", or the labels of statuses, with commas."""
    if why == "damaged":
        from ..inspect.verify import verify_version

        return verify_version(version, files=False).damaged_rows
    return failed_rows(version, [status for status in Status if status.label in why.split(",")])


def _unfinished(location: StoreLocation, build: str | None) -> VersionInfo:
    builds = [info for info in list_versions(location) if info.tag is None]
    matching = [info for info in builds if info.build_id.startswith(build or "")]
    if not builds:
        raise StoreError(f"Store {location} has no unfinished build; `locloc masks list {location}` shows its versions")
    if len(matching) != 1:
        names = ", ".join(info.build_id[:12] for info in builds)
        raise StoreError(f"Store {location} has the unfinished builds {names}; say which one with --build")
    return matching[0]


def _recipe_why(metadata: dict[str, Any]) -> str:
    """How the recipe of a version or build was chosen."""
    return str(metadata.get("recipe_why", "not recorded by older releases"))


def _with_root(catalog: Catalog, root: str | Path | None) -> Catalog:
    if root is None:
        return catalog
    where = parse_location(root)
    return replace(catalog, root=where.absolute() if isinstance(where, Path) else where)


def _same_backbone(
    recipe: Recipe, weights: str | None, metadata: dict[str, Any], maps: SecondRound | None, run: RunSettings
) -> ResolvedBackbone:
    """The backbone of a version or build. Raises BackboneError for other weights.

    weights  where they are now; None: where they were
    """
    recorded, kernels = metadata["backbone"], local_kernels(recipe, run.cluster)
    return resolve_backbone(recipe, weights or recorded_weights(recorded), recorded["sha256"], maps, kernels)


def _same_run(metadata: dict[str, Any], open_run: OpenRun | None) -> SecondRound | None:
    """The generator whose maps a version or build has, None if it has none. Raises BuildError for other weights."""
    if (recorded := metadata.get("maps")) is None:
        return None
    if open_run is None:
        raise BuildError(f"These masks are made from the maps of the run {recorded['run']}, which is not opened here")
    return open_run(Path(recorded["run"]), recorded["sha256"])


def _check_same_fingerprint(digest: str, version: Version) -> None:
    """Raises BuildError where new rows would be made by other code than the rows of the version."""
    if digest != version.provenance["fingerprint"]:
        raise BuildError(_incompatible_release(version.name, version.provenance))


def _check_same_attention(recipe: Recipe, version: Version) -> None:
    """Raises RecipeError for a setting, BuildError for a revision of the code, that changes the attention."""
    parent = version.provenance
    own = built_recipe(parent, version.name).model_dump(mode="json")
    for section, settings in {"images": recipe.images, "backbone": recipe.backbone}.items():
        for name, value in settings.model_dump(mode="json").items():
            if (was := own[section][name]) != value:
                raise RecipeError(
                    f"{section}.{name} is {value!r} in this recipe and was {was!r} in {version.name}: it needs other "
                    "attention; `locloc masks build` makes it"
                )
    if any(parent["revisions"][stage] != recorded_revisions(parent)[stage] for stage in _ATTENTION_REVISIONS):
        raise BuildError(_incompatible_release(version.name, parent))


def _incompatible_release(what: str, metadata: dict[str, Any]) -> str:
    """The message for masks that this release would make differently."""
    return (
        f"{what} was made by locloc {metadata['code_version']}, whose stages give other masks than this one's; "
        "use that release, or make all masks anew with `locloc masks build`"
    )
