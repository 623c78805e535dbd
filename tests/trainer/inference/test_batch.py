"""`locloc predict` as a user meets it, on a run whose models have never learnt anything."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from locloc.cli import app
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import LocLocError, PredictError, TrainError
from locloc.pipeline.geometry.boxes import largest_box
from locloc.trainer.inference.inputs import find_inputs
from locloc.trainer.inference.predict import load
from locloc.trainer.models.checkpoint import create_model, save_checkpoint

SIZES = {"a.jpg": (97, 61), "cats/b.png": (40, 120), "cats/turned.jpg": (61, 97), "dogs/c.png": (224, 224)}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A generator and PPD's linear classifier for three classes on `pocket`, seeded, each in a run of its own."""
    folder = tmp_path_factory.mktemp("run")
    known = {"name": "pocket", "weights": "bundled", "sha256": Backbone(BackboneSpec("pocket")).sha256}
    for stage, shape in (
        ("generator", {"channels": 192, "base": 2, "width": 8, "tail": [8, 8, 8]}),
        ("linear", {"channels": 192, "classes": 3}),
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            model = create_model(stage, shape)
        (folder / stage).mkdir()
        header = {"shape": shape, "backbone": known, "backbone_size_px": 224, "classes": ["ant", "bee", "cow"]}
        header |= {"version": "photos.store@v1", "figures": {"tau": 0.4}}
        save_checkpoint(folder / stage / "best.safetensors", model, stage, header)
    return folder


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """Four images of odd sizes, one turned by its EXIF, one grey; one cut off, and one that is none."""
    folder, rng = tmp_path_factory.mktemp("album"), np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        rgb = blobs(rng, width, height)
        exif = Image.Exif()
        if "turned" in name:
            rgb, exif[0x0112] = np.ascontiguousarray(np.rot90(rgb)), 6
        Image.fromarray(rgb if "c.png" not in name else rgb[..., 0]).save(file, exif=exif)
    (folder / "cats" / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "dogs" / "text.jpg").write_text("woof")
    return folder


def blobs(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Soft blobs, so that the map has something to follow."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def predict(*arguments, code: int = 0) -> dict:
    said = io.StringIO()
    with redirect_stdout(said):
        ended = app(["predict", *map(str, arguments), "--device", "cpu", "--json"], standalone_mode=False)
    assert (ended or 0) == code
    return json.loads(said.getvalue())


@pytest.fixture(scope="module")
def found(run, album, tmp_path_factory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("found") / "out"
    formats = [part for name in ("coco", "json", "overlay", "mask") for part in ("--format", name)]
    return predict(run, album, "--out", out, *formats, "--batch", 3), out


def test_bad_files_are_reported_and_the_rest_is_done(found):
    summary, out = found
    assert (summary["total"], summary["done"]) == (6, 4)
    assert [row["file"] for row in summary["failed"]] == ["cats/cut.jpg", "dogs/text.jpg"]
    assert "cannot be decoded" in summary["failed"][0]["reason"]
    assert summary["failed"][1]["reason"] == "not an image of a known format"
    for file in ("summary.json", "predictions.json"):
        assert json.loads((out / file).read_text())["failed"] == summary["failed"]
    assert {file.name for file in out.iterdir()} == {
        "coco.json", "predictions.json", "summary.json", "overlays", "masks",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools, with NumPy 2
def test_coco_is_what_the_masks_and_the_python_interface_say(found, run, album):
    _, out = found
    with redirect_stdout(io.StringIO()):
        coco = COCO(out / "coco.json")
        again = coco.loadRes([dict(one) for one in coco.anns.values()])  # it writes into what it is given
    assert len(again.anns) == len(coco.anns) and [one["name"] for one in coco.cats.values()] == ["object"]
    images = {one["file_name"]: one for one in coco.imgs.values()}
    assert {name: (one["width"], one["height"]) for name, one in images.items()} == SIZES
    predictions = load(run, "cpu")([album / name for name in SIZES], batch=1)
    assert any(one.mask.any() for one in predictions)
    for name, one in zip(SIZES, predictions, strict=True):
        mask = np.array(Image.open(out / "masks" / Path(name).with_suffix(".png"))) > 0
        assert mask.shape == SIZES[name][::-1]
        assert np.count_nonzero(mask ^ one.mask) <= 0.002 * mask.size  # batches of 1 and 3 differ by rounding
        annotations = coco.loadAnns(coco.getAnnIds(images[name]["id"]))
        assert len(annotations) == mask.any()
        for annotation in annotations:
            assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert annotation["area"] == mask.sum() == rle.area(annotation["segmentation"])
            x, y, width, height = annotation["bbox"]
            assert [x, y, x + width, y + height] == largest_box(mask).tolist()
            assert annotation["score"] == pytest.approx(one.mask_score, abs=1e-3)


def test_json_has_a_line_for_each_image_in_their_order(found):
    _, out = found
    told = json.loads((out / "predictions.json").read_text())
    assert [one["file"] for one in told["images"]] == list(SIZES)
    assert (told["tau"], told["masks"], told["backbone"]) == (0.4, "photos.store@v1", "pocket")
    for one in told["images"]:
        mask = np.array(Image.open(out / "masks" / Path(one["file"]).with_suffix(".png"))) > 0
        assert one["box"] == (largest_box(mask).tolist() if mask.any() else None)


def test_what_clean_fills_is_in_masks_and_coco_alike(run, album, tmp_path):
    formats = [part for name in ("coco", "json", "mask") for part in ("--format", name)]
    predict(run, album, "--out", tmp_path / "out", *formats, "--clean", 0.2)
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    areas = {one["image_id"]: one["area"] for one in coco["annotations"]}
    for one in coco["images"]:
        mask = np.array(Image.open(tmp_path / "out" / "masks" / Path(one["file_name"]).with_suffix(".png"))) > 0
        assert mask.sum() == areas.get(one["id"], 0)
    for file in ("summary.json", "predictions.json"):
        assert json.loads((tmp_path / "out" / file).read_text())["clean"] == 0.2


def test_overlays_are_images(found):
    _, out = found
    for name in SIZES:
        with Image.open(out / "overlays" / Path(name).with_suffix(".jpg")) as overlay:
            assert overlay.mode == "RGB" and max(overlay.size) == 640


def test_classes_are_told_with_their_scores(run, album, tmp_path):
    summary = predict(run, album / "a.jpg", "--models", "ppd", "--top", 2)
    (one,) = summary["images"]
    assert (one["file"], one["width"], one["box"], summary["out"]) == ("a.jpg", 97, None, None)
    assert len(one["classes"]) == 2 and {row["name"] for row in one["classes"]} < {"ant", "bee", "cow"}
    assert one["classes"][0]["score"] >= one["classes"][1]["score"] > 0
    with pytest.raises(PredictError, match="a classifier alone, and no masks for --format coco; json and overlay"):
        predict(run, album, "--models", "ppd", "--out", tmp_path / "out")
    predict(run, album / "a.jpg", "--models", "ppd", "--out", tmp_path / "out", "--format", "overlay")
    assert (tmp_path / "out" / "overlays" / "a.jpg").exists()


def test_a_glob_and_a_threshold(run, album, tmp_path):
    wide = predict(run, album / "*.jpg", "--tau", 0.0)["images"]
    narrow = predict(run, album / "*.jpg", "--tau", 0.9)["images"]
    assert [one["file"] for one in wide] == [one["file"] for one in narrow] == ["a.jpg"]
    areas = [np.prod(np.subtract(one[0]["box"][2:], one[0]["box"][:2])) for one in (narrow, wide)]
    assert areas[0] < areas[1]


def test_nothing_that_gets_through_is_exit_code_3(run, album, tmp_path):
    summary = predict(run, album / "dogs" / "text.jpg", tmp_path / "none.jpg", "--out", tmp_path / "out", code=3)
    assert summary["done"] == 0 and summary["failed"][1]["reason"] == "no such file"
    assert json.loads((tmp_path / "out" / "coco.json").read_text())["images"] == []


@pytest.mark.parametrize(
    ("arguments", "kind", "complaint"),
    [
        (["--format", "coco"], PredictError, "--format coco needs a folder to write to: name a new one with --out"),
        (["--out", "OUT", "--format", "cocoo"], PredictError, "No --format 'cocoo'; did you mean 'coco'?"),
        (["--out", "FULL"], PredictError, "is not empty: it holds thesis.tex; name a new or empty folder"),
        (["--out", "FULL/thesis.tex"], PredictError, "is a file; name a folder"),
        (["--out", "FULL/thesis.tex/out"], PredictError, "cannot be written: not a directory"),
        (["--out", "OUT", "--tau", "1.5"], PredictError, "tau is a share of a map's range"),
        (["--out", "OUT", "--tau", "nan"], PredictError, "tau is a share of a map's range"),
        (["--backbone", "vit_tiny_patch16_224"], TrainError, "was trained on pocket"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, kind, complaint, run, album, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("precious")
    arguments = [one.replace("OUT", str(tmp_path / "out")).replace("FULL", str(full)) for one in arguments]
    with pytest.raises(kind, match=complaint.replace("?", r"\?")) as caught:
        predict(run, album, *arguments)
    assert isinstance(caught.value, LocLocError) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() and [file.name for file in full.iterdir()] == ["thesis.tex"]


def test_without_json_a_table_is_printed(run, album, capsys: pytest.CaptureFixture[str]):
    assert not app(["predict", str(run), str(album), "--device", "cpu"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "cats/turned.jpg" in shown and "4 of 6 images" in shown and "not an image of a known format" in shown


def test_what_a_folder_holds_besides_is_counted_and_named(run, tmp_path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / ".old").mkdir()
    (tmp_path / "@eaDir").mkdir()
    for name in ("a.jpg", ".old/b.jpg", "@eaDir/c.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    for name in ("raw.nef", "notes.txt", "._a.jpg"):
        (tmp_path / name).write_bytes(b"x")
    app(["predict", str(run), str(tmp_path), "--models", "locloc"], standalone_mode=False)
    assert (
        "left out: 1 .nef, 1 that are no images (.txt); 1 hidden folder (of a name that begins with a "
        "dot), 1 @eaDir (thumbnails that a NAS made); 1 ._* (macOS' metadata of other files)"
    ) in " ".join(capsys.readouterr().out.split())
    said = predict(run, tmp_path, "--models", "locloc")
    assert {(one["kind"], one["name"]) for one in said["left_out"]} == {
        ("suffix", ".nef"), ("suffix", ".txt"), ("folder", ".*"), ("folder", "@eaDir"), ("file", "._*"),
    }  # fmt: skip


def test_a_name_that_is_too_long_loses_its_overlay_alone(run, album, tmp_path):
    """The overlays of two images of one name are called NAME.jpg.jpg and NAME.png.jpg: 257 bytes."""
    stem = "a" * 249
    for suffix in (".jpg", ".png"):
        Image.open(album / "a.jpg").save(tmp_path / f"{stem}{suffix}")
    Image.open(album / "a.jpg").save(tmp_path / "b.jpg")
    summary = predict(run, tmp_path, "--out", tmp_path / "out", "--format", "coco", "--format", "overlay")
    assert summary["images"] is None, "they are in files"
    assert summary["done"] == 3 and [row["file"] for row in summary["failed"]] == [f"{stem}.jpg", f"{stem}.png"]
    assert "257 bytes are too long" in summary["failed"][0]["reason"]
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == 3
    assert [file.name for file in (tmp_path / "out" / "overlays").iterdir()] == ["b.jpg"]


def test_a_format_that_cannot_be_written_does_not_lose_the_others(run, album, tmp_path, monkeypatch):
    def fail(self) -> None:
        raise PredictError("coco.json cannot be written: no space left on device")

    monkeypatch.setattr("locloc.trainer.inference.formats.coco.Coco.close", fail)
    with pytest.raises(PredictError, match="coco.json cannot be written"):
        predict(run, album, "--out", tmp_path / "out", "--format", "coco", "--format", "json")
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]) == 4


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["albun"], r"albun: no such file or folder; did you mean 'album'\?"),
        (["album", "albun"], r"albun: no such file or folder; did you mean 'album'\?"),
        (["a.jpg", "b.jpg"], r"a\.jpg: no such file or folder; name images, folders or globs"),
        (["nowhere/x/y"], r"y: no such file or folder; name images, folders or globs"),
    ],
)
def test_a_mistyped_folder_is_told_before_any_work(names, complaint, tmp_path):
    (tmp_path / "album").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "album" / "a.jpg")
    with pytest.raises(PredictError, match=complaint):
        find_inputs([str(tmp_path / name) for name in names])


def test_a_missing_image_beside_others_is_left_to_decoding(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    names = [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    assert [image.name for image in find_inputs(names)] == ["a.jpg", "b.jpg"]
