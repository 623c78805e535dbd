"""`masks refine`: new masks from kept attention. No ViT runs, and the store grows by the masks alone."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.build import build
from locloc.pipeline.build import incremental as derive
from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.status import Status
from locloc.pipeline.store import list_versions, open_version

from ..conftest import assert_same, everything, image
from .conftest import chunk_bytes, chunk_files, column_keys, copy_of, write_recipe

FORBID = """
from locloc.pipeline.backbones import vit
from locloc.pipeline.build import tasks
from locloc.pipeline.errors import BackboneError
def refuse(*_): raise BackboneError("a backbone is used here")
tasks.allowed = vit.load_backbone, vit.Backbone.cls_attention
vit.load_backbone = vit.Backbone.cls_attention = refuse
"""
ALLOW = """
from locloc.pipeline.backbones import vit
from locloc.pipeline.build import tasks
vit.load_backbone, vit.Backbone.cls_attention = tasks.allowed
"""


@contextmanager
def no_backbone(cluster, here: bool = True) -> Iterator[None]:
    """Whoever loads a backbone, in the worker or here, or runs one, gets an error."""

    def refuse(*_):
        raise AssertionError("a backbone is loaded here")

    cluster.run(exec, FORBID, {})
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in (build, derive) if here else ():
                patch.setattr(module, "resolve_backbone", refuse)
            yield
    finally:
        cluster.run(exec, ALLOW, {})


@pytest.mark.slow
def test_500_images_are_refined_without_a_vit_and_the_store_grows_by_masks(
    cluster, tmp_path, make_folder, fresh, small, on
):
    photos = make_folder(tmp_path / "photos", 500)
    parent = fresh(photos, small, tmp_path / "masks.store")
    recipe = write_recipe(tmp_path / "tight.toml", threshold=0.35)
    store, chunks_before = tmp_path / "masks.store", chunk_files(tmp_path / "masks.store")
    with no_backbone(cluster):
        on("refine", parent.name, "--recipe", recipe)
        with pytest.raises(AssertionError, match="a backbone is loaded here"):  # were it loaded, it would be seen
            on("build", photos, "--store", tmp_path / "other", "--recipe", small, "--weights", "random")
    with no_backbone(cluster, here=False):
        said = on("build", photos, "--store", tmp_path / "other", "--recipe", small, "--weights", "random", code=1)
        assert "a backbone is used here" in said.stderr, "nor would it go unseen in the worker"
    refined = open_version(f"{store}@v2")
    added = [size for name, size in chunk_files(store).items() if name not in chunks_before]
    masks = [f"mask/c/{block}/0/0" for block in range(8)]
    attention = [f"attention/c/{block}/0/0/0" for block in range(8)]
    mask_bytes, attention_bytes = sum(chunk_bytes(refined, masks)), sum(chunk_bytes(refined, attention))
    column_bytes = sum(chunk_bytes(refined, column_keys()))
    kinds = ("manifests", "snapshots", "transactions")
    metadata = [file.stat().st_size for kind in kinds for file in (store / kind).iterdir()]
    print(
        f"500 images refined: {mask_bytes} bytes of masks, {column_bytes} of small columns; {attention_bytes} bytes of "
        f"attention shared; all metadata of both versions {sum(metadata)}"
    )
    reasons = [f"error/c/{block}/0" for block in range(8)]
    assert sorted(added) == chunk_bytes(refined, masks + column_keys() + reasons)
    assert attention_bytes > 8 * 1000, "and attention is not what lies in manifests"
    before, after = everything(parent), everything(refined)
    assert np.array_equal(before["attention"], after["attention"])
    assert (before["mask"] != after["mask"]).any((1, 2)).mean() > 0.1
    assert_same(fresh(photos, recipe, tmp_path / "fresh.store"), refined)
    about = refined.provenance
    assert (about["operation"], about["parent"]) == ({"kind": "refine"}, "v1")
    assert (about["recipe_name"], about["recipe"]["saliency"]["threshold"]) == ("tight", 0.35)
    assert about["recipe_why"] == f"from the file {recipe}"
    assert verify_version(refined).ok and verify_version(parent).ok


@pytest.mark.slow
@pytest.mark.parametrize("mask_px", [32, 128])
def test_masks_of_another_size(mask_px, broken, store, tmp_path, fresh, on):
    """Rows that had failed stay failed, with their reasons."""
    recipe = write_recipe(tmp_path / "sized.toml", mask_px=mask_px)
    on("refine", f"{store}@v1", "--recipe", recipe)
    refined = open_version(f"{store}@v2")
    assert refined.read_masks([0]).shape == (1, mask_px, mask_px)
    assert verify_version(refined).ok and verify_version(open_version(f"{store}@v1")).ok
    if mask_px == 32:
        assert_same(fresh(broken.folder, recipe, tmp_path / "fresh.store"), refined)


@pytest.mark.slow
def test_thresholds_alone_need_no_images(good, tmp_path, fresh, small, on):
    photos = shutil.copytree(good, tmp_path / "photos")
    parent = fresh(photos, small, tmp_path / "masks.store")
    recipe = write_recipe(tmp_path / "plain.toml", engine="threshold")
    wanted = fresh(photos, recipe, tmp_path / "fresh.store")
    shutil.rmtree(photos)
    on("refine", parent.name, "--recipe", recipe)
    assert_same(wanted, open_version(f"{tmp_path}/masks.store@v2"))


def test_images_that_were_changed_since_are_rows_with_a_reason(good, whole, tmp_path, fresh, on):
    photos, store = shutil.copytree(good, tmp_path / "photos"), copy_of(whole, tmp_path / "masks.store")
    Image.fromarray(image(999)).save(photos / "even/0010.jpg")
    (photos / "odd/0011.jpg").unlink()
    (photos / "odd/0013.jpg").write_bytes(b"no image")
    recipe = write_recipe(tmp_path / "tight.toml", threshold=0.35)
    on("refine", f"{store}@v1", "--recipe", recipe, "--root", photos)
    refined = open_version(f"{store}@v2")
    names = ("even/0010.jpg", "odd/0011.jpg", "odd/0013.jpg")
    assert refined.reasons([refined.row(name) for name in names]) == [
        (Status.MISSING, "the file was changed since its attention was taken"),
        (Status.MISSING, "no such file"),
        (Status.UNDECODABLE, "not an image of a known format"),
    ]
    assert refined.provenance["counts"]["missing"] == 2
    assert verify_version(refined).ok
    shutil.copy(good / "odd/0011.jpg", photos / "odd/0011.jpg")
    shutil.copy(good / "odd/0013.jpg", photos / "odd/0013.jpg")
    on("retry", f"{store}@v2")
    assert_same(fresh(photos, recipe, tmp_path / "fresh.store"), open_version(f"{store}@v3"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size_px": 128}, "backbone.size_px is 128 in this recipe and was 64 in"),
        ({"fit": "centre_crop"}, "images.fit is 'centre_crop' in this recipe and was 'stretch' in"),
    ],
)
def test_recipes_that_need_other_attention_are_refused(settings, message, whole, tmp_path, on):
    recipe = write_recipe(tmp_path / "other.toml", **settings)
    said = on("refine", whole.name, "--recipe", recipe, code=1)
    assert message in said.stderr and "`locloc masks build` makes it" in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert [info.tag for info in list_versions(whole.store)] == ["v1"]


def test_the_same_recipe_is_there_already(whole, small, on):
    for name in ([], ["--name", "v1"]):
        assert "already has fingerprint" in on("refine", whole.name, "--recipe", small, *name).stdout
    refused = on("refine", whole.name, "--recipe", small, "--name", "mine", code=1).stderr
    assert "no 'mine' was made; use " in refused
