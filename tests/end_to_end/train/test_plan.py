"""What `locloc train` says and checks before it trains: images, models, warnings, a dry run, and --only."""

import json

import numpy as np
import pytest

from locloc.pipeline.catalogs.row_filter import read_row_filter
from locloc.pipeline.errors import TrainError
from locloc.pipeline.store import open_version
from locloc.trainer.data.splits import load_training_rows, recorded_filter
from locloc.trainer.evaluation.eval_dataset import dataset_of_version
from locloc.trainer.training.plan import TaskPlan, TrainingPlan, _warnings
from locloc.trainer.training.training_tasks import check_classifier_rows

from .conftest import SMALL, in_process

ONE_EPOCH = ("--set", "generator.fit.epochs=1")


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Nothing is trained: what comes before is tested."""
    best = {"epoch": 1, "figures": {}}
    monkeypatch.setattr("locloc.trainer.training.run.fit", lambda *_, **__: best)
    monkeypatch.setattr("locloc.trainer.training.run.load_guide", lambda *_: None)


@pytest.mark.usefixtures("untrained")
def test_a_run_begins_with_what_it_takes(locloc, version, tmp_path):
    said = locloc("train", version, "--out", tmp_path / "run", "--stage", "generator", *SMALL, *ONE_EPOCH)
    assert said.code == 0, said.stderr
    first = said.stderr.splitlines()
    assert first[0].endswith("40 images; train 24, val 8, test 8 (not used)")
    assert first[1].startswith("4 classes, images to train on: 0 ")
    assert "24 images in batches of 8: 3 steps an epoch, 1 epochs, 3 steps" in first[2]
    notes = [line for line in first if line.startswith("note:")]
    assert "24 training images are few" in notes[0] and "8 validation images choose" in notes[1]


def test_a_dry_run_says_it_all_and_writes_nothing(version, tmp_path, monkeypatch):
    monkeypatch.setattr("locloc.trainer.training.dry_run.STEPS", 1)
    monkeypatch.chdir(tmp_path)
    plan = in_process("train", version, "--dry-run", "--out", tmp_path / "run", *SMALL)
    assert plan["splits"] == {"train": 24, "val": 8, "test": 8}
    assert [(task["name"], task["steps_per_epoch"], task["epochs"]) for task in plan["tasks"]] == [
        ("generator", 3, 2), ("classifier", 3, 2),
    ]  # fmt: skip
    assert all(task["seconds"] > 0 and task["parameters"] > 1e6 for task in plan["tasks"])
    assert sum(train + val for train, val in plan["classes"].values()) == 32
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--stage", "ppd"), ("--recipe", "guided"), ("--cache-tokens",)])
def test_every_kind_of_task_can_be_timed(version, arguments):
    plan = in_process("train", version, "--dry-run", *SMALL, *arguments)
    assert all(task["seconds"] > 0 for task in plan["tasks"])


@pytest.mark.slow
def test_part_of_a_version(locloc, version, tmp_path):
    """No validation image is chosen, so some are drawn; `eval` draws the same."""
    out, only = tmp_path / "run", "split=train and label in (0, 1, 2)"
    said = locloc("train", version, "--out", out, "--stage", "generator", "--only", only, *SMALL, *ONE_EPOCH)
    assert said.code == 0, said.stderr
    rows = load_training_rows(open_version(version), None, 0, 0.1, only=read_row_filter(only))
    assert rows.val_drawn and set(rows.labels[np.concatenate([rows.train, rows.val])]) == {0, 1, 2}
    about = json.loads((out / "run.json").read_text())
    assert about["only"]["text"] == only and about["only"]["images"] == len(rows.train) + len(rows.val)
    lines = " ".join(said.stderr.split())
    assert "of which --only split=train and label in (0, 1, 2) chooses" in lines
    assert f"{40 - 8 - len(rows.train) - len(rows.val)} not chosen by --only" in lines  # 8 are of the split test

    evaluated = dataset_of_version(open_version(version), only=read_row_filter(only))
    assert np.array_equal(evaluated.splits["val"], rows.val) and len(evaluated.splits["test"]) == 8
    figures = tmp_path / "figures.json"
    assert locloc("eval", out, "--protocol", "ppd", "--json", figures).code == 0
    assert json.loads(figures.read_text())["images"] == 8

    resumed = locloc("train", "--out", out, "--resume", "--set", "generator.fit.epochs=2")
    assert resumed.code == 0 and "generator.fit.epochs = 1, now 2: more epochs" in " ".join(resumed.stderr.split())
    other = locloc("train", "--out", out, "--resume", "--only", "label=1")
    assert other.code == 1 and "is another run: only" in other.stderr


@pytest.mark.usefixtures("untrained")
def test_a_choice_is_kept_with_the_run(version, tmp_path, locloc):
    opened = open_version(version)
    train = [row["id"] for row in opened.table.to_pylist() if row["split"] in ("train", "val")]
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(train[:20]))
    out = tmp_path / "run"
    said = locloc("train", version, "--out", out, "--stage", "generator", "--only", ids, *SMALL, *ONE_EPOCH)
    assert said.code == 0, said.stderr
    ids.unlink()
    assert sorted((out / "only.txt").read_text().split()) == sorted(train[:20])
    assert locloc("train", "--out", out, "--resume").code == 0
    about = json.loads((out / "run.json").read_text())
    assert recorded_filter(about, out).rows(opened.catalog).sum() == 20
    other = locloc("train", "--out", out, "--resume", "--only", "label=1")
    assert other.code == 1 and "is another run: only" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "label=7"], "none of 40 images"),
        (["--only", "split=trian"], "no such split; did you mean 'train'?"),
        (["--only", "split=test"], "has 0 images to train on"),
        (
            ["--only", "id in (000000, 000001)"],
            "has 1 image with masks to train generator on (at least 2 are needed) and 1 to choose a model on, of those "
            "that --only id in (000000, 000001) chooses: its images by split: train 1, val 1; `locloc masks show ",
        ),
        (["--devices", "16", "--accelerator", "cpu"], "(at least 32 are needed on 16 devices) and 8 to choose"),
        (
            ["--devices", "4", "--accelerator", "cpu", "--set", "generator.fit.batch_size=3"],
            "generator: batches of 3 images are too small for 4 devices; --set generator.fit.batch_size=8, or more",
        ),
        (["--out", "/proc/run"], "--out /proc/run cannot be written"),
        (["--out", "a" * 256], "cannot be written: file name too long"),
        (["--stage", "classifier", "--recipe", "guided"], "has no generator yet"),
    ],
)
def test_what_can_be_known_is_known_before_anything_is_written(locloc, version, tmp_path, arguments, complaint):
    out = [] if "--out" in arguments else ["--out", tmp_path / "run"]
    said = locloc("train", version, *out, *arguments)
    assert said.code == 1 and complaint in said.stderr.replace("\n", ""), said.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [([], "Which masks? Name STORE@VERSION"), (["STORE"], "--out names the folder of the run")],
)
def test_what_is_missing_is_named(locloc, version, arguments, complaint):
    said = locloc("train", *[version if one == "STORE" else one for one in arguments])
    assert said.code == 1 and complaint in said.stderr


def rows_with(version: str, labels: np.ndarray, classes: int):
    rows = load_training_rows(open_version(version), None, 0, 0.1)
    return rows.__class__(**(vars(rows) | {"labels": labels, "classes": classes}))


def test_images_without_labels_are_refused_before_the_generator_is_trained(version, locloc, tmp_path, monkeypatch):
    real = load_training_rows

    def without_labels(*arguments, **more):
        rows = real(*arguments, **more)
        return rows.__class__(**(vars(rows) | {"labels": np.full(len(rows.labels), -1), "classes": 0}))

    monkeypatch.setattr("locloc.trainer.training.run.load_training_rows", without_labels)
    said = locloc("train", version, "--out", tmp_path / "run")
    assert said.code == 1 and "32 of 32 images have no class" in said.stderr and "--stage generator" in said.stderr
    assert not (tmp_path / "run").exists()


def test_labels_that_would_make_an_absurd_classifier_are_refused(version):
    labels = np.zeros(40, np.int64)
    labels[load_training_rows(open_version(version), None, 0, 0.1).train[0]] = 3_000_000
    with pytest.raises(TrainError, match="Labels go up to 3000000 .* 2 classes have images: .* 3000001 outputs"):
        check_classifier_rows(rows_with(version, labels, 3_000_001))
    check_classifier_rows(rows_with(version, np.arange(40) % 4, 21_843))


@pytest.mark.usefixtures("untrained")
def test_one_class_and_one_step_are_warned_of(locloc, version, tmp_path):
    said = locloc(
        "train", version, "--out", tmp_path / "run", "--only", "label=0", "--workers", 0, "--set",
        "generator.fit.epochs=1", "--set", "classifier.fit.epochs=1", "--set", "generator.fit.batch_size=64",
    )  # fmt: skip
    lines = " ".join(said.stderr.split())
    assert "one class, 0: a classifier has nothing to tell apart" in lines
    assert "generator: one step an epoch, 1 in all" in lines and "--set generator.fit.batch_size=2 makes more" in lines


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "note"),
    [
        (
            720,
            256,
            20,
            "generator: 3 steps an epoch, 60 in all, of 720 images; --set generator.fit.batch_size=90 makes",
        ),
        (
            200,
            256,
            20,
            "generator: one step an epoch, 20 in all, of 200 images; --set generator.fit.batch_size=25 makes",
        ),
        (5994, 256, 20, None),
        (77, 16, 8, None),  # the demo's batches are small already
    ],
)
def test_few_steps_an_epoch_are_warned_of(images, batch, epochs, note):
    task = TaskPlan("generator", 1, images, 100, batch, -(-images // batch), epochs)
    plan = TrainingPlan("s@v1", images, None, {"train": images, "val": 100}, False, {}, {}, (task,))
    assert [found for found in _warnings(plan) if "steps" in found or "step an epoch" in found] == (
        [] if note is None else [f"{note} more"]
    )


@pytest.mark.slow
def test_a_backbone_of_other_patches_trains_under_every_stage_and_is_evaluated(locloc, scenes, tmp_path):
    store, run = tmp_path / "masks.store", tmp_path / "run"
    vit = ("--backbone", "vit_small_patch14_dinov2", "--weights", "random")
    in_process("masks", "build", scenes, "--catalog", "synthetic", "--store", store, "--workers", 1, *vit)
    changes = ("linear.fit.batch_size=12", "classifier.fit.epochs=1", "decoder.size_px=256")  # 224 for scenes
    sets = [part for change in changes for part in ("--set", change)]
    for stage in ("all", "ppd"):
        said = locloc("train", f"{store}@v1", "--out", run / stage, "--stage", stage, *SMALL, *ONE_EPOCH, *sets)
        assert said.code == 0, said.stderr
        note = "decoder: images of 252 px, not decoder.size_px = 256"
        assert (note in " ".join(said.stderr.split())) == (stage == "ppd")
    about = json.loads((run / "ppd" / "run.json").read_text())
    assert about["inputs"] == {"decoder": {"size_px": 252}, "linear": {"size_px": 224, "resize_px": 256}}
    evaluated = in_process("eval", run / "all", run / "ppd", "--protocol", "wsol")
    assert {str(run / "all"), str(run / "ppd")} <= set(evaluated["results"])
    predicted = locloc("predict", run / "ppd", scenes / "images", "--out", tmp_path / "boxes", "--format", "json")
    assert predicted.code == 0, predicted.stderr
