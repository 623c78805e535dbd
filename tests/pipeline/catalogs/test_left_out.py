"""What a folder leaves out is counted and named, and never a row."""

from locloc.pipeline.catalogs.folders import walk as walk_module
from locloc.pipeline.catalogs.left_out import (
    OTHER,
    SUFFIXES,
    LeftOut,
    Omissions,
    left_out_from_json,
    left_out_json,
    left_out_text,
    merge_left_out,
)
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.io.formats import SUFFIXES as DECODED


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def counts(catalog):
    return {(item.kind, item.name): item.count for item in catalog.left_out}


def test_suffixes_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(walk_module, "_taken", lambda: DECODED)  # as without extras
    touch(tmp_path, "a.jpg", "b.HEIC", "c.heic", "d.NEF", "noext", "e.txt", "x/f.jxl", "trailing.", "v1.2 final")
    catalog = read_catalog(tmp_path)
    assert catalog.slice(0, 9)[0] == ["a.jpg"]
    assert counts(catalog) == {
        ("suffix", ".heic"): 2,
        ("suffix", ".nef"): 1,
        ("suffix", ".jxl"): 1,
        ("suffix", ""): 3,
        ("suffix", ".txt"): 1,
    }
    assert next(item for item in catalog.left_out if item.name == ".heic").first == ("b.HEIC", "c.heic")
    assert left_out_text(catalog.left_out) == (
        "3 without a suffix, 2 .heic, 1 .jxl, 1 .nef, 1 that are no images (.txt)"
    )


def test_heic_is_taken_where_it_can_be_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(walk_module, "_taken", lambda: DECODED | {".heic"})
    touch(tmp_path, "a.jpg", "b.HEIC")
    catalog = read_catalog(tmp_path)
    assert catalog.slice(0, 9)[0] == ["a.jpg", "b.HEIC"] and not catalog.left_out


def test_folders_of_machines_are_left_out_by_rule(tmp_path):
    folders = [
        "@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found", ".Trash-1000", "Thumbs", ".ipynb_checkpoints",
        "System Volume Information", "cat/@eaDir",
    ]  # fmt: skip
    touch(tmp_path, "cat/a.jpg", "cat/._a.jpg", ".hidden.jpg", *(f"{folder}/deep/x.jpg" for folder in folders))
    catalog = read_catalog(tmp_path)
    assert catalog.slice(0, 9)[0] == ["cat/a.jpg"] and catalog.classes == ("cat",)
    assert counts(catalog) == {
        ("folder", "@eaDir"): 2,
        **{("folder", name): 1 for name in folders if name[0] != "." and "eaDir" not in name},
        ("folder", ".*"): 2,
        ("file", "._*"): 1,
        ("file", ".*"): 1,
    }
    assert all(item.why for item in catalog.left_out)
    assert "2 @eaDir (thumbnails that a NAS made)" in left_out_text(catalog.left_out, ("folder",))
    text = left_out_text(catalog.left_out, ("folder", "file"))
    assert "2 hidden folders (" in text and "1 hidden file (" in text and ".*" not in text


def test_a_url_has_the_same_rules(tmp_path, monkeypatch):
    paths = ["cat/a.jpg", "cat/._a.jpg", "cat/@eaDir/deep/x.jpg", "cat/@eaDir/y.jpg", ".git/z.jpg", "b.heic", "c.csv"]
    touch(tmp_path, *paths)
    monkeypatch.setattr(walk_module, "_taken", lambda: DECODED)
    monkeypatch.setattr(walk_module, "list_remote", lambda url: paths)
    by_url, by_path = read_catalog("memory://bucket"), read_catalog(tmp_path)
    assert by_url.slice(0, 9) == by_path.slice(0, 9) == (["cat/a.jpg"], ["cat/a.jpg"])
    assert by_url.left_out == by_path.left_out


def test_many_suffixes_become_one():
    omissions = Omissions()
    for number in range(100):
        omissions.add("suffix", f".{number:03}", f"scan.{number:03}")
        omissions.add("suffix", ".heic", f"{number}.heic")
    found = omissions.found()
    assert len(found) == SUFFIXES + 1
    assert found[0] == LeftOut("suffix", ".heic", "", 100, ("0.heic", "1.heic", "2.heic"))
    assert found[-1].name == OTHER and sum(item.count for item in found) == 200
    twice = merge_left_out(found, found)
    assert sum(item.count for item in twice) == 400 and len(twice) == len(found)


def test_json_and_back():
    omissions = Omissions()
    omissions.add("folder", "@eaDir", "cat/@eaDir", "thumbnails")
    omissions.add("box", "", "a.xml: 5 5 1 1", "min above max")
    assert left_out_from_json(left_out_json(omissions.found())) == omissions.found()
