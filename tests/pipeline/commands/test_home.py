"""`~` where a shell leaves it."""

import pytest

from locloc.pipeline.catalogs.paths import parse_location
from locloc.pipeline.commands.home import with_home
from locloc.pipeline.store.location import StoreLocation


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("~", "/h"),
        ("~/m", "/h/m"),
        ("--store=~/m.store", "/h/m.store"),
        ("--store=~/m.store@v1", "/h/m.store@v1"),
        ("--out=~", "/h"),
        ("a/~/m", None),
        ("~nobody-of-this-name/m", None),
        ("./~", None),
        ("--set=x=~/m", None),
        ("~$draft.csv", None),
        ("--store", None),
    ],
)
def test_home_in_arguments(argument, wanted, monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    option = "".join(argument.partition("=")[:2]) if "=" in argument else ""
    assert with_home(argument) == (argument if wanted is None else option + wanted)


def test_home_from_python(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_location("~/photos") == tmp_path / "photos"
    assert StoreLocation.of("~/m.store").folder == tmp_path / "m.store"
    assert StoreLocation.of("./~/m.store").folder.parts[-2:] == ("~", "m.store")
