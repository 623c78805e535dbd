"""Files are whole or as they were."""

import json

import pytest

from locloc.pipeline.io.atomic import replacing, write_atomic


def test_content_replaces_content(tmp_path):
    file = tmp_path / "run.json"
    write_atomic(file, json.dumps({"a": 1}))
    write_atomic(file, json.dumps({"b": [1.5, None, "ä"]}, ensure_ascii=False))
    assert json.loads(file.read_text()) == {"b": [1.5, None, "ä"]}
    write_atomic(file, b"\xff")
    assert file.read_bytes() == b"\xff"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_leaves_the_file_as_it_was_and_no_part(tmp_path, error):
    file = tmp_path / "state"
    file.write_text("before")
    with pytest.raises(error), replacing(file) as part:
        part.write_text("half of")
        raise error
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
