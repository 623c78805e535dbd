"""Each format, read by its own library or by a reader of its own, gives the masks of the store."""

import json
import warnings
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import toBbox

from locloc.pipeline.export import ExportOptions, export_version
from locloc.pipeline.export.png import voc_palette

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, NumPy 2

ROWS = 76  # of 80: four have no mask
SIZES = ["original", "mask"]


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


def masks_of(version, size):
    """Every mask by id, as the export should have it."""
    return {id: version.mask(id, "stored" if size == "mask" else size) for id, _ in version.original_masks()}


def box_of(version, id, size):
    box = version.box(id)
    return box if size == "original" else box * np.tile(np.array([32, 32]) / [64, 48], 2)


def label_of(version, id):
    return version.table["label"][version.row(id)].as_py()


def pixels(file):
    with Image.open(file) as image:
        return np.array(image)


def iou(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize("segmentation", ["rle", "polygon", "box"])
def test_coco(version, tmp_path, segmentation, size):
    options = ExportOptions(segmentation=segmentation, size=size)
    exported = export_version(version, tmp_path / "out", "coco", options)
    assert (exported.rows, exported.empty, exported.size) == (ROWS, 1, size)
    assert exported.left_out == {"undecodable": 1, "non-finite": 1, "missing": 1, "crashed": 1}
    coco, wanted = COCO(tmp_path / "out" / "instances.json"), masks_of(version, size)
    assert {image["locloc_id"] for image in coco.imgs.values()} == set(wanted)
    for image in coco.imgs.values():
        id, mask = image["locloc_id"], wanted[image["locloc_id"]]
        assert (image["height"], image["width"]) == mask.shape
        annotations = coco.imgToAnns[image["id"]]
        assert len(annotations) == bool(mask.any())
        for annotation in annotations:
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["locloc_box"]
            assert np.allclose([x, y, x + width, y + height], box_of(version, id, size))
            if segmentation == "box":
                assert annotation["bbox"] == annotation["locloc_box"]
            assert coco.cats[annotation["category_id"]]["name"] == "abc"[label_of(version, id)]
            if segmentation == "rle":
                assert np.array_equal(coco.annToMask(annotation), mask)
                assert annotation["bbox"] == toBbox(annotation["segmentation"]).tolist(), "FiftyOne cuts masks to it"
            elif segmentation == "polygon":
                assert iou(coco.annToMask(annotation).astype(bool), mask) >= 0.98


def test_png(version, tmp_path, size):
    export_version(version, tmp_path / "out", "png", ExportOptions(size=size))
    wanted = masks_of(version, size)
    for id, mask in wanted.items():
        assert np.array_equal(pixels(tmp_path / "out" / "masks" / id.replace(".jpg", ".png")), mask)
    assert len(list((tmp_path / "out").rglob("*.png"))) == len(wanted)


def test_png_of_classes(version, tmp_path, monkeypatch):
    export_version(version, tmp_path / "out", "png", ExportOptions(segmentation="class"))
    monkeypatch.setattr("locloc.pipeline.export.png.PALETTE_CLASSES", 2)
    export_version(version, tmp_path / "deep", "png", ExportOptions(segmentation="class"))
    for id, mask in masks_of(version, "original").items():
        image = Image.open(tmp_path / "out" / "masks" / id.replace(".jpg", ".png"))
        deep = Image.open(tmp_path / "deep" / "masks" / id.replace(".jpg", ".png"))
        assert (image.mode, deep.mode) == ("P", "I;16")
        assert image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # VOC's
        for read in (image, deep):
            assert np.array_equal(np.array(read), mask * (label_of(version, id) + 1))
    assert (tmp_path / "out" / "classes.txt").read_text().split() == ["background", "a", "b", "c"]
    assert voc_palette()[3 * 255 :] == [224, 224, 192]


@pytest.mark.parametrize("segmentation", ["polygon", "box"])
def test_yolo(version, tmp_path, segmentation):
    """Read and drawn as ultralytics does: labels lie at the image's path with images exchanged for labels; whole
    pixels, and the border too."""
    export_version(version, tmp_path / "out", "yolo", ExportOptions(segmentation=segmentation))
    wanted, read = masks_of(version, "original"), 0
    folders = {"train": {"", "train"}, "val": {"val"}, "test": {"test"}}
    for file in (tmp_path / "out" / "images").rglob("*.jpg"):
        split, _, id = str(file.relative_to(tmp_path / "out" / "images")).partition("/")
        assert version.table["split"][version.row(id)].as_py() in folders[split]
        lines = (tmp_path / "out" / "labels" / split / id).with_suffix(".txt").read_text().splitlines()
        mask, (height, width, _) = wanted.pop(id), pixels(file).shape
        assert len(lines) == bool(mask.any())
        for line in lines:
            label, *numbers = line.split()
            assert int(label) == label_of(version, id)
            points = np.array(numbers, float).reshape(-1, 2) * [width, height]
            if segmentation == "box":
                (x, y), extent = points
                box = [x - extent[0] / 2, y - extent[1] / 2, x + extent[0] / 2, y + extent[1] / 2]
                assert np.allclose(box, version.box(id), atol=1e-3)
            else:
                drawn = cv2.fillPoly(np.zeros((height, width), np.uint8), [points.astype(np.int32)], 1)
                assert iou(drawn.astype(bool), mask) >= 0.98 or len(cv2.findContours(mask.view(np.uint8), 2, 1)[0]) > 1
        read += 1
    assert read == ROWS and not wanted
    data = (tmp_path / "out" / "data.yaml").read_text()
    assert 'train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: "a"\n  1: "b"\n  2: "c"\n' in data


def test_yolo_of_one_split_names_it_twice(version, tmp_path):
    export_version(version, tmp_path / "out", "yolo", ExportOptions(split="val", images="none"))
    data = (tmp_path / "out" / "data.yaml").read_text()
    assert "train: images/val  # no image is of the split train\nval: images/val\nnames" in data


def test_hdf5(version, tmp_path):
    h5py = pytest.importorskip("h5py")
    export_version(version, tmp_path / "out", "hdf5")
    wanted, count = masks_of(version, "mask"), 0
    for split in ("none", "train", "val", "test"):
        with h5py.File(tmp_path / "out" / f"{split}.h5") as file:
            masks, ids = file["dataset"][:], file["id"].asstr()[:]
            assert masks.dtype == np.uint8 and file.attrs["version"] == version.name
            assert list(file.attrs["classes"]) == ["a", "b", "c"]
            assert ids.tolist() == sorted(ids, key=str.encode)
            for position, id in enumerate(ids):
                row = version.row(id)
                assert np.array_equal(masks[position], wanted[id])
                assert (version.table["split"][row].as_py() or "none") == split
                assert file["label"][position] == label_of(version, id)
                assert np.array_equal(file["box"][position], version.box(id))
            count += len(ids)
    assert count == ROWS


def test_parquet(version, tmp_path, size, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("locloc.pipeline.export.parquet.GROUP_ROWS", 7)
    monkeypatch.setattr("locloc.pipeline.export.parquet.FILE_BYTES", 30_000)  # several files a split
    export_version(version, tmp_path / "out", "parquet", ExportOptions(size=size))
    files = sorted(str(file) for file in (tmp_path / "out" / "data").iterdir())
    assert any(file.endswith("train-00001-of-00003.parquet") for file in files), files
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that it imports
        data = datasets.load_dataset(
            "parquet", data_files={"train": files}, cache_dir=str(tmp_path / "cache"), split="train"
        )
        features = data.features
        assert features["label"].names == ["a", "b", "c"]
        assert type(features["image"]) is type(features["mask"]) is datasets.Image
        wanted = masks_of(version, size)
        for row in data:
            id = row["id"]
            assert np.array_equal(np.array(row["mask"]), wanted.pop(id))
            assert row["image"].size == (row["width"], row["height"]) == (64, 48)
            assert row["label"] == label_of(version, id)
            assert np.allclose(row["box"], box_of(version, id, size))
    assert not wanted


def test_webdataset(version, tmp_path, size, monkeypatch):
    wds = pytest.importorskip("webdataset")
    monkeypatch.setattr("locloc.pipeline.export.webdataset.SHARD_ROWS", 8)
    export_version(version, tmp_path / "out", "webdataset", ExportOptions(size=size))
    shards = sorted(str(file) for file in (tmp_path / "out").glob("*.tar"))
    assert str(tmp_path / "out" / "train-000001.tar") in shards
    wanted = masks_of(version, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil")
        for sample in pipe:
            about = sample["json"]
            assert np.array_equal(np.array(sample["mask.png"].convert("1")), wanted.pop(about["id"]))
            assert sample["jpg"].size == (64, 48)
            assert sample["cls"] == about["label"] == label_of(version, about["id"])
            assert np.allclose(about["box"], box_of(version, about["id"], size))
    assert not wanted


def read_brush(data, pixels):
    """rle-pack, bit by bit, as its documentation says; of the values, the first of four."""
    bits = "".join(f"{number:08b}" for number in data)
    at = 0

    def take(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    assert take(32) == 4 * pixels
    word = take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < 4 * pixels:
        repeated = take(1)
        count = take(widths[take(2)]) + 1
        values += [take(word)] * count if repeated else [take(word) for _ in range(count)]
    return np.array(values)[::4]


def test_label_studio(version, images, tmp_path):
    export_version(version, tmp_path / "out", "labelstudio", ExportOptions(images="link"))
    tasks, wanted = json.loads((tmp_path / "out" / "tasks.json").read_text()), masks_of(version, "original")
    assert len(tasks) == ROWS
    for task in tasks:
        id, (prediction) = task["data"]["locloc_id"], task["predictions"][0]
        prefix, _, local = unquote(task["data"]["image"]).partition("?d=")
        assert prefix == "/data/local-files/"
        assert (tmp_path / "out" / local).resolve() == (images / id).resolve()
        mask = wanted.pop(id)
        assert len(prediction["result"]) == 2 * mask.any()
        for region in prediction["result"]:
            width, height = region["original_width"], region["original_height"]
            assert (height, width) == mask.shape
            value = region["value"]
            assert value[region["type"]] == ["abc"[label_of(version, id)]]
            if region["type"] == "brushlabels":
                drawn = read_brush(value["rle"], width * height).reshape(height, width)
                assert np.array_equal(drawn, mask * 255)
            else:
                box = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
                assert np.allclose(np.array(box) / 100 * [64, 48, 64, 48], version.box(id), atol=1e-4)
    interface = (tmp_path / "out" / "labels.xml").read_text()
    assert interface.count('<Label value="a"/>') == 2
