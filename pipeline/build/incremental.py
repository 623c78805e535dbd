"""Versions from versions: `masks retry`, `refine` and `extend`; and `masks resume`, which goes on with any build.

A derived version begins as its parent where rows keep their places (retry, refine): only the chunks that change are
written. `extend` puts new rows between old ones, so it copies the old ones instead of making them.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .build import BuildRequest, build_masks
from ..catalogs import Catalog
from ..catalogs.merge import merge_catalogs
from ..catalogs.paths import parse_location
from ..errors import BuildError, RecipeError, StoreError
from ..recipe import REVISIONS, Recipe
from .coordinator import make_version
from ..status import DONE, Status
from ..store.schema import BLOCK_ROWS, block_count
from ..store.location import Place
from ..store.reader import Version, VersionInfo, list_versions, open_version, unfinished_catalog
from ..store.writer import Shared, StoreWriter
from .spec import BuildSummary, OnProgress, RunSettings, Work, check_heads, check_same_files, fingerprint, provenance, resolve_backbone

FAILED = tuple(status for status in Status if status not in (Status.PENDING, *DONE))

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
) -> BuildSummary:
    """Makes some rows of a version again, as a new version with the same fingerprint that shares the rest.

    rows  row numbers; `failed_rows` finds them by status. `why` is kept in the provenance.
    """
    parent, recipe = version.provenance, _recipe(version)
    catalog = _with_root(version.catalog, root)
    found = resolve_backbone(recipe, weights or _recorded_weights(parent), parent["backbone"]["sha256"])
    operation = {"kind": "retry", "why": why, "rows": len(rows)}
    about = provenance(catalog, recipe, parent["recipe_name"], found.about, operation, version)
    _check_same_fingerprint(about["fingerprint"], version)
    kept = np.arange(len(catalog))
    kept[rows] = -1
    work = Work(
        version.store, catalog, recipe, about, found.heads, found.grid, found.spec, name,
        parent=version, reuse="rows", kept=kept, shared=Shared(version.tag, np.unique(rows // BLOCK_ROWS)),
    )  # fmt: skip
    with StoreWriter(version.store) as writer:
        return make_version(work, writer, run, on_progress)


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
) -> BuildSummary:
    """New masks from the attention that a version keeps; no ViT is loaded, and attention is shared.

    The same bytes as a build with that recipe. Raises RecipeError for a recipe that needs other attention.
    """
    parent = version.provenance
    _check_same_attention(recipe, version)
    catalog = _with_root(version.catalog, root)
    about = provenance(catalog, recipe, recipe_name, parent["backbone"], {"kind": "refine"}, version)
    heads, *grid = version.attention_shape
    check_heads(recipe, heads)
    everything = np.arange(len(catalog))
    work = Work(
        version.store, catalog, recipe, about, heads, tuple(grid), None, name, parent=version, reuse="attention",
        kept=everything, shared=Shared(version.tag, np.arange(block_count(len(catalog)))),
    )  # fmt: skip
    return _make_if_new(work, run, on_progress)


def extend_version(
    version: Version,
    images: Catalog,
    run: RunSettings,
    weights: str | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> BuildSummary:
    """A version of the old images and the new ones, for which only the new ones are made. `images` may hold old ones.

    The same bytes as a build of all of them; raises CatalogError where the two lists contradict each other.
    """
    catalog = merge_catalogs(version.catalog, images)
    return _extend(version, catalog, run, weights, name, on_progress)


def _extend(
    version: Version, catalog: Catalog, run: RunSettings, weights: str | None, name: str | None, on_progress: OnProgress
) -> BuildSummary:
    parent, recipe = version.provenance, _recipe(version)
    if len(catalog) == len(version):
        return BuildSummary(version.tag, parent["fingerprint"], parent["counts"], already_there=True)
    check_same_files(
        _with_root(version.catalog, catalog.root), version.status, version.read_column("input_digest"), version.name
    )
    found = resolve_backbone(recipe, weights or _recorded_weights(parent), parent["backbone"]["sha256"])
    _check_same_fingerprint(fingerprint(recipe, parent["catalog"]["sha256"], found.about), version)
    old = pa.array(version.ids, pa.string())
    kept = pc.fill_null(pc.index_in(catalog.table["id"], old), -1).to_numpy().astype(np.int64)
    operation = {"kind": "extend", "rows": int((kept < 0).sum())}
    about = provenance(catalog, recipe, parent["recipe_name"], found.about, operation, version)
    work = Work(
        version.store, catalog, recipe, about, found.heads, found.grid, found.spec, name,
        parent=version, reuse="rows", kept=kept,
    )  # fmt: skip
    return _make_if_new(work, run, on_progress)


def _make_if_new(work: Work, run: RunSettings, on_progress: OnProgress) -> BuildSummary:
    with StoreWriter(work.store) as writer:
        if (there := writer.published(work.fingerprint)) is not None:
            return BuildSummary(there.tag, there.fingerprint, there.about["counts"], already_there=True)
        return make_version(work, writer, run, on_progress)


def resume_build(
    store: str | Path | Place,
    run: RunSettings,
    build: str | None = None,
    root: str | Path | None = None,
    weights: str | None = None,
    name: str | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> BuildSummary:
    """Goes on with an unfinished build, from what the store knows of it. `build`: how its id begins, if there are more.

    Raises StoreError where there is none, or where it is not clear which; BuildError where this locloc would go on in
    another way than the build began.
    """
    place = Place.of(store)
    info = _unfinished(place, build)
    about = info.about
    name = name or about.get("name")
    recipe, operation = Recipe.model_validate(about["recipe"]), about["operation"]
    catalog = _with_root(unfinished_catalog(place, info.build_id), root)
    weights = weights or _recorded_weights(about)
    backbone = about["backbone"]
    if operation["kind"] == "build":
        backbone = resolve_backbone(recipe, weights, backbone["sha256"]).about
    if fingerprint(recipe, catalog.sha256, backbone) != info.fingerprint:
        raise BuildError(_other_code(f"The build {info.build_id[:12]}", about))
    if operation["kind"] == "build":
        request = BuildRequest(catalog, place, recipe, about["recipe_name"], weights, name, run)
        return build_masks(request, on_progress)
    parent = open_version(f"{place}@{about['parent']}")
    if operation["kind"] == "retry":
        rows = retried_rows(parent, operation["why"])
        return retry_rows(parent, rows, operation["why"], run, catalog.root, weights, name, on_progress)
    if operation["kind"] == "refine":
        return refine_again(parent, recipe, about["recipe_name"], run, catalog.root, name, on_progress)
    return _extend(parent, catalog, run, weights, name, on_progress)


def retried_rows(version: Version, why: str) -> np.ndarray:
    """The rows that a retry is about: `why` is "damaged", or labels of statuses with commas."""
    if why == "damaged":
        from ..inspect.verify import verify_version

        return verify_version(version, files=False).damaged_rows
    return failed_rows(version, [status for status in Status if status.label in why.split(",")])


def _unfinished(place: Place, build: str | None) -> VersionInfo:
    builds = [info for info in list_versions(place) if info.tag is None]
    found = [info for info in builds if info.build_id.startswith(build or "")]
    if not builds:
        raise StoreError(f"Store {place} has no unfinished build; `locloc masks list {place}` shows its versions")
    if len(found) != 1:
        names = ", ".join(info.build_id[:12] for info in builds)
        raise StoreError(f"Store {place} has the unfinished builds {names}; say which one with --build")
    return found[0]


def _recipe(version: Version) -> Recipe:
    return Recipe.model_validate(version.provenance["recipe"])


def _with_root(catalog: Catalog, root: str | Path | None) -> Catalog:
    if root is None:
        return catalog
    where = parse_location(root)
    return replace(catalog, root=where.absolute() if isinstance(where, Path) else where)


def _recorded_weights(about: dict[str, Any]) -> str | None:
    weights = about["backbone"]["weights"]
    return None if weights in ("hub", "bundled") else weights


def _check_same_fingerprint(found: str, version: Version) -> None:
    """New rows must be what the old ones would be: the same code, recipe and weights."""
    if found != version.provenance["fingerprint"]:
        raise BuildError(_other_code(version.name, version.provenance))


def _check_same_attention(recipe: Recipe, version: Version) -> None:
    parent = version.provenance
    mine = {"images": recipe.images, "backbone": recipe.backbone}
    for section, settings in mine.items():
        for name, value in settings.model_dump(mode="json").items():
            if (was := parent["recipe"][section][name]) != value:
                raise RecipeError(
                    f"{section}.{name} is {value!r} in this recipe and was {was!r} in {version.name}: it needs other "
                    "attention; `locloc masks build` makes it"
                )
    if any(parent["revisions"][stage] != REVISIONS[stage] for stage in _ATTENTION_REVISIONS):
        raise BuildError(_other_code(version.name, parent))


def _other_code(what: str, about: dict[str, Any]) -> str:
    return (
        f"{what} was made by locloc {about['code_version']}, whose stages give other masks than this one's; "
        "use that release, or make all masks anew with `locloc masks build`"
    )
