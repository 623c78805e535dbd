"""No command writes into a folder that holds other things."""

import os
from pathlib import Path

import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.io.new_folder import replaced_folder
from locloc.pipeline.io.output_folder import (
    UNFINISHED,
    Results,
    check_output_folder,
    check_writable_folder,
    create_output_folder,
    file_in_the_way,
)
from locloc.pipeline.io.outputs import check_output_file

OURS = Results(r"head\.txt|parts/\d+\.png", "head.txt", "ours\n")


@pytest.fixture
def earlier(tmp_path):
    out = tmp_path / "out"
    (out / "parts").mkdir(parents=True)
    (out / "head.txt").write_text("ours\nand more")
    (out / "parts" / "1.png").touch()
    return out


def refusal(out, **options) -> str:
    before = {file: file.read_bytes() for file in out.parent.rglob("*") if file.is_file()}
    with pytest.raises(StoreError) as refused:
        create_output_folder(out, "--out", StoreError, OURS, **options)
    assert all(file.read_bytes() == content for file, content in before.items())
    return str(refused.value)


def test_a_new_or_an_empty_folder_is_taken(tmp_path):
    for _ in range(2):
        create_output_folder(tmp_path / "a" / "b", "--out", StoreError)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file:///a%20b/c", "--out file:///a%20b/c is a URL, and has to be a path: write /a b/c"),
        ("s3://bucket/a", "--out s3://bucket/a is a URL; --out has to be a path on this machine"),
        ("https://me:hunter2@host/a", "--out https://***@host/a is a URL; --out has to be a path on this machine"),
    ],
)
def test_a_url_is_told_as_it_was_written(url, advice):
    """pathlib makes a folder `s3:` of it."""
    for check in (check_output_folder, check_writable_folder, check_output_file):
        with pytest.raises(StoreError) as refused:
            check(Path(url), "--out", StoreError)
        assert str(refused.value) == advice


def test_earlier_results_are_replaced_or_kept_when_asked(earlier):
    assert "holds earlier results; replace them with --overwrite" in refusal(earlier)
    create_output_folder(earlier, "--out", StoreError, OURS, keep=True)
    assert (earlier / "parts" / "1.png").exists()
    create_output_folder(earlier, "--out", StoreError, OURS, overwrite=True)
    assert os.listdir(earlier) == []


@pytest.mark.parametrize("stranger", ["photo.jpg", "parts/holiday.png", ".hidden", "parts/2.png/x", "empty/"])
def test_what_the_command_did_not_write_is_never_touched(earlier, stranger):
    if stranger.endswith("/"):
        (earlier / stranger).mkdir()
    else:
        (earlier / stranger).parent.mkdir(exist_ok=True)
        (earlier / stranger).write_text("mine")
    assert f"it holds {stranger}".rstrip("/") in refusal(earlier, overwrite=True)


def test_links_are_not_followed(earlier, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").touch()
    (earlier / "parts" / "1.png").unlink()
    (earlier / "parts").rmdir()
    (earlier / "parts").symlink_to(tmp_path / "photos")
    assert "it holds parts" in refusal(earlier, overwrite=True)


def test_a_folder_that_only_looks_like_results_is_not_taken_for_them(earlier):
    (earlier / "head.txt").write_text("somebody else's list")
    assert "it holds head.txt" in refusal(earlier, overwrite=True)
    (earlier / "head.txt").unlink()
    assert "it holds no head.txt of ours" in refusal(earlier, overwrite=True)


def test_a_folder_is_tried_and_not_made(tmp_path):
    check_output_folder(tmp_path / "new" / "below", "--out", StoreError)
    with pytest.raises(StoreError, match="--out /proc/run cannot be written: no such file or directory; name another"):
        check_output_folder(Path("/proc/run"), "--out", StoreError)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_may_hold_anything_is_only_tried(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    check_writable_folder(tmp_path, "--out", StoreError)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_marker_without_a_beginning_may_be_a_folder(earlier):
    (earlier / "head.txt").unlink()
    check_output_folder(earlier, "--out", StoreError, Results(r"parts/\d+\.png", "parts"), keep=True)


def test_the_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert file_in_the_way(tmp_path / "file" / "a" / "b") == tmp_path / "file"
    assert file_in_the_way(tmp_path / "new" / "a") is None
    assert f"({tmp_path / 'file'} is a file)" in refusal(tmp_path / "file" / "a" / "b")
    assert f"({tmp_path / 'link'} is a broken link)" in refusal(tmp_path / "link" / "a")


def test_a_file_and_a_place_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").touch()
    assert "is a file" in refusal(tmp_path / "file")
    assert "not a directory" in refusal(tmp_path / "file" / "below").lower()
    assert "file name too long" in refusal(tmp_path / ("x" * 300))


def test_nothing_is_written_inside_a_store(tmp_path):
    store = tmp_path / "photos.store"
    for name in ("snapshots", "manifests"):
        (store / name).mkdir(parents=True)
    for out in (store / "page", store / "a" / "b", store / "chunks" / ".." / "page"):
        with pytest.raises(StoreError, match=r"is inside the store .*photos\.store, which holds nothing else"):
            check_output_folder(out, "--out", StoreError)
    check_writable_folder(store, "--store", StoreError)  # the store itself
    check_output_folder(tmp_path / "page", "--out", StoreError)


def replace(out, parts=("1.png",)) -> None:
    with replaced_folder(out, "--out", StoreError, OURS) as new:
        (new / "parts").mkdir()
        for name in parts:
            (new / "parts" / name).write_text("new")
        (new / "head.txt").write_text("ours\nnew")


def below(folder) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


NEW = {"head.txt": "ours\nnew", "parts/1.png": "new"}


def test_results_take_the_place_of_earlier_ones_in_the_same_folder(earlier, tmp_path):
    (earlier / "parts" / "2.png").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for out in (earlier, tmp_path / "link", tmp_path / "new" / "below"):
        before = out.stat().st_ino if out.exists() else None
        replace(out)
        assert below(out) == NEW and sorted(os.listdir(out)) == ["head.txt", "parts"]
        assert before in (None, out.stat().st_ino)  # it may be a mount point, or the current folder


def test_what_a_kill_left_is_replaced(earlier, tmp_path):
    for out in (earlier, tmp_path / "new"):
        (out / UNFINISHED / "new" / "parts").mkdir(parents=True)
        (out / UNFINISHED / "old").mkdir()
        (out / UNFINISHED / "new" / "parts" / "9.png").touch()
        (out / "head.txt").write_text("ours\n")  # is there before anything else
        replace(out)
        assert below(out) == NEW and UNFINISHED not in os.listdir(out)


def test_results_that_cannot_take_their_place_leave_the_earlier_ones(earlier, monkeypatch):
    before, rename = below(earlier), Path.rename

    def fails_for_the_last(source, target):
        if source == earlier / UNFINISHED / "new" / "head.txt":
            raise OSError(5, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_last)
    with pytest.raises(OSError, match="Input/output"):
        replace(earlier)
    monkeypatch.undo()
    assert below(earlier) == before and UNFINISHED not in os.listdir(earlier)
    with pytest.raises(StoreError, match="it holds mine"), replaced_folder(earlier, "--out", StoreError, OURS):
        (earlier / "mine").touch()
    assert below(earlier) == before | {"mine": ""} and UNFINISHED not in os.listdir(earlier)
