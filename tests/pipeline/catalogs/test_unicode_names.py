"""Names in another Unicode normal form: compared as equal, found on disk where the exact name is not there."""

import unicodedata

import pytest

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.catalogs.unicode_names import find_on_disk, normal_form

NFC, NFD = "caf\u00e9", "cafe\u0301"
MIXED = "\u00e9a\u0301"  # neither NFC nor NFD


@pytest.fixture(autouse=True)
def _keeps_both_forms(tmp_path):
    (tmp_path / NFC).touch()
    if (tmp_path / NFD).exists():
        pytest.skip("this file system takes both forms for one name")
    (tmp_path / NFC).unlink()


def test_normal_form():
    assert normal_form(NFD) == normal_form(NFC) == NFC and normal_form("cafe") == "cafe"


@pytest.mark.parametrize("on_disk", [NFC, NFD])
@pytest.mark.parametrize("asked", [NFC, NFD])
def test_either_form_is_found(tmp_path, on_disk, asked):
    (tmp_path / on_disk / on_disk).mkdir(parents=True)
    (tmp_path / on_disk / on_disk / "a.jpg").touch()
    found = find_on_disk(tmp_path, f"{asked}/{asked}/a.jpg")
    assert found == tmp_path / on_disk / on_disk / "a.jpg" == resolve(tmp_path, f"{asked}/{asked}/a.jpg")


def test_the_exact_name_has_priority(tmp_path):
    for name in (NFC, NFD):
        (tmp_path / f"{name}.jpg").write_text(ascii(name))
    for name in (NFC, NFD):
        assert find_on_disk(tmp_path, f"{name}.jpg").read_text() == ascii(name)


def test_a_mixed_form_is_found_by_listing(tmp_path):
    (tmp_path / f"{MIXED}.jpg").touch()
    for form in ("NFC", "NFD"):
        assert find_on_disk(tmp_path, unicodedata.normalize(form, f"{MIXED}.jpg")).name == f"{MIXED}.jpg"


@pytest.mark.parametrize("path", ["caf\u00e9.jpg", "none/caf\u00e9.jpg", "cafe.jpg"])
def test_what_is_not_there_keeps_its_name(tmp_path, path):
    assert find_on_disk(tmp_path, path) == tmp_path / path


def test_a_list_names_files_in_the_other_form(tmp_path):
    (tmp_path / f"{NFD}.jpg").touch()
    (tmp_path / "list.csv").write_text(f"path\n{NFC}.jpg\n", encoding="utf-8")
    catalog = read_catalog(tmp_path / "list.csv")
    (image_id,), (path,) = catalog.slice(0, 1)
    assert (image_id, path) == (f"{NFC}.jpg",) * 2  # as the list has it
    assert resolve(catalog.root, path) == tmp_path / f"{NFD}.jpg"
