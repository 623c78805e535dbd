"""Addresses: their plain form, secrets and protocols that are refused, names below a root."""

import sys
from pathlib import Path

import pytest

from locloc.pipeline.catalogs.paths import parse_location, resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError, UnreachableError
from locloc.pipeline.io import fsspec_io
from locloc.pipeline.io.images import read_image_bytes

SECRETS = ["s3://AKIA:top/secret@bucket/data", "s3://AKIA:secret@bucket", "http://secret@host/x", "ftp://me:secret@h/x"]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("S3://Bucket/a/b//", "s3://Bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        ("memory://", "memory://"),
        ("s3://bucket/at@home:now", "s3://bucket/at@home:now"),
        ("sftp://user@host:2022/data", "sftp://user@host:2022/data"),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        ("file:///data/x", Path("/data/x")),
        ("/data/x", Path("/data/x")),
        (Path("data"), Path("data")),
    ],
)
def test_plain_form(given, plain, monkeypatch):
    monkeypatch.setattr(fsspec_io, "_check_protocol", lambda protocol, shown: None)  # sftp's package is not installed
    assert parse_location(given) == plain


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_an_address_is_refused_and_not_repeated(url, tmp_path):
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    for arguments in ((url,), (url, "cub"), (tmp_path / "list.csv", None, url)):
        with pytest.raises(
            CatalogError, match=r"\*\*\*@.* holds a secret; give credentials by the environment"
        ) as error:
            read_catalog(*arguments)
        assert "secret@" not in str(error.value) and "AKIA" not in str(error.value)
        assert error.value.__cause__ is None and error.value.__suppress_context__


def test_a_signed_address_is_refused_and_not_repeated():
    with pytest.raises(CatalogError, match="give a plain address") as error:
        parse_location("https://host/data?sig=secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s4://bucket", "unknown protocol 's4'"),
        ("s3://", "names no bucket"),
        ("gs:///data", "names no bucket"),
        ("https://host/images", "A web server lists no folder; write a list"),
    ],
)
def test_addresses_that_cannot_be(url, reason):
    with pytest.raises(CatalogError, match=reason):
        read_catalog(url)


@pytest.mark.parametrize("url", ["s3://bucket/a", "gs://bucket/a"])
def test_a_package_that_is_not_installed_is_named(url, monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(CatalogError, match=r"needs a package that is not installed; pip install locloc\[cluster\]$"):
        read_catalog(url)
    with pytest.raises(UnreachableError, match=r"pip install locloc\[cluster\]"):  # on a worker that lacks it
        read_image_bytes(url + "/x.jpg")


def test_names_in_web_addresses_are_quoted():
    assert resolve("https://host/data", "a b/ä#?.jpg") == "https://host/data/a%20b/%C3%A4%23%3F.jpg"
    assert resolve("s3://host/data", "a b/ä#?.jpg") == "s3://host/data/a b/ä#?.jpg"


def test_letters_that_look_like_a_byte_stay_letters_in_a_key():
    assert resolve("s3://b", r"a\xff.jpg") == r"s3://b/a\xff.jpg"  # no key holds that byte
    assert resolve("s3://b", r"a\xc3\xa9.jpg") == r"s3://b/a\xc3\xa9.jpg"
    assert resolve("s3://b", r"a\x5cxff.jpg") == r"s3://b/a\xff.jpg"  # as a walked folder has it
