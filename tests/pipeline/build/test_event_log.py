"""The log: one JSON object a line; errors of the log do not stop a build."""

import json
import re
from pathlib import Path

import pytest

from locloc.pipeline.build.event_log import EventLog, default_event_log
from locloc.pipeline.store.location import StoreLocation


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_event_is_a_line_of_json(tmp_path):
    file = tmp_path / "a" / "b" / "run.jsonl"
    with EventLog(file) as log:
        assert log.trouble is None
        log.write("begin", store="größe\n日本", blocks=3)
        log.write("block", seconds={"vit": 0.5}, status={"ok": 64})
        assert len(lines(file)) == 2, "it can be followed while the build runs"
    first, second = lines(file)
    assert (first["event"], first["store"], second["seconds"]) == ("begin", "größe\n日本", {"vit": 0.5})
    assert first["time"] <= second["time"]


def test_a_second_run_is_appended(tmp_path):
    for _ in range(2):
        with EventLog(tmp_path / "run.jsonl") as log:
            log.write("begin")
    assert [line["event"] for line in lines(tmp_path / "run.jsonl")] == ["begin", "begin"]


@pytest.mark.parametrize("error", [ValueError("two\nlines"), KeyboardInterrupt()])
def test_the_error_that_ended_a_build_is_the_last_line(tmp_path, error):
    with pytest.raises(type(error)), EventLog(tmp_path / "run.jsonl"):
        raise error
    (last,) = lines(tmp_path / "run.jsonl")
    assert (last["event"], last["error"]) == ("end", f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("name", ["", "file/run.jsonl", "file/below/run.jsonl"])
def test_a_file_that_cannot_be_written_gives_a_note_only(tmp_path, name):
    (tmp_path / "file").write_text("precious")
    file = tmp_path / name
    with EventLog(file) as log:
        log.write("begin")
        assert log.file is None
        assert log.trouble.startswith(f"note: no log, since {file} cannot be written: ")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_ends_the_log_alone():
    """/dev/full accepts writes and fails at the flush, as a full disk does."""
    with EventLog(Path("/dev/full")) as log:
        assert log.trouble is None
        log.write("begin")
        log.write("block")


def test_the_default_is_in_a_local_store_and_in_the_users_state_for_a_remote_one(tmp_path, monkeypatch):
    name = r"\d{8}-\d{6}-abcdef01-\d+\.jsonl"
    local = default_event_log(StoreLocation.of(tmp_path / "masks.store"), "abcdef0123456789")
    assert local.parent == tmp_path / "masks.store" / "logs" and re.fullmatch(name, local.name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    remote = default_event_log(StoreLocation.of("s3://bucket/masks"), "abcdef0123456789")
    assert remote.parent == tmp_path / "state" / "locloc" / "logs" and re.fullmatch(name, remote.name)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        default_event_log(StoreLocation.of("s3://bucket/masks"), "ab").parent
        == tmp_path / ".local" / "state" / "locloc" / "logs"
    )
