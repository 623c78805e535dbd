"""A store's location: folders and URLs, endpoints, and no credentials in it."""

import os
import pickle
import sys
from pathlib import Path

import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.io.buckets import s3_endpoint, s3_region
from locloc.pipeline.store.location import StoreLocation, split_version_name
from locloc.pipeline.store.object_store import open_object_store
from locloc.pipeline.store.repository import check_can_hold_store, ensure_repository, has_repository, open_repository


@pytest.mark.parametrize("where", ["a/../b.store", Path("b.store"), Path.cwd() / "b.store"])
def test_folders_are_absolute(where):
    location = StoreLocation.of(where)
    assert (str(location), location.folder, location.is_remote) == (
        os.path.abspath("b.store"),
        Path.cwd() / "b.store",
        False,
    )


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"), ("S3://bucket//a/b/", "s3://bucket/a/b"), ("gs://b/ä x", "gs://b/ä x"),
        (Path("s3://bucket/a"), "s3://bucket/a"), ("s3://bucket/a@b", "s3://bucket/a@b"),
    ],
)  # fmt: skip
def test_urls_are_normalised(where, wanted):
    location = StoreLocation.of(where)
    assert (str(location), location.key, location.is_remote) == (wanted, wanted.split("://")[1], True)
    assert StoreLocation.of(location) is location
    assert StoreLocation.of(str(location)) == location == pickle.loads(pickle.dumps(location))
    with pytest.raises(ValueError, match="is no folder"):
        _ = location.folder


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("s4://bucket/a", "did you mean|known: gs, s3"), ("gcs://bucket/a", "did you mean 'gs'"),
        ("file:///tmp/a", "known: gs, s3; or use a folder"), ("https://host/a", "cannot hold a store"),
        ("s3://bucket", "names no store: .* such as s3://bucket/masks.store"), ("gs://", "names no store"),
        ("s3://bucket/a/../b", "mean nothing in a bucket"),
    ],
)  # fmt: skip
def test_locations_that_cannot_hold_a_store(where, message):
    with pytest.raises(StoreError, match=message):
        StoreLocation.of(where)


def test_passwords_are_refused_and_not_repeated(monkeypatch):
    for where in ("s3://AKID:hunter2@bucket/a", "s3://AKID:hun/hunter2@bucket/a", "s4://hunter2@bucket/a"):
        with pytest.raises(StoreError, match="has a password in it.* keep credentials in the environment") as caught:
            StoreLocation.of(where)
        assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hunter2@localhost:9000")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL has a password") as caught:
        StoreLocation.of("s3://bucket/a").storage()
    assert "hunter2" not in str(caught.value)


def settings_of(store: str) -> str:
    """What Icechunk says of a store's storage: 1.x "name=value", 2.x "name: value" and nothing of what is not set."""
    return repr(StoreLocation.of(store).storage()).lower().replace(": ", "=")


def test_endpoint_and_region_come_from_the_environment(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert (s3_endpoint(), s3_region()) == (None, None)
    assert "http" not in settings_of("s3://bucket/a").replace("allow_http=false", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    assert (s3_endpoint(), s3_region()) == ("http://minio:9000", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert (s3_endpoint(), s3_region()) == ("https://s3.example.org", "eu-west-1")
    storage = settings_of("s3://bucket/a")
    assert all(part in storage for part in ("endpoint_url=https://s3.example.org", "eu-west-1"))
    assert "force_path_style=true" in storage and "allow_http=true" not in storage


@pytest.mark.parametrize("where", ["s3://bucket/a", "gs://bucket/a"])
def test_a_missing_package_is_named(where, monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match="needs the package obstore.*; `pip install locloc\\[cluster\\]`"):
        open_object_store(StoreLocation.of(where)).names()


def test_repositories_take_folders_as_text_path_or_location(tmp_path):
    store = tmp_path / "masks.store"
    check_can_hold_store(str(store))
    assert not has_repository(store)
    ensure_repository(StoreLocation.of(store))
    ensure_repository(str(store))
    assert has_repository(str(store)) and has_repository(StoreLocation.of(store))
    assert open_repository(store).list_branches() == {"main"}
    with pytest.raises(StoreError, match=f"is not a mask store; `locloc masks build IMAGES --store {tmp_path}/other`"):
        open_repository(tmp_path / "other")
    (tmp_path / "photos").mkdir()
    with pytest.raises(StoreError, match="photos is not a mask store; `locloc masks build IMAGES --store STORE`"):
        open_repository(tmp_path / "photos")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("st@v1/", "st@v1"), ("s3://bucket/st@v1//", "s3://bucket/st@v1"),
        ("a@b/st", "a@b/st@latest, or @v1 and so on"), ("st/", "st@latest, or @v1 and so on"),
        ("st@", "st@latest, or @v1 and so on"),
        ("@v1", "STORE@v1, with the store's folder or URL"), ("", "STORE@latest, with the store's folder or URL"),
        ("s3://me:hunter2@bucket/st", "s3://***@bucket/st@latest, or @v1 and so on"),
    ],
)  # fmt: skip
def test_the_advice_for_a_name_of_no_version(name, advice):
    with pytest.raises(StoreError) as caught:
        split_version_name(name)
    assert str(caught.value).endswith(f" names no version; write {advice}") and "hunter2" not in str(caught.value)
