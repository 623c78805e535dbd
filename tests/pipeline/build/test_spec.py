"""Fingerprints and provenance of builds, their blocks, and the check for changed files."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.backbones.vit import BackboneSpec
from locloc.pipeline.build.spec import (
    BuildSpec,
    check_heads,
    check_same_files,
    fingerprint,
    provenance,
    resolve_backbone,
)
from locloc.pipeline.build.tasks import TaskContext
from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import BackboneError, RecipeError, StoreError
from locloc.pipeline.recipe import REVISIONS, Recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.schema import block_count, input_digest

RECIPE = Recipe.model_validate({"mask_px": 64, "backbone": {"name": "vit_tiny_patch16_224", "size_px": 64}})
BACKBONE = {"sha256": "ab" * 32, "mean": [0.5] * 3, "std": [0.5] * 3, "name": "x", "weights": "random"}
BUILD = {"kind": "build"}


class Parent:
    """The part of a version that `provenance` uses."""

    tag = "v1"

    def __init__(self, published_at: str = "then"):
        self.provenance = {"published_at": published_at}


def catalog(folder: Path, names: list[str]):
    rows = CatalogRows()
    for name in names:
        rows.add(name, name)
    return build_catalog("test", folder, rows, [], where=lambda row, column: "", looked_for="")


@pytest.fixture
def some(tmp_path):
    return catalog(tmp_path, ["a", "b"])


def test_the_id_of_a_fresh_build_is_its_fingerprint(some):
    metadata = provenance(some, RECIPE, "small", BACKBONE, BUILD)
    assert metadata["build_id"] == metadata["fingerprint"] == fingerprint(RECIPE, some.sha256, BACKBONE)
    assert metadata["parent"] is None
    assert metadata["revisions"] == REVISIONS | {"refine.fast": RECIPE.refine.revision}
    assert metadata["catalog"]["sha256"] == some.sha256
    assert Recipe.model_validate(metadata["recipe"]) == RECIPE


def test_a_fingerprint_depends_on_recipe_catalog_weights_and_code(some, tmp_path, monkeypatch):
    found = {fingerprint(RECIPE, some.sha256, BACKBONE)}
    found.add(fingerprint(RECIPE.model_copy(update={"seed": 1}), some.sha256, BACKBONE))
    found.add(fingerprint(RECIPE, catalog(tmp_path, ["a", "c"]).sha256, BACKBONE))
    found.add(fingerprint(RECIPE, some.sha256, BACKBONE | {"sha256": "cd" * 32}))
    found.add(fingerprint(RECIPE, some.sha256, BACKBONE | {"mean": [0.4] * 3}))
    monkeypatch.setitem(REVISIONS, "decode", 99)
    found.add(fingerprint(RECIPE, some.sha256, BACKBONE))
    assert len(found) == 6
    assert fingerprint(RECIPE, some.sha256, BACKBONE | {"weights": "/moved"}) in found


def test_the_id_of_a_derived_build_depends_on_its_operation_and_parent(some):
    retry = {"kind": "retry", "why": "missing", "rows": 3}
    made = [
        provenance(some, RECIPE, "small", BACKBONE, operation, parent)
        for operation, parent in (
            (retry, Parent()), (retry | {"rows": 4}, Parent()), (retry | {"why": "crashed"}, Parent()),
            ({"kind": "refine"}, Parent()), (retry, Parent("later")),
        )
    ]  # fmt: skip
    assert len({metadata["build_id"] for metadata in made}) == len(made)
    assert len({metadata["fingerprint"] for metadata in made}) == 1
    assert all(metadata["parent"] == "v1" and metadata["build_id"] != metadata["fingerprint"] for metadata in made)
    assert provenance(some, RECIPE, "small", BACKBONE, retry, Parent())["build_id"] == made[0]["build_id"]


@pytest.mark.parametrize(("heads", "there", "message"), [((0, 5), 3, "head 5, .* has heads 0 to 2"), ("mean", 3, None)])
def test_heads_that_the_backbone_lacks(heads, there, message):
    recipe = Recipe.model_validate({"saliency": {"heads": heads}})
    if message is None:
        check_heads(recipe, there)
        return
    with pytest.raises(RecipeError, match=message):
        check_heads(recipe, there)


def test_a_backbone_is_identified_by_its_weights():
    found = resolve_backbone(RECIPE, "random")
    assert found.spec == BackboneSpec("vit_tiny_patch16_224", 64, weights="random", sha256=found.metadata["sha256"])
    assert (found.attention, found.metadata["weights"]) == ((3, 4, 4), "random")
    assert resolve_backbone(RECIPE, "random", found.metadata["sha256"]).spec == found.spec
    with pytest.raises(BackboneError, match="other weights"):
        resolve_backbone(RECIPE, "random", "00" * 32)


def files(folder: Path, count: int):
    """A catalog of images as they are, their statuses and digests."""
    names = [f"{n:03}" for n in range(count)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    digests = np.stack([input_digest(name.encode()) for name in names])
    return catalog(folder, names), np.full(count, Status.OK, np.uint8), digests


def test_unchanged_files_are_accepted(tmp_path):
    listed, status, digest = files(tmp_path, 100)
    check_same_files(listed, status, digest, "v1")
    (tmp_path / "000").unlink()  # says nothing of what was there
    check_same_files(listed, status, digest, "v1")


def test_a_file_that_was_replaced_is_named(tmp_path):
    listed, status, digest = files(tmp_path, 20)
    (tmp_path / "007").write_bytes(b"other")
    with pytest.raises(StoreError, match="007 was another file when s@v1 was made .* --store"):
        check_same_files(listed, status, digest, "s@v1")
    with pytest.raises(StoreError, match="007 was another file .* the old file back, .*`locloc masks build .* s`"):
        check_same_files(listed, status, digest, "s@v1", extends=True)


def test_rows_without_a_digest_are_not_compared(tmp_path):
    listed, status, digest = files(tmp_path, 20)
    (tmp_path / "007").write_bytes(b"other")
    digest[7] = 0
    status[7] = Status.MISSING
    check_same_files(listed, status, digest, "v1")
    (tmp_path / "008").write_bytes(b"other")
    status[8] = Status.PENDING
    check_same_files(listed, status, digest, "v1")
    check_same_files(listed, status, np.zeros_like(digest), "v1")


def spec_of(rows: int) -> BuildSpec:
    found = CatalogRows()
    for number in range(rows):
        found.add(f"{number:07}", f"{number:07}.jpg")
    listed = build_catalog("test", Path("/data"), found, [], where=lambda row, column: "", looked_for="")
    store = StoreLocation.of("/data/masks.store")
    return BuildSpec(store, listed, TaskContext(listed.root, RECIPE, None), {}, (3, 4, 4))


def nothing_done(spec: BuildSpec) -> np.ndarray:
    return np.zeros(block_count(len(spec.catalog)), np.uint8)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 1000])
def test_blocks_cover_every_row_once(rows):
    spec = spec_of(rows)
    blocks = list(spec.unfinished_blocks(nothing_done(spec)))
    assert [name for block in blocks for name in block.ids] == [f"{number:07}" for number in range(rows)]
    assert all(block.start == 64 * block.index and len(block) <= 64 for block in blocks)
    assert len(blocks) == block_count(rows)
    assert all(path == f"{name}.jpg" for block in blocks for name, path in zip(block.ids, block.paths, strict=True))


def test_finished_blocks_are_left_out():
    done = np.array([1, 0, 1, 0], np.uint8)
    assert [block.index for block in spec_of(200).unfinished_blocks(done)] == [1, 3]
    assert list(spec_of(200).unfinished_blocks(np.ones(4))) == []


def test_the_blocks_of_100000_rows_are_made_lazily():
    large = spec_of(100_000)
    tracemalloc.start()
    try:
        count = sum(len(block) for block in large.unfinished_blocks(nothing_done(large)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 500_000
