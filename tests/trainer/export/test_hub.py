"""`locloc export --to hub`, and runs that are loaded as `hf:USER/NAME`, with a hub that is a folder."""

import json

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch

from locloc.pipeline.backbones import create
from locloc.pipeline.errors import StoreError, TrainError
from locloc.trainer.evaluation.resolve import resolve_targets
from locloc.trainer.evaluation.targets import split_targets
from locloc.trainer.export.run import export_run
from locloc.trainer.models import hub_runs
from locloc.trainer.models.checkpoint import load_checkpoint
from locloc.trainer.models.localizer import load_localizer
from locloc.trainer.models.run_tasks import find_tasks

from .conftest import tiny_vit

SQUARES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)

FIT = {"epochs": 4, "batch_size": 8, "optimizer": "adamw", "schedule": "cosine"}
EVALUATION = {
    "images": 20, "from": "/home/someone/masks.store@v3", "split": "test",
    "results": {
        "somewhere/run": {
            "wsol": {"tau": 0.4, "gt_known_loc": 0.8125, "swept_on_test": False, "kinds": {"good": 3}},
            "ppd": {"tau": 0.3, "gt_known_loc": 0.75, "max_box_acc_v2_by_iou": [0.1], "swept_on_test": True},
        },
        "masks of masks.store@v3": {"wsol": {"gt_known_loc": 0.5}},
    },
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`hub["me/name"] = folder` puts a run on the hub; downloads of others fail as without a network."""
    folders, asked = {}, []

    def snapshot_download(name, revision=None, allow_patterns=None):
        asked.append((name, revision))
        if name not in folders:
            raise ConnectionError("the hub cannot be reached. Check the network.")
        return str(folders[name])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(create, "_hub_resolves", lambda: True)
    hub_runs._downloaded.cache_clear()
    folders["asked"] = asked
    return folders


def test_a_run_goes_to_the_hub_and_comes_back(save_run, tmp_path, hub, capsys):
    recipe = {"generator": {"kind": "tapered", "fit": FIT}}
    run = save_run("generator", "classifier", recipe=recipe, recipe_name="/home/someone/mine.toml")
    (run / "recipe.toml").write_text("seed = 0\n")
    (run / "evaluation.json").write_text(json.dumps(EVALUATION))
    exported = export_run(run, tmp_path / "out", "hub")
    assert exported.files == (
        "README.md", "classifier/best.safetensors", "generator/best.safetensors", "recipe.toml",
    )  # fmt: skip
    assert exported.notes[0].startswith("README.md states no licence") and len(exported.notes) == 2
    for file in (tmp_path / "out").rglob("*.*"):
        assert b"someone" not in file.read_bytes(), file
    card = huggingface_hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == ("locloc", "image-segmentation", None)
    (figure,) = card.data.eval_results  # a threshold chosen on the test images is no result to compare with
    assert (figure.metric_type, figure.metric_value, figure.dataset_name) == ("gt_known_loc", 0.8125, "masks.store@v3")
    for said in (
        "| generator | tapered, 4 epochs, batches of 8, adamw, cosine rate | tau 0.4 |", "classes | 3: ant, bee, cat |",
        "Trained on the masks `masks.store@v3` (fingerprint abababababab)", "| ppd | gt_known_loc | 0.7500 \\* |",
        "training recipe `mine.toml`", "State the licence of these weights here",
    ):  # fmt: skip
        assert said in card.text, said

    hub["me/run"] = tmp_path / "out"
    loaded, original = load_localizer("hf:me/run@main", "cpu"), load_localizer(run, "cpu")
    assert torch.equal(loaded.maps(SQUARES), original.maps(SQUARES))
    assert torch.equal(loaded.logits(SQUARES), original.logits(SQUARES))
    assert (loaded.tau, loaded.classes) == (0.4, ("ant", "bee", "cat"))
    assert hub["asked"] == [("me/run", "main")]  # once a process
    with pytest.raises(TrainError, match="hf:me/run is of the hub already; `hf download me/run` copies it"):
        export_run("hf:me/run", tmp_path / "again", "hub")
    assert split_targets(["hf:me/run@v1", "m.store@v1"], None, None, "auto") == (["hf:me/run@v1"], ["m.store@v1"])
    options = {"device": "cpu", "models": "auto"}
    with pytest.raises(TrainError, match="hf:me/run .*names no store here: name images with --catalog KIND"):
        resolve_targets(["hf:me/run"], None, None, None, False, options)


def test_weights_of_a_file_go_with_the_run(save_run, tmp_path, hub):
    weights = tmp_path / "vit.safetensors"
    state = tiny_vit().state_dict()
    safetensors.torch.save_file({name: tensor + 0.01 for name, tensor in state.items()}, weights)
    run = save_run("generator", weights=str(weights))
    exported = export_run(run, tmp_path / "out", "hub")
    assert exported.files == ("README.md", "backbone.safetensors", "generator/best.safetensors")
    assert "their licence applies too" in exported.notes[1]
    _, header = load_checkpoint(tmp_path / "out" / "generator" / "best.safetensors")
    assert header["backbone"]["weights"] == "backbone.safetensors"
    expected = load_localizer(run, "cpu").maps(SQUARES)
    weights.unlink()
    hub["me/run"] = tmp_path / "out"
    assert torch.equal(load_localizer("hf:me/run", "cpu").maps(SQUARES), expected)
    export_run(tmp_path / "out", tmp_path / "twice", "hub")
    assert torch.equal(load_localizer(tmp_path / "twice", "cpu").maps(SQUARES), expected)
    with pytest.raises(TrainError, match="weights are no longer at .*vit.safetensors; name their file with --weights"):
        load_localizer(run, "cpu")


def test_imported_weights_take_their_backbone_with_them(save_run, tmp_path):
    run = save_run("generator", backbone={"name": "vit_small_patch16_224.dino"}, released="GEG_CUB.pth")
    with pytest.raises(TrainError, match="imported from GEG_CUB.pth"):
        export_run(run, tmp_path / "out", "hub")
    export_run(run, tmp_path / "out", "hub", backbone="tiny")
    assert load_localizer(tmp_path / "out", "cpu").backbone.name == "tiny"
    assert "imported from the released file GEG_CUB.pth" in (tmp_path / "out" / "README.md").read_text()


def test_figures_that_are_none_are_refused(save_run, tmp_path):
    run = save_run("classifier")
    with pytest.raises(TrainError, match=r"No file .*nothing.json; `locloc eval RUN --json=FILE` writes figures"):
        export_run(run, tmp_path / "out", "hub", figures=tmp_path / "nothing.json")
    for content in ("[]", "{}", "no JSON", '{"results": 3, "split": "test", "images": 2}'):
        (tmp_path / "figures.json").write_text(content)
        with pytest.raises(TrainError, match=r"figures.json holds no figures of `locloc eval"):
            export_run(run, tmp_path / "out", "hub", figures=tmp_path / "figures.json")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file is a file"):
        export_run(run, tmp_path / "file", "hub")
    assert not (tmp_path / "out").exists()
    export_run(run, tmp_path / "out", "hub")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Not evaluated." in card and "pipeline_tag: image-classification" in card


def test_a_run_that_the_hub_has_not_is_one_line(hub):
    with pytest.raises(TrainError) as caught:
        find_tasks("hf:me/none", "auto")
    assert str(caught.value) == (
        "hf:me/none is not in the cache and could not be downloaded (the hub cannot be reached); download it where "
        "there is a network, and give its folder"
    )
    for name in ("hf:", "hf:me", "hf:me/a/b", "hf:me/x y"):
        with pytest.raises(TrainError, match="names no run of the hub; write hf:USER/NAME, or hf:USER/NAME@REVISION"):
            find_tasks(name, "auto")


def test_a_model_of_the_hub_that_is_no_run_is_one_line(hub, tmp_path):
    hub["me/other"] = tmp_path
    with pytest.raises(TrainError, match=r"^hf:me/other holds no generator/classifier/decoder/linear with best"):
        load_localizer("hf:me/other", "cpu")
