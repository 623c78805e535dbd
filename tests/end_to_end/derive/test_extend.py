"""`masks extend`: a version of old and new images, for which only the new ones are made."""

import shutil

import pytest

from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.store import list_versions, open_version

from ..conftest import assert_same
from .conftest import FAILED, copy_of

COUNT = """
from locloc.pipeline.backbones import vit
from locloc.pipeline.build import tasks
tasks.seen, tasks.allowed = 0, vit.Backbone.cls_attention
def counted(self, rgb):
    tasks.seen += len(rgb)
    return tasks.allowed(self, rgb)
vit.Backbone.cls_attention = counted
"""
SEEN = "__import__('locloc.pipeline.build.tasks').pipeline.build.tasks.seen"
UNCOUNT = """
from locloc.pipeline.backbones import vit
from locloc.pipeline.build import tasks
vit.Backbone.cls_attention = tasks.allowed
"""


@pytest.fixture
def images_seen(cluster):
    """How many images went through the ViT since the test began."""
    cluster.run(exec, COUNT, {})
    yield lambda: next(iter(cluster.run(eval, SEEN, {}).values()))
    cluster.run(exec, UNCOUNT, {})


@pytest.mark.slow
def test_a_folder_that_has_grown_is_a_fresh_build_of_it(
    good, whole, tmp_path, make_folder, fresh, small, on, images_seen
):
    """New files come between old ones in each class, and in a new class of its own, so that labels move too."""
    photos, store = shutil.copytree(good, tmp_path / "photos"), tmp_path / "masks.store"
    for number in (0, 2, 150):
        (photos / f"even/{number:04}.jpg").unlink()
    shutil.rmtree(photos / "odd")
    fresh(photos, small, store)
    assert images_seen() == 97
    shutil.rmtree(photos)
    shutil.copytree(good, photos)
    before = {info.tag: info.metadata for info in list_versions(store)}
    on("extend", f"{store}@v1", photos)
    assert images_seen() == 200, "97 at first, and the 103 new ones"
    grown = open_version(f"{store}@v2")
    assert_same(whole, grown)
    assert grown.provenance["fingerprint"] == whole.provenance["fingerprint"]
    assert (grown.provenance["operation"], grown.provenance["parent"]) == ({"kind": "extend", "rows": 103}, "v1")
    assert grown.provenance["catalog"] | {"root": ""} == whole.provenance["catalog"] | {"root": ""}
    assert list_versions(store)[0].metadata == before["v1"]
    assert verify_version(grown).ok
    said = on("extend", f"{store}@v2", photos)
    assert "nothing to do" in said.stdout
    assert "no 'mine' was made; use " in on("extend", f"{store}@v2", photos, "--name", "mine", code=1).stderr
    said = on("build", photos, "--store", store, "--recipe", small, "--weights", "random")
    assert f"{store}@v2 already has fingerprint" in said.stdout
    assert images_seen() == 200


@pytest.mark.slow
def test_rows_that_had_failed_stay_so_with_their_reasons(broken, store, on):
    old, extra = open_version(f"{store}@v1"), broken.folder / "even" / "0005.jpg"
    shutil.copy(broken.folder / "odd/0001.jpg", extra)
    try:
        on("extend", f"{store}@v1", broken.folder)
    finally:
        extra.unlink()
    grown = open_version(f"{store}@v2")
    assert len(grown) == len(old) + 1
    for name in FAILED:
        assert grown.reasons([grown.row(name)]) == old.reasons([old.row(name)])
        assert grown.reasons([grown.row(name)])[0][0].label == FAILED[name]
    assert verify_version(grown).ok


def lists(folder, rows: dict[str, str]):
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows.items())
    folder.write_text(text)
    return folder


def test_lists_are_joined_by_their_root(good, tmp_path, fresh, small, on):
    first = {f"even/{number:04}.jpg": "cat" for number in range(0, 20, 2)}
    second = {f"odd/{number:04}.jpg": "ape" for number in range(1, 9, 2)}
    one, two = lists(tmp_path / "one.csv", first), lists(tmp_path / "two.csv", second)
    both = lists(tmp_path / "both.csv", first | second)
    fresh(one, small, tmp_path / "masks.store", root=good)
    on("extend", f"{tmp_path}/masks.store@v1", two, "--root", good)
    grown = open_version(f"{tmp_path}/masks.store@v2")
    assert_same(fresh(both, small, tmp_path / "fresh.store", root=good), grown)
    assert grown.provenance["catalog"]["classes"] == ["ape", "cat"]

    contrary = lists(tmp_path / "contrary.csv", {"even/0000.jpg": "dog", "odd/0011.jpg": "ape"})
    said = on("extend", f"{tmp_path}/masks.store@v1", contrary, "--root", good, code=1)
    assert "is in both catalogs with another label: 'cat' in the old one, 'dog' in the new" in said.stderr
    elsewhere = on("extend", f"{tmp_path}/masks.store@v1", lists(tmp_path / "three.csv", second), code=1)
    assert "None of the 4 images listed exists" in elsewhere.stderr and "--root" in elsewhere.stderr
    assert [info.tag for info in list_versions(tmp_path / "masks.store")] == ["v1", "v2"]

    more = tmp_path / "more/cow"
    more.mkdir(parents=True)
    for number in (1, 3):
        shutil.copy(good / f"odd/{number:04}.jpg", more)
    on("extend", f"{tmp_path}/masks.store@v1", tmp_path / "more")
    old, joined = open_version(f"{tmp_path}/masks.store@v1"), open_version(f"{tmp_path}/masks.store@v3")
    new = [f"{tmp_path.relative_to(joined.catalog.root)}/more/cow/{number:04}.jpg" for number in (1, 3)]
    assert joined.catalog.root in good.parents and sorted(joined.ids) == sorted([*first, *new])
    assert (joined.read_masks([joined.row(name) for name in old.ids]) == old.read_masks(slice(None))).all()
    assert joined.provenance["catalog"]["classes"] == ["cat", "cow"]
    assert verify_version(joined).ok and verify_version(old).ok


@pytest.mark.slow
def test_images_that_were_replaced_are_not_mixed_with_their_old_masks(good, whole, tmp_path, on):
    store = copy_of(whole, tmp_path / "masks.store")
    names = sorted(good.rglob("*.jpg"))
    kept = {file: file.read_bytes() for file in names}
    try:
        for file in names:
            file.write_bytes(kept[names[0]])
        shutil.copy(names[0], good / "even" / "new.jpg")
        said = on("extend", f"{store}@v1", good, code=1)
        assert "was another file when" in said.stderr and "`locloc masks build IMAGES --store" in said.stderr
    finally:
        (good / "even" / "new.jpg").unlink()
        for file, data in kept.items():
            file.write_bytes(data)
    assert [info.tag for info in list_versions(store)] == ["v1"]
