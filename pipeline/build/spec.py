"""The specification of a build, the same for `masks build`, `retry`, `refine` and `extend`.

`build.py` and `incremental.py` make a `BuildSpec`; `coordinator.py` carries it out.
"""

import hashlib
import importlib.metadata
import json
import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ..backbones.spec import BUNDLED_NAMES, BackboneSpec
from ..catalogs.catalog import Catalog
from ..catalogs.left_out import LeftOut, left_out_from_json, left_out_json
from ..catalogs.paths import resolve
from ..errors import ImageError, RecipeError, StoreError
from ..io.images import read_image_bytes
from ..io.machine import device_name
from ..masks.map_source import SecondRound
from ..masks.quality import PARTS, REVISION
from ..recipe import REVISIONS, Recipe
from ..recipes.choice import GIVEN
from ..status import Status
from ..store.decisions import Decisions
from ..store.location import StoreLocation
from ..store.reader import Version
from ..store.schema import BLOCK_ROWS, SCHEMA, STATS, input_digest
from ..store.versions import check_name_is
from ..store.writer import SharedParent, coverage, timestamp
from .block import Block, TaskContext
from .cluster.spec import ClusterSpec
from .describe import describe
from .progress import BuildProgress

SAMPLED_FILES = 32  # compared with the digests of finished rows

_PACKAGES = ("torch", "timm", "opencv-python-headless", "pillow", "numpy", "numba", "zarr", "icechunk", "dask")

OnProgress = Callable[[BuildProgress], None]


@dataclass(frozen=True)
class RunSettings:
    """Where and within which limits a version is built. No setting changes a mask."""

    cluster: ClusterSpec = field(default_factory=ClusterSpec)
    checkpoint_s: float = 20.0
    image_limit_s: float = 120.0  # an image that takes longer gets status 6, crashed
    log: Path | None = None  # JSON lines; None: as `default_event_log` says


@dataclass(frozen=True)
class BuildSpec:
    """One version to be built.

    context       settings of its blocks; the coordinator adds device and threads
    metadata      provenance, with `fingerprint` and the `build_id` that names the build's branch
    attention     H, h, w of the attention maps
    name          of the version; None: the next v1, v2, ...
    parent_rows   (N,) int64: the row of `context.parent` that each row reuses, -1 for none
    shared        the parent whose chunks the build's branch begins with, if any
    maps          the generator whose maps new rows are made from, if any
    """

    store: StoreLocation
    catalog: Catalog
    context: TaskContext
    metadata: dict[str, Any]
    attention: tuple[int, int, int]
    name: str | None = None
    parent_rows: np.ndarray | None = None
    shared: SharedParent | None = None
    maps: SecondRound | None = None

    @property
    def fingerprint(self) -> str:
        return self.metadata["fingerprint"]

    @property
    def kept_decisions(self) -> Decisions | None:
        """Those about masks that are taken over from the parent; other masks are for a person to look at again."""
        parent = self.context.parent
        if parent is None or self.parent_rows is None or self.context.reuse != "rows":
            return None
        return parent.decisions.derived(self.parent_rows)

    def block(self, index: int) -> Block:
        start, stop = index * BLOCK_ROWS, (index + 1) * BLOCK_ROWS
        parent_rows = None if self.parent_rows is None else self.parent_rows[start:stop]
        return Block(index, start, *self.catalog.slice(start, stop), parent_rows)

    def unfinished_blocks(self, block_done: np.ndarray) -> Iterator[Block]:
        """Yields the blocks whose entry in `block_done` `(blocks,)` is 0; lazily, to keep memory small."""
        return map(self.block, np.flatnonzero(block_done == 0).tolist())


@dataclass(frozen=True)
class BuildSummary:
    """The result of a build; only version, fingerprint and counts where the version existed already."""

    version: str
    fingerprint: str
    counts: dict[str, int]  # rows by status, and `rows`
    already_there: bool = False
    new_rows: int = 0
    images_per_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=dict)  # by stage, summed over the workers
    worker_s: float = 0.0  # workers x time from the first task to the last result
    coordinator_s: dict[str, float] = field(default_factory=dict)  # by stage: merge, checkpoint, verify, publish
    log: str | None = None
    warnings: tuple[str, ...] = ()  # what the user should look at, said before the work began
    left_out: tuple[LeftOut, ...] = ()  # by the catalog: no rows, so not part of `counts` or `coverage`

    @property
    def coverage(self) -> float:
        return coverage(self.counts)


def already_there(store: StoreLocation, tag: str, metadata: dict[str, Any], name: str | None) -> BuildSummary:
    """The summary of a build whose version is published already. Raises StoreError if it was to be called otherwise."""
    check_name_is(tag, name, store)
    left_out = left_out_from_json(metadata["catalog"].get("left_out", ()))
    return BuildSummary(tag, metadata["fingerprint"], metadata["counts"], already_there=True, left_out=left_out)


@dataclass(frozen=True)
class ResolvedBackbone:
    """A backbone with the digest of its weights and its shapes, which are known once it was loaded."""

    spec: BackboneSpec  # with its sha256
    attention: tuple[int, int, int]  # maps, h, w
    metadata: dict[str, Any]


def resolve_backbone(
    recipe: Recipe,
    weights: str | None,
    sha256: str | None = None,
    maps: SecondRound | None = None,
    forked_with: tuple[str, ...] | None = None,
) -> ResolvedBackbone:
    """Loads the backbone of a recipe.

    maps  the generator that the recipe wants
    forked_with  as `describe` takes it

    Raises RecipeError for heads that it does not have, or maps without a generator; BackboneError for weights with
    another digest than `sha256`; BuildError for a generator of another backbone.
    """
    _check_maps(recipe, maps)
    if weights not in (None, "random"):
        weights = str(Path(weights).absolute())  # workers may have another working directory
    spec = BackboneSpec(recipe.backbone.name, recipe.backbone.size_px, recipe.backbone.precision, weights, sha256)
    backbone = describe(spec, maps, forked_with)
    check_heads(recipe, backbone.heads)
    metadata = {
        "name": spec.name,
        "weights": weights or ("bundled" if spec.name in BUNDLED_NAMES else "hub"),
        "sha256": backbone.sha256,
        "mean": backbone.mean,
        "std": backbone.std,
        "patch_px": backbone.patch_px,
        "prefix_tokens": backbone.prefix_tokens,
    }
    count = backbone.heads + recipe.backbone.contrast_maps + recipe.backbone.generator_maps
    return ResolvedBackbone(replace(spec, sha256=backbone.sha256), (count, *backbone.grid), metadata)


def _check_maps(recipe: Recipe, maps: SecondRound | None) -> None:
    if recipe.backbone.generator_maps and maps is None:
        raise RecipeError("This recipe keeps a generator's maps (backbone.maps): name the trained run with --from RUN")
    if maps is not None and not recipe.backbone.generator_maps:
        raise RecipeError(
            "--from RUN needs a recipe that uses a generator's maps: --recipe second_round, or your own with it as base"
        )


def maps_metadata(maps: SecondRound | None) -> dict[str, Any] | None:
    """What the provenance of a version says of its generator; None where there is none."""
    return None if maps is None else maps.source.provenance()


def check_heads(recipe: Recipe, heads: int) -> None:
    """Raises RecipeError where the recipe names a head that a backbone with `heads` heads does not have."""
    selected = recipe.saliency.heads
    if isinstance(selected, tuple) and max(selected) >= heads:
        raise RecipeError(
            f"saliency.heads asks for head {max(selected)}, but {recipe.backbone.name} has heads 0 to {heads - 1}"
        )


def fingerprint(
    recipe: Recipe,
    catalog_sha256: str,
    backbone: dict[str, Any],
    maps: dict[str, Any] | None = None,
    revisions: Mapping[str, int] = REVISIONS,
) -> str:
    """sha256 of everything that masks depend on: recipe, catalog, weights, and the revisions of locloc's stages.

    maps  the provenance of a generator's maps
    """
    generator = {} if maps is None else {"generator": maps["sha256"]}
    return recipe.fingerprint(
        revisions,
        schema=SCHEMA,
        catalog=catalog_sha256,
        weights=backbone["sha256"],
        mean=backbone["mean"],
        std=backbone["std"],
        **generator,
    )


def provenance(
    catalog: Catalog,
    recipe: Recipe,
    recipe_name: str,
    backbone: dict[str, Any],
    operation: dict[str, Any],
    parent: Version | None = None,
    recipe_why: str = GIVEN,
    maps: dict[str, Any] | None = None,
    precision_why: str | None = None,
    revisions: Mapping[str, int] = REVISIONS,
) -> dict[str, Any]:
    """The metadata of a version: everything its masks depend on, and where the build began.

    operation   the command (`kind`) and its arguments
    recipe_why  how the recipe was chosen, as `RecipeChoice.why`
    maps        the provenance of a generator's maps
    precision_why  how the recipe's precision was chosen, where it was `auto`; of a derived version the parent's
    revisions   of the stages
    """
    digest = fingerprint(recipe, catalog.sha256, backbone, maps, revisions)
    identity = [digest, operation, parent.tag, parent.provenance["published_at"]] if parent is not None else None
    return {
        "fingerprint": digest,
        "build_id": hashlib.sha256(json.dumps(identity).encode()).hexdigest() if identity else digest,
        "operation": operation,
        "parent": parent.tag if parent is not None else None,
        "recipe_name": recipe_name,
        "recipe_why": recipe_why,
        "recipe": recipe.model_dump(mode="json"),
        "precision_why": parent.provenance.get("precision_why") if parent is not None else precision_why,
        "revisions": recipe.revisions(revisions),
        "catalog": {
            "kind": catalog.kind,
            "root": str(catalog.root),
            "sha256": catalog.sha256,
            "rows": len(catalog),
            "classes": list(catalog.classes),
            "left_out": left_out_json(catalog.left_out),
            "exclude": list(catalog.exclude),
        },
        "backbone": backbone,
        "maps": maps,
        "stats": list(STATS),
        "quality": {"revision": REVISION, "parts": list(PARTS)},
        "created_at": timestamp(),
        "code_version": __version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": device_name(),
        "host": socket.gethostname(),
    }


def precision_text(precision: str, why: str | None) -> str:
    """`"bf16 (auto: this CPU, Xeon, has AMX)"`."""
    return f"{precision} ({why})" if why else precision


def check_same_files(
    catalog: Catalog, status: np.ndarray, digest: np.ndarray, where: str, extends: bool = False
) -> None:
    """Compares the files of SAMPLED_FILES finished rows with the digests of the files their masks were made from.

    The fingerprint covers names, not contents: reading a million files again would cost as much as decoding them. Rows
    that were missing or crashed are left to `masks retry`. Raises StoreError for a file that differs.

    where    the version, STORE@VERSION
    extends  whether other images are added to the version, rather than the same ones asked for again
    """
    done = np.flatnonzero(digest.any(1) & (status != Status.PENDING))
    for row in np.unique(done[np.linspace(0, len(done) - 1, min(len(done), SAMPLED_FILES)).astype(int)]).tolist():
        (image_id,), (path,) = catalog.slice(row, row + 1)
        try:
            now = input_digest(read_image_bytes(resolve(catalog.root, path)))
        except ImageError:  # a missing file cannot be compared
            continue
        if not np.array_equal(now, digest[row]):
            made = f"{image_id} was another file when {where} was made"
            if extends:
                raise StoreError(
                    f"{made}, and its old mask would be kept; put the old file back, or make masks of all images anew: "
                    f"`locloc masks build IMAGES --store {where.rpartition('@')[0]}`"
                )
            raise StoreError(
                f"{made} from images of the same names; give these images a store of their own with --store"
            )
