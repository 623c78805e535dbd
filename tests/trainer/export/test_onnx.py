"""`locloc export --to onnx`: ONNX Runtime gives what torch gives, for every kind of run, in batches of any size."""

import json
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from locloc.pipeline.errors import StoreError, TrainError
from locloc.trainer.export import onnx
from locloc.trainer.export.run import export_run
from locloc.trainer.inference.predict import load
from locloc.trainer.models.localizer import load_localizer


def session_of(out) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])


def noise(batch: int, side_px: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, side_px, side_px, 3), dtype=np.uint8)


def agree(actual: np.ndarray, expected: torch.Tensor) -> bool:
    return float(np.abs(actual - expected.numpy()).max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


def use_onnx(width_px: int, tmp_path, monkeypatch) -> dict:
    """The variables of the exported script, run on image.png, a ramp with a red rectangle."""
    ramp = np.linspace(0, 255, 60 * width_px * 3).reshape(60, width_px, 3).astype(np.uint8)
    ramp[20:50, 30:70] = (200, 30, 60)
    Image.fromarray(ramp).save(tmp_path / "image.png")
    monkeypatch.setattr(sys, "argv", ["use_onnx.py", str(tmp_path / "out" / "model.onnx"), str(tmp_path / "image.png")])
    return runpy.run_path(str(tmp_path / "out" / "use_onnx.py"))


def test_one_graph_gives_map_mask_and_logits_and_the_script_uses_it(save_run, tmp_path, monkeypatch, capsys):
    run = save_run("generator", "classifier", images={"fit": "stretch"})
    exported = export_run(run, tmp_path / "out")
    assert (exported.format, exported.files, exported.notes) == ("onnx", ("model.onnx", "use_onnx.py"), exported.notes)
    assert len(exported.notes) == 1 and "--class-square own" in exported.notes[0]
    assert exported.difference < 1e-4
    session, localizer = session_of(tmp_path / "out"), load_localizer(run, "cpu")
    assert [(value.name, value.shape, value.type) for value in session.get_inputs()] == [
        ("images", ["batch", 32, 32, 3], "tensor(uint8)")
    ]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("map", ["batch", 32, 32]), ("mask", ["batch", 32, 32]), ("logits", ["batch", 3]),
    ]  # fmt: skip
    for batch in (1, 5):
        images = noise(batch, 32)
        map_, mask, logits = session.run(None, {"images": images})
        maps, expected = localizer.both(images)
        resized = F.interpolate(maps[:, None], size=32, mode="bilinear")[:, 0]
        assert agree(map_, resized) and agree(logits, expected)
        scaled = (map_ - map_.min((1, 2), keepdims=True)) / np.ptp(map_, (1, 2), keepdims=True)
        assert mask.dtype == bool and (mask == (scaled > 0.4))[np.abs(scaled - 0.4) > 1e-5].all()
    about = json.loads(session.get_modelmeta().custom_metadata_map["locloc"])
    assert (about["tau"], about["classes"], about["run"]) == (0.4, ["ant", "bee", "cat"], "run")
    assert about["inputs"]["images"]["fit"] == "stretch" and about["normalisation"]["std"] == [0.2, 0.3, 0.25]

    said = use_onnx(80, tmp_path, monkeypatch)
    prediction = load(run, "cpu")(tmp_path / "image.png")[0]
    assert np.abs(said["box"] - prediction.box).max() <= 80 / 32 + 1
    assert said["name"] in ("ant", "bee", "cat")
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'image.png'} [")

    graph, file = onnx.RunGraph(localizer, 0.4), tmp_path / "out" / "model.onnx"
    with monkeypatch.context() as other:
        other.setattr(onnx, "TOLERANCE", -1.0)
        with pytest.raises(TrainError, match=r"run is not exported: ONNX Runtime .* differs from torch by .*tiny$"):
            onnx._check(file, graph, "run")
    with pytest.raises(TrainError, match="masks are not its maps above the threshold"):
        onnx._check(file, onnx.RunGraph(localizer, 0.6), "run")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    note = "not compared with torch, which needs onnxruntime: pip install 'locloc[onnx]'"
    assert onnx._check(file, graph, "run") == (None, (note,))


def test_what_is_missing_or_wrong_is_one_line_and_leaves_nothing(save_run, tmp_path, monkeypatch):
    run = save_run("classifier")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(StoreError, match="full.* is not empty"):
        export_run(run, tmp_path / "full")
    with pytest.raises(TrainError, match="No format 'onxn'; did you mean 'onnx'"):
        export_run(run, tmp_path / "out", "onxn")

    def refuse(*_, **__):
        raise RuntimeError("an operator is missing\nand much more")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(TrainError, match="run cannot be exported to ONNX: RuntimeError: an operator is missing$"):
        export_run(run, tmp_path / "out")
    shape = SimpleNamespace(name="images", shape=(2, 32, 32, 3))
    fixed = SimpleNamespace(model=SimpleNamespace(graph=SimpleNamespace(inputs=[shape])))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: fixed)
    with pytest.raises(TrainError, match="run cannot be exported to ONNX: its graph takes batches of 2 images only"):
        export_run(run, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(TrainError, match=r"--to onnx needs onnxscript: pip install 'locloc\[onnx\]'$"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


PAPER = {"base": 4, "tail": [16, 16, 16], "width": 20}
RUNS = {
    "paper": ({"generator": PAPER | {"wiring": "published"}}, ("generator", "classifier")),
    "tapered": ({}, ("generator", "classifier")),
    "generator alone": ({}, ("generator",)),
    "classifier alone": ({}, ("classifier",)),
    "guided": ({"keep_tokens": 0.5, "shared_blocks": 1}, ("generator", "classifier")),
    "ppd": ({}, ("decoder", "linear")),
    "ppd with two sizes": ({"larger_decoder": True}, ("decoder", "linear")),
    "DINOv2 with registers": (
        {"vit": "vit_small_patch14_reg4_dinov2", "weights": "random", "size_px": 42}, ("generator", "classifier"),
    ),
    "DINOv3, guided": (
        {"vit": "vit_small_patch16_dinov3", "weights": "random", "size_px": 64, "keep_tokens": 0.5},
        ("generator", "classifier"),
    ),
    "another size": ({"size_px": 48}, ("generator", "classifier")),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_every_kind_of_run(kind, save_run, tmp_path):
    settings, tasks = RUNS[kind]
    run = save_run(*tasks, **settings)
    assert export_run(run, tmp_path / "out", tau=0.7).difference <= 1e-4
    session, localizer = session_of(tmp_path / "out"), load_localizer(run, "cpu")
    squares = {value.name: noise(3, value.shape[1]) for value in session.get_inputs()}
    assert list(squares) == ["images"] + ["class_images"] * (kind == "ppd with two sizes")
    outputs = dict(zip((value.name for value in session.get_outputs()), session.run(None, squares), strict=True))
    if localizer.has_maps:
        resized = F.interpolate(localizer.maps(squares["images"])[:, None], size=localizer.map_px, mode="bilinear")[
            :, 0
        ]
        assert agree(outputs["map"], resized) and outputs["mask"].any()
    if localizer.has_classes:
        assert agree(outputs["logits"], localizer.logits(squares.get("class_images", squares["images"])))
    assert outputs.keys() == {*["map", "mask"] * localizer.has_maps, *["logits"] * localizer.has_classes}


@pytest.mark.slow
@pytest.mark.parametrize("keep_tokens", [1.0, 0.5])
def test_a_classifier_with_a_square_of_its_own_says_what_predict_says(save_run, tmp_path, monkeypatch, keep_tokens):
    run = save_run("generator", "classifier", images={"fit": "stretch"}, keep_tokens=keep_tokens)
    assert export_run(run, tmp_path / "out", class_square="own").notes == ()
    session, localizer = session_of(tmp_path / "out"), load_localizer(run, "cpu")
    squares = {"images": noise(2, 32), "class_images": noise(3, 32)[:2]}
    map_, _, logits = session.run(None, squares)
    resized = F.interpolate(localizer.maps(squares["images"])[:, None], size=32, mode="bilinear")[:, 0]
    assert agree(map_, resized) and agree(logits, localizer.logits(squares["class_images"]))
    said = use_onnx(90, tmp_path, monkeypatch)
    prediction = load(run, "cpu")(tmp_path / "image.png")[0]
    assert said["name"] == prediction.classes[0]
    assert said["shares"].max() / said["shares"].sum() == pytest.approx(prediction.scores[0], abs=0.02)


@pytest.mark.slow
def test_large_weights_lie_beside_the_graph(save_run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "LARGEST_BYTES", 0)
    exported = export_run(save_run("generator", "classifier"), tmp_path / "out")
    assert exported.files == ("model.onnx", "model.onnx.data", "use_onnx.py") and exported.difference <= 1e-4
    (tmp_path / "out").rename(tmp_path / "moved")
    assert len(session_of(tmp_path / "moved").run(None, {"images": noise(2, 32)})) == 3
