"""Versions are read as they were written: rows, tables, other processes, other libraries, and clear errors."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import icechunk
import numpy as np
import pyarrow as pa
import pytest
import zarr

from locloc.pipeline.errors import StoreError
from locloc.pipeline.masks.pseudo_mask import working_geometry
from locloc.pipeline.masks.quality import PARTS
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.store import open_version, reader, versions
from locloc.pipeline.store.schema import BLOCK_ROWS
from locloc.pipeline.store.writer import StoreWriter


def test_versions_are_shown_without_what_makes_masks():
    """Whoever lists and shows versions waits for imports most of the time."""
    code = "import sys, locloc.pipeline.store, locloc.pipeline.commands.rendering.versions; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "zarr" in imported
    assert not {"torch", "cv2", "PIL", "pandas", "dask", "locloc.pipeline.catalogs.registry"} & set(imported)


def test_what_was_written_is_read(store, build):
    assert build.publish(store) == "v1"
    build.check(f"{store}@v1")
    version, wanted = open_version(f"{store}@latest"), build.catalog()
    assert len(version) == build.ROWS
    assert version.tag == "v1"
    assert version.ids == wanted.table["id"].to_pylist()
    assert version.table.column_names == [
        "id", "path", "label", "split", "status", "error", "width", "height", "x0", "y0", "x1", "y1",
        "mask_share", "unknown_share", "threshold_iou", "quality", *PARTS, "seen", "decision", "note",
    ]  # fmt: skip
    assert isinstance(version.table, pa.Table)
    assert version.table["label"].to_pylist() == wanted.table["label"].to_pylist()
    assert version.table["split"][:5].to_pylist() == ["", "train", "val", "test", ""]
    assert version.table["status"][6:8].to_pylist() == ["ok", "undecodable"]
    assert sum(error is not None for error in version.table["error"].to_pylist()) == 3
    shares = version.table["mask_share"].to_pylist()
    assert shares[7] is None and shares[8] == version.read_column("stats")[8, 0]
    boxes, rows = version.catalog_boxes()
    assert np.array_equal(rows, np.repeat(np.arange(build.ROWS), np.arange(build.ROWS) % 3))
    assert boxes[0].tolist() == [1, 2, 4, 5]
    assert version.provenance["counts"]["undecodable"] == 3
    assert version.row(version.ids[31]) == 31


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(60, 70), slice(140, 999), slice(9, 2), slice(0, 150, 7), [5], [149, 0, 64, 63, 0], [-1], [],
     np.arange(150) % 2 == 0, range(3, 9)],
)  # fmt: skip
def test_rows_are_read_as_numpy_indexes(store, rows, build):
    build.publish(store)
    version, everything = open_version(f"{store}@v1"), np.concatenate([build.content(block)[0] for block in range(3)])
    wanted = (
        everything[list(rows) if isinstance(rows, range) else rows] if len(np.shape(rows)) != 1 or len(rows) else []
    )
    found = version.read_masks(rows)
    assert found.dtype == bool
    assert found.shape[1:] == (build.MASK_PX, build.MASK_PX)
    assert len(found) == len(wanted)
    assert np.array_equal(found, np.reshape(wanted, found.shape))


def test_rows_are_read_by_their_ids(store, build):
    build.publish(store)
    version = open_version(f"{store}@v1")
    wanted = version.read_masks([149, 3])
    ids = [version.ids[149], version.ids[3]]
    for given in (ids, tuple(ids), np.array(ids), np.array(ids, object), pa.array(ids), pa.chunked_array([ids])):
        assert np.array_equal(version.read_masks(given), wanted)
    assert np.array_equal(version.read_column("box", ids), version.read_column("box", [149, 3]))
    assert np.array_equal(version.read_attention(ids[:1]), version.read_attention([149]))
    assert [status.label for status, _ in version.reasons(ids)] == ["ok", "ok"]
    assert version.read_masks(version.table["id"]).shape == version.read_masks().shape
    with pytest.raises(StoreError, match="holds no image 'nope'"):
        version.read_masks(["nope"])
    with pytest.raises(TypeError, match=r"write \['nope'\] for one id"):
        version.read_masks("nope")


@pytest.mark.parametrize("fit", ["stretch", "centre_crop"])
def test_a_mask_at_the_size_of_its_image(store, build, fit):
    """Rows of 150 images whose sizes and recipe are set by hand."""
    recipe = load_recipe("pocket")
    recipe = recipe.model_copy(update={"images": recipe.images.model_copy(update={"fit": fit})})
    metadata, begin = build.METADATA | {"recipe": recipe.model_dump(mode="json")}, build.begin
    sizes, content = np.random.default_rng(0).integers(20, 90, (64, 2)), build.content

    def with_sizes(block, salt=0):
        masks, attention, columns, errors = content(block, salt)
        columns["size"] = sizes[: len(masks)].astype(np.int32)
        return masks, attention, columns, errors

    build.content = with_sizes
    build.begin = lambda writer, fingerprint: begin(writer, fingerprint, metadata)
    build.publish(store)
    version = open_version(f"{store}@v1")
    image_id = version.ids[5]
    stored, large = version.mask(image_id), version.mask(image_id, size="original")
    width, height = sizes[5].tolist()
    assert np.array_equal(stored, version.read_masks([5])[0])
    assert large.dtype == bool and large.shape == (height, width)
    shown = working_geometry(sizes[5], recipe, build.MASK_PX)
    assert np.array_equal(large, shown.image_back(stored))
    assert np.array_equal(version.box(image_id), version.read_column("box", [5])[0])
    ids = [version.ids[70], image_id, version.ids[7]]
    found = dict(version.original_masks(ids))
    assert list(found) == ids[:2] and np.array_equal(found[image_id], large), "a row without a mask is left out"
    assert len(list(version.original_masks(slice(0, 130)))) == 128
    with pytest.raises(StoreError, match="No size 'full'; known: original, stored"):
        version.mask(image_id, size="full")
    for read in (version.mask, version.box):
        with pytest.raises(StoreError, match=r"has no mask in .*@v1: undecodable \(cannot be decoded: block 0\)"):
            read(version.ids[7])


@pytest.mark.parametrize("rows", [[150], [-151], np.ones(149, bool)])
def test_missing_rows_are_an_index_error(store, rows, build):
    build.publish(store)
    with pytest.raises(IndexError):
        open_version(f"{store}@v1").read_masks(rows)


def test_a_version_that_is_not_finished_is_told_as_such(store, build):
    with StoreWriter(store) as writer:
        build.begin(writer, metadata=build.METADATA | {"name": "mine"})
        build.write(writer, 0)
        writer.checkpoint()
    with pytest.raises(
        StoreError, match=r"@mine is not finished yet: it will be the name of the build abababab, which"
    ):
        open_version(f"{store}@mine")
    with pytest.raises(StoreError, match=r"has no version 'yours'; it has none yet"):
        open_version(f"{store}@yours")


@pytest.mark.parametrize("rows", [3, None, [1.5], [[1, 2]], [[1, 2], [3]], np.float32([1])])
def test_what_is_no_selection_of_rows_is_told(store, rows, build):
    build.publish(store)
    with pytest.raises(TypeError, match=r"^rows are a list of ids, a slice, row numbers or flags, not "):
        open_version(f"{store}@v1").read_masks(rows)


def test_latest_is_found_when_it_is_published_during_the_open(store, monkeypatch, build):
    with StoreWriter(store) as writer:  # a store without a version
        build.begin(writer)

    def published_just_before(repository):
        monkeypatch.undo()  # the writer calls it too
        build.publish(store)
        return versions.latest_tag(repository)

    monkeypatch.setattr(reader, "latest_tag", published_just_before)
    assert open_version(f"{store}@latest").tag == "v1"


def test_missing_chunks_are_an_error_of_one_line(store, build):
    build.publish(store)
    for file in (store / "chunks").iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="masks.store@v1: ") as caught:
        open_version(f"{store}@v1").read_masks()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("@v1", "names no version"), ("{store}", "names no version; write .*@latest"), ("{store}@", "names no version"),
        ("{store}@v11", "did you mean 'v1'"), ("{store}x@v1", "is not a mask store"),
    ],
)  # fmt: skip
def test_missing_versions(store, name, message, build):
    build.publish(store)
    with pytest.raises(StoreError, match=message):
        open_version(name.format(store=store))
    with pytest.raises(StoreError, match="holds no image 'nope'"):
        open_version(f"{store}@v1").row("nope")


def read_in_child(version) -> tuple[int, int]:
    return int(version.read_masks([3, 70]).sum()), len(version.ids)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_versions_are_passed_to_worker_processes(store, method, build):
    build.publish(store)
    version = open_version(f"{store}@v1")
    expected = read_in_child(version)  # open, with Icechunk's threads running, before the children start
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(read_in_child, [version] * 4)) == [expected] * 4


@pytest.mark.parametrize("opened", [True, False])
def test_a_forked_process_gets_an_error_instead_of_hanging(store, build, opened):
    """If its parent has opened a store, or with Icechunk 2 if it has imported the package."""
    build.publish(store)
    if not opened and icechunk.__version__ < "2":
        pytest.skip("Icechunk 1 starts no thread at import")
    code = (
        "import os, sys\nfrom locloc.pipeline.store import open_version\n"
        "from locloc.pipeline.errors import StoreError\n"
        f"v = open_version(sys.argv[1]); {opened} and v.read_masks([0])\n"
        "if os.fork() == 0:\n"
        "    try: v.read_masks([0])\n"
        "    except StoreError as error: print(error); os._exit(0)\n"
        "    os._exit(1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{store}@v1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "forkserver" in done.stdout) == (0, True)


def test_any_zarr_reader_can_open_a_version(store, build):
    """With icechunk and zarr only, following the docstring of schema.py."""
    build.publish(store)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    root = zarr.open_group(repository.readonly_session(tag="v1").store, mode="r")
    offsets, data = root["catalog/id/offsets"][:], root["catalog/id/bytes"][:]
    assert data[offsets[1] : offsets[2]].tobytes().decode() == "ä/0001\n.jpg"
    assert root["mask"].chunks == (BLOCK_ROWS, build.MASK_PX, build.MASK_PX // 8)
    assert np.array_equal(np.unpackbits(root["mask"][:64], axis=-1).astype(bool), build.content(0)[0])
