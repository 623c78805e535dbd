"""`locloc masks tune` on made images: better levels than a bad recipe's, the same for a seed, from one split only."""

import json
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from locloc.cli import app
from locloc.pipeline.errors import LocLocError, RecipeError, StoreError, TruthError
from locloc.pipeline.inspect.score import score_version
from locloc.pipeline.inspect.tune import tune as module
from locloc.pipeline.inspect.tune.recipe_file import check_recipe_file, recipe_text, write_recipe
from locloc.pipeline.inspect.tune.tune import TuneOptions, tune_version
from locloc.pipeline.inspect.tune.workers import scorer
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.recipes.choice import choose_refinement
from locloc.pipeline.store import open_version

from .conftest import IMAGES, make_version


@pytest.fixture
def version(folder):
    return open_version(f"{folder}/m.store@v1")


def tuned(version, truth, **options):
    return tune_version(version, str(truth), TuneOptions(**{"trials": 12, "workers": 1, **options}))


def test_it_finds_better_levels_than_a_bad_recipe(version, folder, tmp_path):
    told = []
    options = TuneOptions(trials=25, workers=1)
    report = tune_version(version, str(folder / "truth"), options, lambda *count: told.append(count))
    own = report.known[0]
    assert (report.images, report.split, report.metric, own.name) == (IMAGES, "val", "mask-iou", version.name)
    assert [one.name for one in report.known[1:]] == ["recipe contrast", "recipe relative"]
    assert report.winner.mask_iou > own.mask_iou + 0.3 and report.winner.mask_iou > 0.75
    assert report.gain == pytest.approx(report.winner.mask_iou - own.mask_iou) and 0 < report.gain_error < report.gain
    assert report.winner.mask_iou == max(one.mask_iou for one in [*report.known, *report.best])
    assert told[-1] == (28, 28) and len(report.best) + report.given_up == 25
    write_recipe(report, file := tmp_path / "mine.toml")
    assert Recipe.load(file) == report.winner.recipe
    choice = choose_refinement(file, version.name, version.provenance, "m.store")
    assert (choice.recipe, choice.warnings, choice.notes) == (report.winner.recipe, (), ())
    comments = [line for line in file.read_text().splitlines() if line.startswith("# ")][:5]
    for part in (version.name, "24 images of the split val", f"mask IoU {own.mask_iou:.4f}", "25 trials", "seed 0"):
        assert part in "".join(comments)


def test_the_version_s_own_figures_are_those_of_masks_score(tmp_path):
    version = make_version(tmp_path, images=8)
    (own, *_) = tuned(version, tmp_path / "truth", trials=1).known
    masks = score_version(version, str(tmp_path / "truth"), split="val").scores["masks"]
    assert (own.mask_iou, own.precision, own.recall, own.corloc) == pytest.approx(
        (masks.mask_iou, masks.precision, masks.recall, masks.corloc)
    )
    assert own.box_iou == pytest.approx(masks.box_iou, abs=1e-6)


def results(report):
    return [one.as_json() for one in [*report.known, *report.best]], report.given_up, report.gain_error


def test_neither_processes_nor_the_clock_change_what_a_seed_finds(version, folder):
    one, two = (tuned(version, folder / "truth", workers=workers, trials=6) for workers in (1, 2))
    assert results(one) == results(two)
    assert results(tuned(version, folder / "truth", trials=6, seed=1)) != results(one)


def test_without_contrast_maps_and_with_boxes_only(tmp_path):
    version = make_version(tmp_path, maps="attention", images=16)
    report = tuned(version, "catalog")
    assert report.metric == "box-iou" and report.winner.mask_iou is None
    assert {one.recipe.saliency.strategy for one in report.best} <= {"absolute", "relative"}
    assert [one.name for one in report.known[1:]] == ["recipe ppd", "recipe relative"] or [
        one.name for one in report.known[1:]
    ] == ["recipe relative"]
    assert "mask IoU" not in recipe_text(report) and "box IoU" in recipe_text(report)
    assert tuned(version, "catalog", metric="corloc", trials=2).metric == "corloc"
    with pytest.raises(TruthError, match="--metric mask-iou needs true masks"):
        tuned(version, "catalog", metric="mask-iou")


def test_what_cannot_be_used_is_left_out_and_said(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    version = open_version(f"{tmp_path}/copy/m.store@v1")
    (tmp_path / "copy" / "images" / "00.png").unlink()
    (tmp_path / "copy" / "images" / "02.png").write_bytes((folder / "images" / "04.png").read_bytes())
    for odd in range(1, 2 * IMAGES, 2):
        (tmp_path / "copy" / "images" / f"{odd:02}.png").unlink()  # of train: never read
    (tmp_path / "copy" / "truth" / "06.png").unlink()
    report = tuned(version, tmp_path / "copy" / "truth", root=str(tmp_path / "copy" / "images"), trials=2)
    assert report.images == IMAGES - 3
    assert any("2 images cannot be read (first 00.png: no such file): left out" in line for line in report.warnings)
    with pytest.raises(TruthError, match="none of .* images can be read.*--root"):
        tuned(version, tmp_path / "copy" / "truth", root=str(tmp_path), trials=2)
    for file in (tmp_path / "copy" / "truth").glob("*[02468].png"):
        file.unlink()
    with pytest.raises(TruthError, match="no image of the split val of .* has ground truth"):
        tuned(version, tmp_path / "copy" / "truth")


def test_more_images_than_fit_into_memory_are_drawn_evenly(version, folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 7)
    report = tuned(version, folder / "truth", trials=1)
    assert report.images == 7
    assert any("7 of 24 images are used, evenly drawn" in line for line in report.warnings)


def test_splits(version, folder):
    assert tuned(version, folder / "truth", split="train", trials=1).images == IMAGES
    with pytest.raises(StoreError, match="no images in its split 'test'; it has train: 24, val: 24; name one with"):
        tuned(version, folder / "truth", split="test")


def test_the_command(version, folder, tmp_path):
    command = ["masks", "tune", version.name, "--truth", str(folder / "truth"), "--trials", "4", "--workers", "1"]
    said = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "mine.toml"), f"--json={tmp_path}/r.json"])
    assert said.exit_code == 0, said.output
    for part in ("24 images of the split val, by mask-iou", "recipe contrast", "levels", "is the best", "masks refine"):
        assert part in said.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert Recipe.load(tmp_path / "mine.toml").model_dump(mode="json") == report["winner"]["recipe"]
    assert (report["trials"], report["seed"], len(report["known"])) == (4, 0, 3)
    said = CliRunner().invoke(app, [*command, "--metric", "mask-iuo"])
    assert isinstance(said.exception, TruthError) and "did you mean 'mask-iou'?" in str(said.exception)


@pytest.mark.parametrize(("name", "why"), [("mine", "ends in .toml"), ("no/mine.toml", "No folder"), ("", "folder")])
def test_a_file_that_cannot_be_a_recipe(name, why, tmp_path):
    with pytest.raises(RecipeError, match=f"--out .*{why}" if name else "ends in .toml"):
        check_recipe_file(tmp_path / name)


@pytest.mark.slow
def test_a_process_that_dies_or_fails_is_an_error(version, folder):
    recipe = Recipe.model_validate(version.provenance["recipe"])
    objects = module.TrueObjects(version, str(folder / "truth"), recipe)
    images = module._kept_images(version, objects)
    with scorer(images, folder / "images", recipe, 2, [recipe.refine]) as scores:
        whole = scores(recipe, 0, len(images))
        for start, stop in ((0, 1), (1, 2), (3, 20), (5, len(images)), (len(images) - 1, len(images))):
            assert np.array_equal(scores(recipe, start, stop), whole[start:stop])
        wrong = recipe.model_copy(update={"saliency": recipe.saliency.model_copy(update={"heads": (99,)})})
        with pytest.raises(IndexError) as raised:
            scores(wrong, 0, 4)
        assert "make_mask" in raised.value.__notes__[0]
    with scorer(images, folder / "images", recipe, 2, [recipe.refine]) as scores:
        os.kill(scores._workers[1]._process.pid, 9)
        with pytest.raises(LocLocError, match=r"ended \(exit code -9.*--workers"):
            scores(recipe, 0, len(images))
