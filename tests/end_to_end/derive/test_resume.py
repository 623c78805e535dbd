"""`masks resume`: any build goes on from what the store knows of it."""

import shutil

import pytest

from locloc.pipeline.backbones import vit
from locloc.pipeline.recipe import REVISIONS
from locloc.pipeline.store import list_versions, open_version

from ..conftest import assert_same
from .conftest import copy_of, killed, write_recipe


@pytest.fixture
def begin(good, small, tmp_path, request):
    """`begin(kind)`: the store that a command of this kind is about, and its arguments."""

    def make(kind: str):
        store = tmp_path / "masks.store"
        if kind == "build":
            return store, ["build", good, "--store", store, "--recipe", small, "--weights", "random"]
        if kind == "retry":
            return copy_of(request.getfixturevalue("broken").version, store), ["retry", f"{store}@v1", "--root", good]
        if kind == "refine":
            recipe = write_recipe(tmp_path / "tight.toml", threshold=0.35)
            return copy_of(request.getfixturevalue("whole"), store), ["refine", f"{store}@v1", "--recipe", recipe]
        raise ValueError(kind)

    return make


@pytest.mark.parametrize(
    "kind", ["build", pytest.param("retry", marks=pytest.mark.slow), pytest.param("refine", marks=pytest.mark.slow)]
)
def test_killed_and_resumed_it_is_as_undisturbed(kind, begin, on, tmp_path):
    store, command = begin(kind)
    tags = [info.tag for info in list_versions(store)] if kind != "build" else []
    with killed(2):
        on(*command, "--checkpoint-s", 0)
    (unfinished,) = (info for info in list_versions(store) if info.tag is None)
    done = unfinished.metadata["counts"]["blocks_done"]
    assert (done, unfinished.metadata["operation"]["kind"]) == ({"build": 2, "retry": 3, "refine": 2}[kind], kind)
    on("resume", store)
    resumed = open_version(f"{store}@latest")
    assert [info.tag for info in list_versions(store)] == [*tags, f"v{len(tags) + 1}"]
    assert len(resumed.provenance["resumed"]) == 1

    shutil.move(store, tmp_path / "resumed.store")
    begin(kind)
    on(*command)
    assert_same(open_version(f"{store}@latest"), open_version(f"{tmp_path}/resumed.store@latest"))


@pytest.mark.slow
def test_the_coordinator_of_a_resumed_build_loads_the_vit_once(begin, on, monkeypatch):
    store, command = begin("build")
    with killed(1):
        on(*command, "--checkpoint-s", 0)
    loaded, backbone = [], vit.Backbone
    monkeypatch.setattr(vit, "Backbone", lambda *arguments: loaded.append(arguments) or backbone(*arguments))
    on("resume", store)
    assert len(loaded) == 1


@pytest.mark.slow
def test_an_extension_that_was_killed(good, whole, small, tmp_path, fresh, on):
    photos, store = shutil.copytree(good / "odd", tmp_path / "photos" / "odd").parent, tmp_path / "masks.store"
    fresh(photos, small, store)
    shutil.copytree(good / "even", photos / "even")
    with killed(1):
        on("extend", f"{store}@v1", photos, "--checkpoint-s", 0)
    on("resume", store)
    resumed = open_version(f"{store}@v2")
    assert_same(whole, resumed)
    assert (resumed.provenance["parent"], resumed.provenance["operation"]["kind"]) == ("v1", "extend")


@pytest.mark.slow
def test_a_build_that_was_killed_before_it_was_published(begin, on, whole):
    """All blocks are there: no workers are asked for."""
    store, command = begin("build")
    with killed(4):
        on(*command, "--checkpoint-s", 0)
    assert "0 images/s" not in on("resume", store).stderr
    assert_same(whole, open_version(f"{store}@v1"))


@pytest.mark.slow
def test_a_killed_build_goes_on_without_what_it_excluded(begin, on):
    store, command = begin("build")
    with killed(1):
        on(*command, "--exclude", "odd/000*", "--checkpoint-s", 0)
    (unfinished,) = list_versions(store)
    on("resume", store)
    resumed = open_version(f"{store}@v1")
    assert resumed.ids == [name for name in resumed.ids if not name.startswith("odd/000")] and len(resumed) == 195
    assert resumed.provenance["catalog"] == unfinished.metadata["catalog"]
    assert resumed.catalog.exclude == ("odd/000*",)
    assert on(*command, "--exclude", "odd/000*").stdout.startswith(f"{store}@v1 already has fingerprint")


@pytest.mark.slow
def test_a_killed_build_keeps_its_name(begin, on):
    store, command = begin("retry")
    with killed(1):
        on(*command, "--name", "mended", "--checkpoint-s", 0)
    on("resume", store)
    assert open_version(f"{store}@latest").tag == "mended"


@pytest.mark.slow
def test_which_of_two_is_said(begin, on, tmp_path):
    store, command = begin("refine")
    with killed(1):
        on(*command, "--checkpoint-s", 0)
    write_recipe(tmp_path / "tight.toml", threshold=0.3)
    with killed(1):
        on(*command, "--checkpoint-s", 0)
    ids = [info.build_id for info in list_versions(store) if info.tag is None]
    assert len(ids) == 2
    said = on("resume", store, code=1)
    assert all(build_id[:12] in said.stderr for build_id in ids) and "--build" in said.stderr
    assert "--build" in on("resume", store, "--build", "nope", code=1).stderr
    on("resume", store, "--build", ids[0][:12])
    assert [info.build_id for info in list_versions(store)[1:]] == ids
    on("resume", store)
    assert [info.tag for info in list_versions(store)] == ["v1", "v2", "v3"]
    assert "has no unfinished build" in on("resume", store, code=1).stderr


def test_a_place_without_a_store_is_said(tmp_path, on):
    assert "is not a mask store" in on("resume", tmp_path / "nothing", code=1).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["build", "retry", "refine"])
def test_other_code_does_not_go_on(kind, begin, on, monkeypatch):
    """Its rows would be other than those that are there."""
    store, command = begin(kind)
    with killed(1):
        on(*command, "--checkpoint-s", 0)
    before = [(info.tag, info.build_id) for info in list_versions(store)]
    with monkeypatch.context() as patch:
        patch.setitem(REVISIONS, "saliency", REVISIONS["saliency"] + 1)
        said = on("resume", store, code=1)
    assert "whose stages give other masks than this one's" in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert [(info.tag, info.build_id) for info in list_versions(store)] == before


def test_a_parent_is_not_deleted_before_its_build_is_finished_or_given_up(begin, on, locloc):
    store, command = begin("retry")
    with killed(1):
        on(*command, "--checkpoint-s", 0)
    build = list_versions(store)[-1].build_id[:8]
    refused = locloc("masks", "delete", f"{store}@v1")
    assert (refused.code, f"delete it with `locloc masks delete {store}@{build}`" in refused.stderr) == (1, True)
    assert locloc("masks", "delete", f"{store}@{build}").code == 0
    assert [info.tag for info in list_versions(store)] == ["v1"]
    assert locloc("masks", "delete", f"{store}@v1").code == 0
    assert "no unfinished build" in on("resume", store, code=1).stderr
