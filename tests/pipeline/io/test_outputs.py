"""Files and folders to write: tried before the work, without a trace; one that fails does not lose the others."""

import os
import threading
from pathlib import Path

import pytest

from locloc.pipeline.errors import TrainError
from locloc.pipeline.io.outputs import check_output_file, every_output, write_output


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/a.json", "none to write a.json to; make it first"),
        ("folder", "is a folder; name a file in it"),
        ("file/a.json", "No folder .*file to write"),
        ("a" * 256, "cannot be written: file name too long"),
        ("a" * 253, "cannot be written: file name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_named_with_its_option(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(TrainError, match=f"--json .*{message}") as caught:
        check_output_file(tmp_path / name, "--json", TrainError)
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("place", ["/proc/a.json", "/sys/a.json"])
def test_a_file_system_that_takes_none_refuses_root_too(place):
    with pytest.raises(TrainError, match=f"--json {place} cannot be written"):
        check_output_file(Path(place), "--json", TrainError)


def test_a_file_of_a_read_only_file_system_is_refused_with_that_reason(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("before")

    def read_only(*args: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(TrainError, match=r"a\.json cannot be written: read-only file system"):
        check_output_file(tmp_path / "a.json", "--json", TrainError)


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "a.json").write_text("before")
    check_output_file(tmp_path / "a.json", "--json", TrainError)
    check_output_file(tmp_path / "b.json", "--json", TrainError)
    check_output_file(Path("/dev/null"), "--json", TrainError)
    assert everything(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "before"


def test_output_replaces_a_file_follows_a_link_and_goes_through_a_pipe(tmp_path):
    (tmp_path / "a.json").write_text("before")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    write_output(tmp_path / "link.json", "after")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "a.json").read_text() == "after"
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_output(tmp_path / "pipe", "through")
    reader.join()
    assert read == ["through"] and (tmp_path / "pipe").is_fifo()
    with pytest.raises(OSError):
        write_output(Path("/dev/full"), "no room")


def test_what_fails_does_not_keep_the_rest_from_being_written():
    written = []

    def fail() -> None:
        raise TrainError("a.json cannot be written")

    message = r"a.json cannot be written \(and 1 more could not be written\)"
    with pytest.raises(TrainError, match=message), every_output() as attempt:
        attempt(fail)
        attempt(lambda: written.append("report"))
        attempt(fail)
        written.append("table")
    assert written == ["report", "table"]
