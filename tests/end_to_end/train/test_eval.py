"""`locloc eval` as a user meets it: runs of a store, imported ones, masks, reports, and what it refuses."""

import contextlib
import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from locloc.cli import app
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import TrainError
from locloc.pipeline.geometry.boxes import box_iou
from locloc.pipeline.store import open_version
from locloc.trainer.evaluation.eval_dataset import dataset_of_version
from locloc.trainer.evaluation.predictors import load_batches
from locloc.trainer.evaluation.protocols import PROTOCOLS
from locloc.trainer.evaluation.wsol_files import check_score_map_ids
from locloc.trainer.models.checkpoint import create_model, save_checkpoint, vit_shape


def make_run(run: Path, *stages: str, **about: Any) -> Path:
    """A run on `pocket` with seeded weights, nothing learnt: what is said of it is known all the same."""
    vit = Backbone(BackboneSpec("pocket"))
    known = {"name": "pocket", "weights": "bundled", "sha256": vit.sha256}
    shapes = {
        "generator": {"channels": 192, "base": 2, "width": 8, "tail": [8, 8, 8]},
        "classifier": {"vit": vit_shape(vit.model), "classes": 4, "grid": [14, 14]},
        "decoder": {"channels": 192, "hidden": 16, "width": 8},
        "linear": {"channels": 192, "classes": 4},
    }
    for stage in stages:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = create_model(stage, shapes[stage]).eval()
        (run / stage).mkdir(parents=True)
        header = {"shape": shapes[stage], "backbone": known, "backbone_size_px": 256 if stage == "decoder" else 224}
        save_checkpoint(
            run / stage / "best.safetensors", model, stage, header | {"recipe": {"seed": 0, "val_share": 0.1}} | about
        )
    return run


@pytest.fixture(scope="module")
def run(version, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", "generator", "classifier", version=version)


def evaluated(tmp_path: Path, *arguments: Any) -> dict[str, Any]:
    file = tmp_path / "figures.json"
    assert not app(["eval", *map(str, arguments), "--json", str(file)], standalone_mode=False)
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def whole(run, version, scenes, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """A run and a PPD run beside masks and centred box, with a report."""
    folder = tmp_path_factory.mktemp("report")
    ppd = make_run(folder / "ppd", "decoder", "linear", version=version)
    return evaluated(folder, run, ppd, "--truth", scenes / "masks", "--report", folder / "out"), folder / "out"


def test_a_table_of_runs_masks_and_the_centred_box_under_every_protocol(whole, run, version, capsys):
    found, _ = whole
    masks = f"masks of {Path(version).name}"
    first, _, *others = found["results"]
    assert first == str(run) and others == [masks, "centred box"]
    assert (found["images"], found["split"], found["unread"]) == (8, "test", {})
    for predictor, results in found["results"].items():
        assert list(results) == list(PROTOCOLS)
        for name, figures in results.items():
            assert all(0 <= figures[key] <= 1 for key in ("gt_known_loc", "corloc", "box_iou"))
            assert sum(figures["kinds"].values()) == 8
            swept = name == "locloc-official"
            assert figures["swept_on_test"] == swept, (predictor, name)
            if predictor not in (masks, "centred box"):
                assert figures["top1_loc"] <= min(figures["top1_cls"], figures["gt_known_loc"])
                assert figures["top1_cls"] <= figures["top5_cls"] == 1  # of four classes
            if predictor != "centred box":
                assert 0 <= figures["mask_iou"] <= 1
                assert figures["tau_from"] == {"ppd": "fixed by the protocol", "locloc-official": "test images"}.get(
                    name, "validation images"
                )
        if predictor != "centred box":
            assert results["wsol"]["max_box_acc"] >= results["wsol"]["gt_known_loc"]
            assert 0 < results["wsol"]["px_ap"] <= 1
    assert found["results"][masks]["locloc"]["mask_iou"] > 0.5  # of real masks, where the runs have learnt nothing


def test_the_report_has_every_image_curves_and_images(whole, run, version):
    found, out = whole
    table = pq.read_table(out / "images.parquet")
    assert len(table) == 8 * 4 * 4 and set(table["kind"].to_pylist()) <= {
        "right", "classification", "part", "more", "wrong place",
    }  # fmt: skip
    rows = [row for row in table.to_pylist() if row["subject"].startswith("masks") and row["protocol"] == "ppd"]
    opened = open_version(version)
    for row in rows:  # the box in the image is the mask's own, within a pixel of 256
        wanted = opened.read_column("box", [opened.row(row["id"])])[0]
        assert [row[name] for name in ("x0", "y0", "x1", "y1")] == pytest.approx(wanted.tolist(), abs=2)
    ious = [row["iou"] for row in rows]
    masks = found["results"][f"masks of {Path(version).name}"]["ppd"]
    assert np.mean(ious) == pytest.approx(masks["box_iou"])
    assert np.mean(np.array(ious) >= 0.5) == pytest.approx(masks["gt_known_loc"])
    named = next(row for row in table.to_pylist() if row["subject"] == str(run))
    assert sorted(named["guesses"][:4]) == [0, 1, 2, 3] and named["guesses"][4] == -1
    page = (out / "index.html").read_text()
    for file in [out / "curves.png", *out.glob("*-best.png"), *out.glob("*-worst.png"), *out.glob("*-random.png")]:
        assert file.name in page and np.asarray(Image.open(file)).std() > 5
    assert len(list(out.glob("*-best.png"))) == 3 and "http" not in page and "<script" not in page
    assert json.loads((out / "evaluation.json").read_text())["results"] == found["results"]


def test_each_image_is_decoded_once_for_all_views(version):
    images, counts = dataset_of_version(open_version(version)), {}

    def decode(row: int) -> np.ndarray:
        counts[row] = counts.get(row, 0) + 1
        return images.decode(row)

    counted = images.__class__(**(vars(images) | {"decode": decode}))
    views = {("stretch", 224), ("centre_crop", 224), ("stretch", 256)}
    loaded = [image for batch in load_batches(counted, images.rows("test"), views, 3) for image in batch]
    assert [image.row for image in loaded] == images.rows("test").tolist()
    assert all(set(image.views) == views for image in loaded) and set(counts.values()) == {1}


def test_masks_alone_need_no_images(version, scenes, tmp_path):
    nowhere = tmp_path / "nowhere"
    found = evaluated(tmp_path, version, "--images", nowhere, "--protocol", "locloc,wsol")
    own = found["results"][f"masks of {Path(version).name}"]
    opened = open_version(version)
    test = [row for row, split in enumerate(opened.table["split"].to_pylist()) if split == "test"]
    boxes, rows = opened.catalog_boxes()
    corloc = np.mean([box_iou(opened.read_column("box", [row]), boxes[rows == row]).max() >= 0.5 for row in test])
    assert abs(own["wsol"]["gt_known_loc"] - corloc) <= 1 / 8 and "top1_cls" not in own["wsol"]


@pytest.mark.parametrize(("stage", "there", "missing"), [
    ("generator", "gt_known_loc", "top1_cls"), ("classifier", "top1_cls", "gt_known_loc"),
])  # fmt: skip
def test_a_generator_or_a_classifier_alone_shows_what_it_can(version, tmp_path, stage, there, missing):
    run = make_run(tmp_path / "run", stage, version=version)
    figures = evaluated(tmp_path, run, "--tau", "0.5", "--protocol", "ppd")["results"][str(run)]["ppd"]
    assert there in figures and missing not in figures and "top1_loc" not in figures


def without_boxes(scenes: Path, file: Path, split: str) -> Path:
    """A list of the scenes' images with a class each, and nothing else that is true of them."""
    with (scenes / "list.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    known = {"split": split} if split else {}
    with file.open("w") as opened:
        writer = csv.DictWriter(opened, ["path", "label", *known])
        writer.writeheader()
        writer.writerows({"path": scenes / row["path"], "label": row["label"]} | known for row in rows)
    return file


def test_images_without_boxes_are_classified_without_a_threshold(scenes, run, tmp_path):
    images = without_boxes(scenes, tmp_path / "list.csv", "test")
    found = evaluated(tmp_path, run, "--catalog", "list", "--images", images, "--protocol", "locloc")
    figures = found["results"][str(run)]["locloc"]
    assert found["images"] == 40 and 0 <= figures["top1_cls"] <= 1 and "gt_known_loc" not in figures


def test_images_without_splits_are_said_to_have_none(scenes, run, tmp_path, locloc):
    said = locloc("eval", run, "--catalog", "list", "--images", without_boxes(scenes, tmp_path / "list.csv", ""))
    assert said.code == 1 and re.search(
        r"its images have no splits; what a training would draw of them is train: \d+, val: \d+; name one with "
        "--split, or compare masks with the truth by `locloc masks score`",
        " ".join(said.stderr.split()),
    )


def test_thresholds_given_and_swept(run, tmp_path):
    given = evaluated(tmp_path, run, "--tau", "0.25", "--protocol", "locloc")["results"][str(run)]["locloc"]
    swept = evaluated(tmp_path, run, "--tau", "sweep", "--protocol", "locloc")["results"][str(run)]["locloc"]
    assert (given["tau"], given["tau_from"], given["swept_on_test"]) == (0.25, "given", False)
    assert swept["swept_on_test"] and swept["gt_known_loc"] >= given["gt_known_loc"]


def test_a_sweep_on_test_images_is_marked_in_the_table(run, capsys):
    assert not app(["eval", str(run), "--tau", "sweep", "--protocol", "locloc,ppd"], standalone_mode=False)
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "tau" in line][:1]
    assert "(test *)" in line and "(fixed)" in line
    located = next(line for line in said.splitlines() if "GT-known" in line).split()
    assert located[3] == "*" and len(located) == 5  # under locloc, not under ppd
    assert "* the best threshold, or box, on the very images that are tested" in said


def test_imported_weights_are_evaluated_on_a_catalog_without_masks(scenes, run, tmp_path):
    own = tmp_path / "imported"
    shutil.copytree(run, own)
    arguments = [own, "--catalog", "synthetic", "--images", scenes, "--protocol", "wsol"]
    found = evaluated(tmp_path, *arguments)
    assert list(found["results"]) == [str(own), "centred box"]
    other = evaluated(tmp_path, run, "--protocol", "wsol")
    assert found["results"][str(own)] == other["results"][str(run)]


def test_images_that_cannot_be_read_count_as_wrong(run, scenes, version, tmp_path):
    moved = tmp_path / "scenes"
    shutil.copytree(scenes, moved)
    images = dataset_of_version(open_version(version), str(moved))
    whole = evaluated(tmp_path, run, "--images", moved, "--protocol", "ppd")["results"][str(run)]["ppd"]
    first = images.ids[images.rows("test")[0]]
    (file,) = [file for file in (moved / "images").rglob("*") if file.stem in first or first in str(file)]
    file.unlink()
    found = evaluated(tmp_path, run, "--images", moved, "--protocol", "ppd")
    assert found["unread"] == {first: "no such file"} and found["images"] == 8
    broken = found["results"][str(run)]["ppd"]
    assert broken["kinds"]["unread"] == 1
    assert broken["box_iou"] <= whole["box_iou"] and broken["top5_cls"] == whole["top5_cls"] - 1 / 8


def test_written_score_maps_are_evaluated_as_the_run_is(run, tmp_path):
    out = tmp_path / "wsol"
    assert not app(["eval", str(run), "--write-score-maps", str(out)], standalone_mode=False)
    again = evaluated(tmp_path, "--score-maps", out, "--metadata", out / "metadata", "--protocol", "wsol")
    own = evaluated(tmp_path, run, "--protocol", "wsol")["results"][str(run)]["wsol"]
    for name in ("max_box_acc", "max_box_acc_v2", "max_box_acc_v2_by_iou"):
        assert again[name] == pytest.approx(own[name])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["RUN", "--split", "trainn"], "No --split 'trainn'; did you mean 'train'"),
        (["RUN", "--images", "/nowhere"], "No image could be read"),
        (["RUN", "--split", "val"], "--split val is what thresholds are chosen on"),
        (["RUN", "--catalog", "cubb", "--images", "x"], "No --catalog 'cubb'; did you mean 'cub'"),
        (["RUN", "--catalog", "cub"], "--catalog needs --images"),
        (["RUN", "--truth", "/nowhere"], "--truth /nowhere is no folder of masks"),
        (["/nowhere/run"], "holds no generator/classifier"),
        (["/nowhere/masks.store@v1"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(locloc, run, arguments, complaint):
    said = locloc("eval", *[run if word == "RUN" else word for word in arguments])
    (line,) = [line for line in said.stderr.splitlines() if line]
    assert said.code == 1 and complaint in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--json", "none/figures.json"], "--json none/figures.json: No folder"),
        (["--json", "."], "--json . is a folder; name a file in it"),
        (["--json", "/proc/figures.json"], "--json /proc/figures.json cannot be written"),
        (["--report", "pyproject.toml"], "--report pyproject.toml is a file; name a folder"),
        (["--report", "tests"], "--report tests is not empty: it holds"),
        (["--report", "/proc/report"], "--report /proc/report cannot be written"),
        (["--write-score-maps", "tests"], "--write-score-maps tests is not empty: it holds"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_a_model_is_loaded(locloc, arguments, complaint):
    said = locloc("eval", "no-such-run", *arguments)
    assert said.code == 1 and complaint in said.stderr.replace("\n", "") and "no-such-run" not in said.stderr


def test_figures_are_written_though_the_terminal_and_the_report_are_gone(run, locloc, tmp_path, monkeypatch):
    def fail(*_: Any) -> str:
        raise TrainError("the disk is full")

    monkeypatch.setattr("locloc.trainer.evaluation.report.write_report", fail)
    figures = tmp_path / "figures.json"
    said = locloc("eval", run, "--protocol", "ppd", "--json", figures, "--report", tmp_path / "report")
    assert said.code == 1 and "the disk is full" in said.stderr and "GT-known Loc" in said.stdout
    assert json.loads(figures.read_text())["results"]

    def closed(*_: Any) -> None:
        raise BrokenPipeError

    figures.unlink()
    monkeypatch.setattr("locloc.trainer.evaluation.table.print_evaluation", closed)
    with contextlib.suppress(BrokenPipeError):
        locloc("eval", run, "--protocol", "ppd", "--json", figures)
    assert json.loads(figures.read_text())["results"]


def test_ids_that_no_score_map_can_have_are_named_before_the_work():
    for image_id, complaint in (("a,b", "comma"), ("../a", "leads out of"), ("é" * 126, "256")):
        with pytest.raises(TrainError, match=complaint):
            check_score_map_ids(["fine", image_id], Path("maps"))
