"""Versions from versions. Builds run on one worker process that all tests here share, which the first bytes of a file
can sabotage (tests/sabotage)."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client
from zarr.core.sync import sync

from locloc.pipeline.build.build import BuildRequest, build_version
from locloc.pipeline.build.cluster import ClusterSpec, local
from locloc.pipeline.build.cluster import cluster as running
from locloc.pipeline.build.cluster.local import local_cluster
from locloc.pipeline.build.spec import RunSettings
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.io import exit_codes
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.store import Version, open_version
from locloc.pipeline.store.schema import COLUMNS
from locloc.pipeline.store.writer import StoreWriter

SABOTAGE = Path(__file__).parents[2] / "sabotage"
INLINE = 512  # bytes: smaller chunks lie in the manifest

SMALL = """
mask_px = {mask_px}
[images]
fit = "{fit}"
[backbone]
name = "vit_tiny_patch16_224"
size_px = {size_px}
[saliency]
foreground_from = 0.5
background_below = 0.2
threshold = {threshold}
[refine]
engine = "{engine}"
"""


def write_recipe(
    file: Path,
    mask_px: int = 64,
    size_px: int = 64,
    threshold: float = 0.25,
    engine: str = "opencv",
    fit: str = "stretch",
) -> Path:
    """Small, and with thresholds at which random weights leave something to refine."""
    file.write_text(SMALL.format(mask_px=mask_px, size_px=size_px, threshold=threshold, engine=engine, fit=fit))
    return file


@pytest.fixture(scope="package")
def cluster() -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SABOTAGE))
        # Its only worker is killed and started again, which on a busy machine takes as long as torch's imports do.
        patch.setattr(running, "NO_WORKERS_S", 600)
        patch.setitem(local._CONFIG, "distributed.scheduler.no-workers-timeout", "600s")
        # A forked worker has the environment of whichever test was the first to start one.
        patch.setitem(local._CONFIG, "distributed.worker.multiprocessing-method", "spawn")
        with local_cluster(1) as client:
            yield client


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes") / "small.toml")


@pytest.fixture(scope="package")
def fresh(cluster: Client) -> Callable[..., Version]:
    """`fresh(images, recipe, store)` builds in a store of its own."""
    run = RunSettings(ClusterSpec(scheduler=cluster.scheduler.address), checkpoint_s=1000, image_limit_s=60)

    def make(images: Path, recipe: Path, store: Path, weights: str = "random", root: Path | None = None) -> Version:
        request = BuildRequest(
            read_catalog(images, root=root), store, load_recipe(str(recipe)), recipe.stem, weights, run=run
        )
        summary = build_version(request)
        assert not summary.already_there
        return open_version(f"{store}@{summary.version}")

    return make


@pytest.fixture
def on(cluster: Client, locloc: Callable) -> Callable:
    """`on("retry", ...)` runs `locloc masks retry ...` on the shared worker, and checks its exit code."""

    def run(command: str, *arguments, code: int = 0):
        where = ["--scheduler", cluster.scheduler.address, "--checkpoint-s", 1000]
        said = locloc("masks", command, *where, *arguments)
        assert said.code == code, said.stderr
        return said

    return run


FAILED = {"even/0004.jpg": "missing", "even/0150.jpg": "undecodable", "odd/0195.jpg": "missing"}  # blocks 0, 1 and 3


@pytest.fixture(scope="package")
def good(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable) -> Path:
    """200 images: four blocks, the last one short."""
    return make_folder(tmp_path_factory.mktemp("good") / "photos", 200)


@pytest.fixture(scope="package")
def whole(good: Path, fresh: Callable, small: Path) -> Version:
    """A fresh build of `good`."""
    return fresh(good, small, good.parent / "masks.store")


@pytest.fixture(scope="package")
def broken(good: Path, tmp_path_factory: pytest.TempPathFactory, fresh: Callable, small: Path) -> SimpleNamespace:
    """`good` with a broken link, a file that is no image, and a folder named like one; `.folder` and `.version`."""
    folder = shutil.copytree(good, tmp_path_factory.mktemp("broken") / "photos")
    (folder / "even/0004.jpg").unlink()
    (folder / "even/0004.jpg").symlink_to("nowhere.jpg")
    (folder / "even/0150.jpg").write_bytes(b"no image")
    (folder / "odd/0195.jpg").unlink()
    (folder / "odd/0195.jpg").mkdir()
    return SimpleNamespace(folder=folder, version=fresh(folder, small, folder.parent / "masks.store"))


@pytest.fixture
def store(broken: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the store of `broken`, to be changed."""
    return copy_of(broken.version, tmp_path / "masks.store")


def copy_of(version: Version, to: Path) -> Path:
    return shutil.copytree(str(version.store), to)


def chunk_files(store: Path) -> dict[str, int]:
    """Chunks with a file of their own, and their bytes."""
    return {file.name: file.stat().st_size for file in (store / "chunks").iterdir()}


def chunk_bytes(version: Version, keys: list[str]) -> list[int]:
    """Stored sizes of those chunks of a version that have a file of their own, ascending."""
    sizes = [sync(version.group.store.getsize(key)) for key in keys]
    return sorted(size for size in sizes if size > INLINE)


def column_keys() -> list[str]:
    return [f"{name}/c/0{'/0' * len(tail)}" for name, (_, tail) in COLUMNS.items()]


class Killed(BaseException):
    """As SIGKILL would leave the store: nothing is written after it."""


@contextmanager
def killed(checkpoints: int) -> Iterator[None]:
    """The command inside dies after so many checkpoints with blocks in them."""
    real, left = StoreWriter.checkpoint, checkpoints

    def checkpoint(self: StoreWriter) -> None:
        nonlocal left
        if left:
            left -= bool(self._dirty)
            real(self)
        if not left:
            raise Killed

    def reraise(error: BaseException) -> int:
        raise error

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StoreWriter, "checkpoint", checkpoint)
        patch.setattr(exit_codes, "_report", reraise)  # a killed process reports nothing
        yield
