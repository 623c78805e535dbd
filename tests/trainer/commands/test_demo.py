"""`locloc demo`: what it would run, and where. tests/end_to_end/test_demo.py runs it."""

import pytest

from locloc.pipeline.errors import CatalogError
from locloc.trainer.commands.demo import demo_commands


def test_a_demo_runs_again_in_its_own_folder(tmp_path):
    out = tmp_path / "my demo"
    first = demo_commands(out)
    assert first[0][:3] == ["data", "synth", str(out / "scenes")] and "--overwrite" not in first[0]
    (out / "scenes").mkdir()
    (out / "scenes" / "list.csv").touch()
    (out / "run").mkdir()
    (out / "run" / "run.json").touch()
    again = demo_commands(out)
    assert again[0][-1] == "--overwrite" and again[-1][-1] == "--resume"


def test_a_demo_never_writes_among_other_files(tmp_path):
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(CatalogError, match=r"holds cat\.jpg; name a new or empty folder"):
        demo_commands(tmp_path)
