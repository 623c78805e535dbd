"""`locloc masks build`: catalog > plan > tasks on workers > versioned store. The coordinator's side of a build.

The coordinator keeps a window of about two blocks a worker in flight, merges what comes back, and commits a checkpoint
every few seconds. Its memory is the catalog and the small columns, however many blocks there are.
"""

import importlib.metadata
import os
import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distributed import Client, Future, KilledWorker, as_completed
from icechunk import ForkSession, IcechunkError

from .. import __version__
from .backbone import BUNDLED, Backbone, BackboneSpec
from .block import Block, BlockResult, Job, attend, input_digest, refine_and_write
from .catalogs import Catalog, resolve
from .cluster import PrepareWorker, dashboard_address, local_cluster
from .errors import BuildError, ImageError, RecipeError, StoreError
from .images import read_image_bytes
from .plan import Plan, make_plan
from .progress import Progress, Tally
from .recipe import Recipe, load_recipe
from .signals import signals_held_back
from .status import Status
from .store.layout import SCHEMA, STATS, block_count
from .store.reader import list_versions, open_version
from .store.repository import check_can_hold_store, has_repository
from .store.writer import StoreWriter, coverage, timestamp

SAMPLED_FILES = 32  # looked at before work is taken for done
BLOCKS_IN_FLIGHT = 2  # a worker: one at work and one waiting, so that none is idle while the coordinator commits

_PACKAGES = ("torch", "timm", "opencv-python-headless", "pillow", "numpy", "zarr", "icechunk", "dask")

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class BuildRequest:
    """What a build is asked for. `recipe` decides the masks; the rest is where, and how."""

    catalog: Catalog
    store: Path
    recipe: Recipe = field(default_factory=load_recipe)
    recipe_name: str = "locloc"
    weights: str | None = None  # None: the hub's; "random"; or a file
    name: str | None = None  # of the version; None: the next v1, v2, ...
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    checkpoint_s: float = 20.0


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

    @property
    def coverage(self) -> float:
        return coverage(self.counts)


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


@dataclass(frozen=True)
class _Resolved:
    """A request whose backbone was loaded once, to know its weights."""

    backbone: BackboneSpec  # with its sha256
    heads: int
    grid: tuple[int, int]
    about_backbone: dict[str, Any]
    fingerprint: str


def plan_build(request: BuildRequest) -> BuildPlan:
    """What `build_masks` would do with the same request. Writes nothing."""
    found = _resolve(request)
    store = request.store.absolute()
    check_can_hold_store(store)
    known = {info.fingerprint: info for info in list_versions(store)} if has_repository(store) else {}
    same = known.get(found.fingerprint)
    rows, mask_px = len(request.catalog), request.recipe.mask_px
    row_bytes = mask_px * mask_px // 8 + 2 * found.heads * found.grid[0] * found.grid[1] + 80
    return BuildPlan(
        same.tag if same else None,
        found.fingerprint,
        rows,
        block_count(rows),
        same.about.get("counts", {}).get("blocks_done", 0) if same else 0,
        rows * row_bytes / 1e6,
        _device_name(),
        request.workers,
    )


def build_masks(request: BuildRequest, on_progress: OnProgress = lambda progress: None) -> BuildSummary:
    """Builds and publishes a version, goes on with one that was cut short, or finds that it is there already.

    Raises LocLocError subclasses. Whatever ends a build, what it had finished stays in the store, and the same request
    goes on from there.
    """
    found = _resolve(request)
    with StoreWriter(request.store.absolute()) as writer:
        if (there := writer.published(found.fingerprint)) is not None:
            version = open_version(f"{writer.store}@{there.tag}")
            _check_same_files(request.catalog, version.status, version.read_column("input_digest"), version.name)
            return BuildSummary(there.tag, found.fingerprint, there.about["counts"], already_there=True)
        if request.name is not None:
            writer.check_name(request.name)
        about = _provenance(request, found)
        writer.begin(found.fingerprint, about, request.catalog, found.heads, found.grid, request.recipe.mask_px)
        _check_same_files(
            request.catalog, writer.status, writer.input_digest, f"the unfinished build in {writer.store}"
        )
        plan = make_plan(request.catalog, writer.block_done)
        tally = Tally(writer, on_progress)
        worker_s = _run_plan(request, found, plan, writer, tally) if len(plan.todo) else 0.0
        tally.say("verifying")
        with signals_held_back():
            version = writer.publish(request.name)
        return BuildSummary(
            version,
            found.fingerprint,
            writer.counts,
            new_rows=tally.new_rows,
            images_per_s=tally.images_per_s,
            stage_s=dict(tally.stage_s),
            worker_s=worker_s,
        )


def _resolve(request: BuildRequest) -> _Resolved:
    recipe = request.recipe
    weights = request.weights
    if weights not in (None, "random"):
        weights = str(Path(weights).absolute())  # workers may stand elsewhere
    spec = BackboneSpec(recipe.backbone.name, recipe.backbone.size_px, recipe.backbone.precision, weights)
    backbone = Backbone(spec)
    heads = recipe.saliency.heads
    if heads != "mean" and max(heads) >= backbone.heads:
        raise RecipeError(
            f"saliency.heads asks for head {max(heads)}, but {spec.name} has heads 0 to {backbone.heads - 1}"
        )
    about = {
        "name": spec.name,
        "weights": weights or ("bundled" if spec.name in BUNDLED else "hub"),
        "sha256": backbone.sha256,
        "mean": backbone.mean,
        "std": backbone.std,
        "patch_px": backbone.patch_px,
        "prefix_tokens": backbone.prefix,
    }
    fingerprint = recipe.fingerprint(
        schema=SCHEMA, catalog=request.catalog.sha256, weights=backbone.sha256, mean=backbone.mean, std=backbone.std
    )
    return _Resolved(replace(spec, sha256=backbone.sha256), backbone.heads, backbone.grid, about, fingerprint)


def _check_same_files(catalog: Catalog, status: np.ndarray, digest: np.ndarray, where: str) -> None:
    """Looks at some rows that are done: are their files still those that they were made from?

    The fingerprint knows names, not contents: reading a million files again would cost as much as decoding them.
    Raises StoreError for files that were changed, or that could not be read then and can be now.
    """
    done = np.flatnonzero(status)
    for row in np.unique(done[np.linspace(0, len(done) - 1, min(len(done), SAMPLED_FILES)).astype(int)]).tolist():
        (image_id,), (path,) = catalog.slice(row, row + 1)
        try:
            now = input_digest(read_image_bytes(resolve(catalog.root, path)))
        except ImageError:  # what is not here now says nothing of what was there then
            continue
        if not np.array_equal(now, digest[row]):
            was = "could not be read" if status[row] == Status.MISSING else "was another file"
            raise StoreError(
                f"{image_id} {was} when {where} was made from images of the same names; "
                "give these images a store of their own with --store"
            )


def _run_plan(request: BuildRequest, found: _Resolved, plan: Plan, writer: StoreWriter, tally: Tally) -> float:
    """Starts workers and runs the plan on them; returns the worker seconds that were there to be used."""
    gpus, cores = torch.cuda.device_count(), len(os.sched_getaffinity(0))
    job = Job(
        request.catalog.root,
        request.recipe,
        found.backbone,
        "cuda" if gpus else "cpu",
        max(1, cores // gpus - 1) if gpus else 1,
    )
    workers = min(request.workers, len(plan.todo))
    if (caution := _caution(found)) is not None:
        tally.say(caution)
    tally.say(f"starting {workers} workers on {_device_name()}")
    with local_cluster(workers, gpus) as client:
        client.register_plugin(PrepareWorker(found.backbone, job.device))
        if (address := dashboard_address(client)) is not None:
            tally.say(f"dashboard at {address}")
        tally.start()
        _run_blocks(client, plan, job, writer, request.checkpoint_s, BLOCKS_IN_FLIGHT * (workers + gpus), tally)
        return tally.elapsed_s * (workers + gpus)


def _caution(found: _Resolved) -> str | None:
    weights = found.about_backbone["weights"]
    if weights == "random":
        return "note: with random weights the masks mean nothing"
    if weights == "bundled":
        return (
            f"note: {found.backbone.name} is a stand-in for trying things out; "
            "for real work give --backbone vit_small_patch16_224.dino"
        )
    return None


def _run_blocks(
    client: Client, plan: Plan, job: Job, writer: StoreWriter, checkpoint_s: float, window: int, tally: Tally
) -> None:
    """Every block of the plan through attend and refine, `window` at a time, merged as they come."""
    where = "GPU" if job.device == "cuda" else "CPU"

    def submit(block: Block) -> Future:
        attended = client.submit(attend, block, job, key=f"attend-{block.index}", resources={where: 1})
        # Before further attends, so that pictures do not pile up.
        return client.submit(
            refine_and_write, attended, job, writer.fork, key=f"refine-{block.index}", resources={"CPU": 1}, priority=1
        )

    blocks = plan.blocks()
    running = as_completed([submit(block) for block in islice(blocks, window)])
    checkpoint_at = time.monotonic() + checkpoint_s
    try:
        for future in running:
            fork, result = _result(future, plan)
            if (block := next(blocks, None)) is not None:
                running.add(submit(block))
            with signals_held_back():
                writer.merge(fork, result.index, result.columns, result.errors)
                tally.add(result)
                if time.monotonic() >= checkpoint_at:
                    writer.checkpoint()
                    checkpoint_at = time.monotonic() + checkpoint_s
    finally:  # an error or Ctrl-C too keeps what is finished
        with signals_held_back():
            writer.checkpoint()


def _result(future: Future, plan: Plan) -> tuple[ForkSession, BlockResult]:
    try:
        return future.result()
    except KilledWorker:
        raise BuildError(
            f"{_block_name(future, plan)} killed its worker process three times: too little memory "
            "(try fewer --workers), or a picture that crashes its decoder; all other finished blocks are kept"
        ) from None
    except (IcechunkError, OSError) as error:
        reason = next(line for line in f"{error}\n{type(error).__name__}".splitlines() if line.strip(" x|"))
        raise BuildError(
            f"{_block_name(future, plan)} could not be written ({reason.strip(' x|')}); "
            "what is finished is kept, and the same command goes on from there"
        ) from error


def _block_name(future: Future, plan: Plan) -> str:
    block = plan.block(int(future.key.rpartition("-")[2]))
    return f"Block {block.index} ({block.ids[0]} to {block.ids[-1]})"


def _provenance(request: BuildRequest, found: _Resolved) -> dict[str, Any]:
    """All that decided the masks, and the process that began to make them."""
    catalog = request.catalog
    return {
        "recipe_name": request.recipe_name,
        "recipe": request.recipe.model_dump(mode="json"),
        "catalog": {
            "kind": catalog.kind,
            "root": str(catalog.root),
            "sha256": catalog.sha256,
            "rows": len(catalog),
            "classes": list(catalog.classes),
        },
        "backbone": found.about_backbone,
        "stats": list(STATS),
        "parent": None,
        "created_at": timestamp(),
        "code_version": __version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": _device_name(),
        "host": socket.gethostname(),
    }


def _device_name() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU ({platform.machine()})"
