"""Versions of an older release, whose pixels this one can make too, are derived and resumed as by that release."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from locloc.pipeline.recipe import KEPT_REVISIONS, REVISIONS
from locloc.pipeline.store import open_version

from ..conftest import assert_same
from .conftest import killed, write_recipe


@contextmanager
def older() -> Iterator[None]:
    """Builds of the oldest revisions that are kept."""
    with pytest.MonkeyPatch.context() as patch:
        for stage, kept in KEPT_REVISIONS.items():
            patch.setitem(REVISIONS, stage, kept[0])
        yield


def oldest(version) -> bool:
    return all(version.provenance["revisions"][stage] == kept[0] for stage, kept in KEPT_REVISIONS.items())


@pytest.mark.parametrize(
    "command",
    ["refine", pytest.param("retry", marks=pytest.mark.slow), pytest.param("extend", marks=pytest.mark.slow)],
)
def test_derived_as_by_their_release(command, good, small, tmp_path, make_folder, fresh, on):
    photos, store, copy = make_folder(tmp_path / "photos", 20), tmp_path / "masks.store", tmp_path / "copy.store"
    spoiled = next(photos.rglob("*.jpg"))
    intact, _ = spoiled.read_bytes(), spoiled.write_bytes(b"no image")
    with older():
        before = fresh(photos, small, store)
    assert oldest(before)
    shutil.copytree(store, copy)
    spoiled.write_bytes(intact)
    if command == "extend":
        spoiled.write_bytes(b"no image")
        shutil.copy(next(good.rglob("*.jpg")), photos / "one_more.jpg")
    options = {"refine": ["--recipe", write_recipe(tmp_path / "tight.toml", threshold=0.35)], "extend": [photos]}
    with older():
        on(command, f"{copy}@v1", *options.get(command, []))
    on(command, f"{store}@v1", *options.get(command, []))
    derived = open_version(f"{store}@v2")
    assert oldest(derived)
    assert derived.provenance["fingerprint"] == open_version(f"{copy}@v2").provenance["fingerprint"]
    assert_same(derived, open_version(f"{copy}@v2"))


@pytest.mark.slow
def test_resumed_as_by_their_release(good, whole, small, tmp_path, fresh, on):
    store, command = tmp_path / "masks.store", ("--recipe", small, "--weights", "random")
    with older():
        undisturbed = fresh(good, small, tmp_path / "undisturbed.store")
        with killed(2):
            on("build", good, "--store", store, *command, "--checkpoint-s", 0)
    on("resume", store)
    resumed = open_version(f"{store}@latest")
    assert oldest(resumed)
    assert_same(resumed, undisturbed)
    assert not np.array_equal(resumed.read_attention(slice(0, 8)), whole.read_attention(slice(0, 8))), "other pixels"
