"""The public API: lazy names, and every example of docs/api.md."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import locloc

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_documented():
    page = (ROOT / "docs" / "api.md").read_text()
    for name in locloc.__all__:
        assert getattr(locloc, name), name
    for name in ("build_masks", "open_version", "train", "evaluate", "load", "Recipe", "TrainRecipe", "MaskDataset"):
        assert f"locloc.{name}" in page, name
    assert set(dir(locloc)) == set(locloc.__all__)


def test_type_checkers_see_the_names_that_are_imported_on_first_use():
    source = (ROOT / "__init__.py").read_text()
    imports = re.findall(r"^    from (\.[\w.]+) import (\w+) as \2$", source, re.MULTILINE)
    assert {name: module for module, name in imports} == locloc._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = locloc.nothing


def test_import_takes_no_heavy_package():
    heavy = "torch dask distributed zarr icechunk numpy cv2 pyarrow pydantic timm"
    code = f"import sys, locloc; sys.exit(' '.join(name for name in '{heavy}'.split() if name in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    """In this process, one after the other, in an empty folder; the first version is made by a process of its own."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "api.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 8
    names: dict[str, object] = {"__name__": "__main__"}
    for number, example in enumerate(examples):
        exec(compile(example, f"docs/api.md, example {number + 1}", "exec"), names)
    said = capsys.readouterr().out
    assert "v1 40 100%" in said and "40 of 40 images" in said
    assert "torch.Size([4, 3, 224, 224]) torch.Size([4, 224, 224])" in said
    assert "has no version 'v9'" in said
    assert names["masks"].shape == (3, 256, 256) and names["attention"].shape == (8, 3, 14, 14)
    assert {outcome.protocol for outcome in names["evaluation"].outcomes} == {"wsol"}


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    script = tmp_path / "script.py"
    script.write_text("import locloc\nlocloc.build_masks('.', 'masks.store', workers=1)\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("locloc.pipeline.errors.BuildError: Worker processes did not start"), done.stderr
    assert "if __name__ ==" in last
