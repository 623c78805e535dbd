"""`locloc bench` without dask, zarr and icechunk, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from locloc.cli import app
from locloc.pipeline.bench import ENGINES, SLOW
from locloc.pipeline.errors import BenchError, LocLocError
from locloc.trainer.bench.inference_stages import load_images
from locloc.trainer.bench.systems import RELEASED
from locloc.trainer.bench.timing import again

BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dask", "distributed", "zarr", "icechunk"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from locloc.cli import main
main()
"""


def bare(*arguments: str) -> subprocess.CompletedProcess:
    """`locloc` in a process of its own, on a machine without dask, zarr and icechunk."""
    root = Path(sys.modules["locloc"].__file__).parents[1]
    environment = {"PYTHONPATH": str(root), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BARE, "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
def test_everything_on_a_bare_machine(tmp_path):
    out, drawn = tmp_path / "bench.json", tmp_path / "bench.svg"
    small = ("--backbone", "pocket", "--batch", "1", "--quick", "--threads", "1")
    result = bare("--compare-ppd", *small, "--json", str(out), "--plot", str(drawn))
    assert result.returncode == 0, result.stderr
    for title in ("Modules, one image", "What the paper printed", "Whole systems", "model stages", "end to end"):
        assert title in result.stdout
    assert result.stdout.count("noise: PPD as released takes") == 3
    report = json.loads(out.read_text())
    assert [line["system"] for line in report["model"]["lines"]][-1] == again(RELEASED)
    assert report["model"]["noise"] > 0 and report["asked"]["batch"] == 1
    assert {"date", "commit", "cpu", "threads", "versions"} <= report["machine"].keys()
    assert report["machine"]["threads"] == 1
    assert len(report["printed"]) == 16 and all(trial["why_not"] == "" for trial in report["trials"])
    alone = [(row["classes"], row["blocks"], row["tokens"]) for row in report["classifiers"]]
    assert alone == [(200, 6, 196), (200, 4, 147), (1000, 6, 196), (1000, 4, 147)]
    assert drawn.read_text().startswith("<?xml")


@pytest.mark.slow
def test_engines_on_a_bare_machine(tmp_path):
    """On synthetic scenes with their true masks, and on the same scenes as a folder of images without masks."""
    out, drawn = tmp_path / "masks.json", tmp_path / "masks.svg"
    small = ("--masks", "--count", "3", "--size", "48", "--vit-images-s", "50")
    result = bare(*small, "--json", str(out), "--plot", str(drawn))
    assert result.returncode == 0, result.stderr
    for title in ("in turn, simulation A", "in turn, simulation B", "Cost above the least", "Projected: a node of 16"):
        assert title in result.stdout
    assert drawn.read_text().startswith("<?xml")
    report = json.loads(out.read_text())["masks"]
    assert {"date", "commit", "cpu", "versions"} <= report["machine"].keys() and report["machine"]["threads"] == 1
    assert report["images"] == 3 and not report["skipped"] and report["stage_ms"]["decode"] > 0
    for engines in report["engines"].values():
        rows = {row["name"]: row for row in engines["rows"]}
        assert len(rows) == 2 * 2 + len(ENGINES) + len(SLOW)
        assert rows["opencv, 1 round"]["times_reference"] == rows["opencv, 5 rounds"]["iou_to_reference"] == 1
        assert all(row["iou_to_truth"] > 0.1 for row in rows.values())
        assert all(row["images_per_s"] == pytest.approx(1e3 / row["mean_ms"]) for row in rows.values())
        gaps = {row["name"]: row for row in engines["energies"]}
        assert gaps["fast, 8 neighbours, 1 round"]["shared_max"] == 0 < gaps["threshold"]["shared_mean"]
        assert gaps["fast, 4 neighbours, 1 round"]["own_max"] == 0 <= gaps["torch, 1 round"]["own_max"] < 0.01
    assert {row["images_per_s"] for row in report["node"] if row["engine"] == "threshold"} == {50}

    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(load_images(None, 3)[index])
    result = bare(*small, "--images", str(tmp_path), "--json", str(out))
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())["masks"]
    (engines,) = report["engines"].values()
    assert "in turn, attention of pocket" in result.stdout and report["stage_ms"]["ViT pocket"] > 0
    assert all(row["iou_to_truth"] is None and row["iou_to_reference"] > 0 for row in engines["rows"])


def test_errors_are_one_line_on_a_bare_machine_too():
    result = bare("--keep-tokens", "50")
    assert result.returncode == 1
    assert result.stderr == "error: --keep-tokens 50 is no share: 0.5 keeps half of the tokens, 1 all\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "No --device 'gpu'"),
        (["--precision", "fp8"], "No --precision 'fp8'; known: bf16, fp16, fp32, tf32"),
        (["--precision", "fp16"], "--precision fp16 needs a GPU"),
        (["--precision", "tf32"], "--precision tf32 needs a GPU"),
        (["--shared-blocks", "4"], "--shared-blocks 4 is no share: 0.33 shares a third of the blocks, 0 none"),
        (["--plot", "a.txt"], "a name that ends in .png, .svg or .pdf"),
        (["--masks", "--plot", "a.txt"], "a name that ends in .png, .svg or .pdf"),
        (["--masks", "--batch", "4"], "--batch says nothing to --masks; leave it out, or add --compare-ppd"),
        (["--masks", "--keep-tokens", "0.5"], "--keep-tokens says nothing to --masks"),
        (["--count", "3"], "--count is for --masks; add that, or leave --count out"),
        (["--compare-ppd", "--truth", "masks"], "--truth is for --masks"),
        (["--masks", "--compare-ppd", "--plot", "a.png"], "leave out --masks or --compare-ppd"),
        (["--masks", "--truth", "masks"], "are masks of which images? Give their folder with --images"),
        (["--masks", "--count", "0"], "of made scenes there is no end"),
        (["--masks", "--images", "none"], "--images none is no folder"),
        (["--masks", "--vit-images-s", "0"], "--vit-images-s 0 is no speed"),
        (["--masks", "--vit-images-s", "inf"], "--vit-images-s inf is no speed"),
        (["--masks", "--json", "/"], "/ is a folder; name a file in it"),
        (["--json", "none/a.json"], "to write a.json to; make it first"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(arguments, message):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(result.exception, BenchError) and message in str(result.exception)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured():
    result = CliRunner().invoke(app, ["bench", "--masks", "--json", "/proc/a.json"])  # root may write elsewhere
    assert isinstance(result.exception, BenchError) and "a.json cannot be written" in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    result = CliRunner().invoke(app, ["bench", "--device", "cuda"])
    assert str(result.exception) == "--device cuda, but torch sees no GPU here; --device cpu measures the CPU"


def test_the_plot_is_drawn_though_the_terminal_is_gone(tmp_path, monkeypatch):
    """And one that cannot be written keeps nothing else from being written."""

    def gone(*_: object) -> None:
        raise LocLocError("the terminal is gone")

    monkeypatch.setattr("locloc.trainer.bench.mask_tables.print_masks", gone)
    drawn, figures = tmp_path / "a.svg", tmp_path / "a.json"
    small = ["bench", "--masks", "--count", "1", "--size", "48", "--json", str(figures)]
    result = CliRunner().invoke(app, [*small, "--plot", str(drawn)])
    assert str(result.exception) == "the terminal is gone"
    assert drawn.read_text().startswith("<?xml") and json.loads(figures.read_text())["masks"]
