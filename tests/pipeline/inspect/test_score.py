"""Scores against cases calculated by hand, on small stores."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.cli import app
from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import TruthError
from locloc.pipeline.inspect.score import score_version, write_per_image
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store import Version, open_version
from locloc.pipeline.store.schema import STATS, content_crc, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter

SIDE = 256
RECIPE = load_recipe("pocket").model_dump(mode="json")


def square(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def make_version(
    store: Path, masks: list[np.ndarray], boxes: list[list[float]], catalog_boxes: list, status: list[int]
) -> Version:
    """One block of images of 512 x 256; attention is 1 in the left half and 0 in the right."""
    rows = CatalogRows()
    for number, image_boxes in enumerate(catalog_boxes):
        rows.add(f"{number}.jpg", f"set/{number}.jpg", boxes=image_boxes)
    catalog = build_catalog("list", Path("/data"), rows, [], where=lambda row, column: "", looked_for="")
    attention = np.zeros((len(masks), 3, 14, 14), np.float16)
    attention[..., :7] = 1
    packed = pack_masks(np.array(masks))
    columns = {
        "box": np.array(boxes, np.float32),
        "stats": np.zeros((len(masks), len(STATS)), np.float32),
        "status": np.array(status, np.uint8),
        # an image that was not decoded has no size
        "size": np.array([[512, 256] if code == Status.OK else [0, 0] for code in status], np.int32),
        "content_crc": content_crc(packed, attention),
        "input_digest": np.zeros((len(masks), 16), np.uint8),
    }
    with StoreWriter(store) as writer:
        metadata = {
            "recipe": RECIPE,
            "catalog": {"rows": len(masks), "root": "/data"},
            "created_at": "",
            "parent": None,
        }
        metadata |= {"fingerprint": "cd" * 32, "build_id": "cd" * 32}
        writer.begin(metadata, catalog, (3, 14, 14), SIDE)
        write_block(writer.fork.store, 0, packed, attention)
        writer.merge(writer.fork, 0, columns)
        writer.publish()
    return open_version(f"{store}@v1")


@pytest.fixture
def version(tmp_path) -> Version:
    """Row 0 is right, row 1 half right, row 2 has no mask, row 3 has no ground truth."""
    masks = [square(64, 64, 128, 128), square(64, 64, 128, 128), square(0, 0, 0, 0), square(0, 0, 9, 9)]
    boxes = [[128, 64, 256, 128], [128, 64, 256, 128], [0, 0, 0, 0], [0, 0, 18, 9]]
    catalog_boxes = [[[128, 64, 256, 128]], [[0, 0, 9, 9], [128, 64, 256, 192]], [[0, 0, 512, 256]], []]
    status = [Status.OK, Status.OK, Status.UNDECODABLE, Status.OK]
    return make_version(tmp_path / "masks.store", masks, boxes, catalog_boxes, status)


@pytest.fixture
def truth(tmp_path) -> Path:
    folder = tmp_path / "truth"
    (folder / "set").mkdir(parents=True)
    for number, mask in enumerate([square(64, 64, 128, 128), square(64, 64, 128, 192), square(0, 0, 256, 256)]):
        wide = mask.repeat(2, axis=1).astype(np.uint8) * 255  # of the original images, 512 x 256
        Image.fromarray(wide).save(folder / "set" / f"{number}.png")
    return folder


def test_masks_by_hand(version, truth):
    report = score_version(version, str(truth))
    assert report.images == 3
    assert report.coverage == pytest.approx(2 / 3)
    masks = report.scores["masks"]
    assert masks.mask_iou == pytest.approx((1 + 0.5 + 0) / 3)
    assert masks.precision == pytest.approx((1 + 1 + 0) / 3)
    assert masks.recall == pytest.approx((1 + 0.5 + 0) / 3)
    assert masks.box_iou == pytest.approx((1 + 0.5 + 0) / 3)
    assert masks.corloc == pytest.approx(2 / 3), "an IoU of exactly 0.5 counts"


def test_true_masks_may_have_another_size_than_their_images(version, truth):
    before = score_version(version, str(truth))
    for file in (truth / "set").iterdir():
        Image.open(file).resize((256, 64), Image.Resampling.NEAREST).save(file)
    after = score_version(version, str(truth))
    assert after.scores["masks"].box_iou == pytest.approx(before.scores["masks"].box_iou)
    assert after.scores["masks"].mask_iou == pytest.approx(before.scores["masks"].mask_iou, abs=0.02)


def test_the_thresholded_attention_is_the_left_half(version, truth):
    score = score_version(version, str(truth)).scores["thresholded attention"]
    left = 128 * 256
    share = score.mask_iou * 3  # row 2 failed and counts 0, though its ground truth is the whole image
    assert share == pytest.approx((64 * 64 + 64 * 128) / left, rel=0.15)
    assert score.corloc == 0


def test_centred_shapes_have_the_best_proportions(version, truth):
    scores = score_version(version, str(truth)).scores
    whole = scores["centred box, best for mask IoU"]
    assert whole.mask_iou == pytest.approx((64 * 64 / SIDE**2 + 64 * 128 / SIDE**2 + 1) / 3, abs=1e-3)
    assert whole.recall == pytest.approx(1, abs=1e-3)
    assert scores["centred box, best for CorLoc"].corloc >= whole.corloc
    assert scores["centred ellipse, best for mask IoU"].mask_iou < whole.mask_iou


def test_the_best_of_the_catalogs_boxes_counts(version):
    report = score_version(version, "catalog")
    assert report.images == 3
    masks = report.scores["masks"]
    assert (masks.mask_iou, masks.precision, masks.recall) == (None, None, None)
    assert masks.box_iou == pytest.approx((1 + 0.5 + 0) / 3)
    assert masks.corloc == pytest.approx(2 / 3)
    assert "centred box, best for box IoU" in report.scores


def test_ambiguous_names_are_not_paired(version, truth):
    (truth / "set").rename(truth / "other")
    assert score_version(version, str(truth)).images == 3, "by file name alone"
    (truth / "more").mkdir()
    for file in (truth / "other").iterdir():
        file.with_suffix(".txt").write_text("a note beside the mask is no mask")
        if file.stem != "0":
            (truth / "more" / file.name).write_bytes(file.read_bytes())
    assert score_version(version, str(truth)).images == 1


def test_files_that_cannot_be_masks_are_named(version, truth):
    file = truth / "set" / "1.png"
    Image.fromarray(np.ones((256, 512), np.uint8)).save(file)
    with pytest.raises(TruthError, match=r"set/1\.png is empty: its brightest value is 1"):
        score_version(version, str(truth))
    file.write_bytes(b"")
    report = score_version(version, str(truth))
    assert report.images == 2 and "1 of 3 true masks cannot be read" in report.warnings[0]
    assert "set/1.png: empty file" in report.warnings[0]


def test_missing_ground_truth(version, tmp_path):
    with pytest.raises(TruthError, match="is no folder of masks"):
        score_version(version, str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TruthError, match="has no mask of any of 4 images"):
        score_version(version, str(tmp_path / "empty"))


def test_empty_true_masks_are_left_out_and_counted(version, truth):
    Image.fromarray(np.zeros((256, 512), np.uint8)).save(truth / "set" / "1.png")
    report = score_version(version, str(truth))
    assert (report.images, report.empty) == (2, 1)
    assert report.truth == ("3 of 4 images have a true mask; masks read as: grey, brighter than half is object")
    assert report.warnings == [
        f"nothing is marked in 1 true masks (first {truth}/set/1.png): their images are left out"
    ]
    assert report.scores["masks"].mask_iou == pytest.approx((1 + 0) / 2)
    for number in range(3):
        Image.fromarray(np.zeros((256, 512), np.uint8)).save(truth / "set" / f"{number}.png")
    with pytest.raises(TruthError, match="nothing is marked in any of 3 true masks; 3 of 4 images have a true mask"):
        score_version(version, str(truth))


def test_figures_of_each_image_and_the_worst(version, truth, tmp_path):
    report = score_version(version, str(truth))
    assert [(one.id, one.status, one.correct) for one in report.per_image] == [
        ("0.jpg", "ok", True), ("1.jpg", "ok", True), ("2.jpg", "undecodable", False),
    ]  # fmt: skip
    means = np.mean([[one.mask_iou, one.precision, one.recall, one.box_iou] for one in report.per_image], 0)
    score = report.scores["masks"]
    assert means.tolist() == pytest.approx([score.mask_iou, score.precision, score.recall, score.box_iou])
    assert [one.id for one in report.worst(2)] == ["2.jpg", "1.jpg"]
    assert report.as_json().keys() & {"worst", "per_image"} == set()
    assert [one["id"] for one in report.as_json(1)["worst"]] == ["2.jpg"]
    write_per_image(report, tmp_path / "f.csv")
    lines = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert lines[1] == {
        "id": "1.jpg", "status": "ok", "mask_iou": "0.5", "precision": "1.0", "recall": "0.5", "box_iou": "0.5",
        "correct": "True",
    }  # fmt: skip
    boxes = score_version(version, "catalog")
    assert [one.id for one in boxes.worst(9)] == ["2.jpg", "1.jpg", "0.jpg"]
    assert boxes.per_image[0].mask_iou is None and boxes.truth == "3 of 4 images have a box in the catalog"


def test_the_command_names_the_worst_and_writes_before_it_prints(version, truth, tmp_path, capsys):
    arguments = ["masks", "score", version.name, "--truth", str(truth), "--worst", "2"]
    app([*arguments, "--per-image", str(tmp_path / "f.csv")], standalone_mode=False)
    said = capsys.readouterr().out
    assert "the worst 2:" in said and "0.500" in said
    assert f"locloc masks view {version.name} --out worst.png -- 2.jpg 1.jpg" in said
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 4
    app([*arguments, "--json"], standalone_mode=False)
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["worst"]] == ["2.jpg", "1.jpg"]
    with pytest.raises(TruthError, match=r"--per-image .*none/f.csv: No folder .*none to write f.csv to"):
        app([*arguments, "--per-image", str(tmp_path / "none" / "f.csv")], standalone_mode=False)


def test_classes_are_scored_one_at_a_time(version, truth):
    for number in range(3):
        file = truth / "set" / f"{number}.png"
        mask = np.asarray(Image.open(file)) > 0
        Image.fromarray(np.where(mask, 1 + number % 2, 0).astype(np.uint8)).save(file)
    assert score_version(version, str(truth)).truth.endswith(
        "masks read as: label index, any but 0 is object (seen: 1, 2)"
    )
    only = score_version(version, str(truth), truth_class="2")
    assert (only.images, only.empty, only.scores["masks"].mask_iou) == (1, 2, 0.5)


def test_a_version_is_scored_against_coco(version, truth, tmp_path):
    """The same masks as annotations give the same scores."""
    images, annotations = [], []
    for number, box in enumerate([(128, 64, 256, 128), (128, 64, 256, 192), (0, 0, 512, 256)]):
        images.append({"id": number + 5, "file_name": f"photos/{number}.jpg", "width": 512, "height": 256})
        x0, y0, x1, y1 = box
        annotations.append({
            "id": number, "image_id": number + 5, "category_id": 1, "iscrowd": 0,
            "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        })  # fmt: skip
    file = tmp_path / "instances.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    )
    coco, masks = score_version(version, str(file)), score_version(version, str(truth))
    assert coco.scores == masks.scores
    assert coco.truth.endswith("COCO annotations, the union of all categories, without crowds")


def test_void_pixels_count_neither_for_nor_against_a_mask(version, tmp_path):
    """Row 0 marks 64 x 64; of the true object's 96 x 64 the right third is void, and so is a part of the background."""
    folder = tmp_path / "voc"
    (folder / "set").mkdir(parents=True)
    index = square(64, 64, 128, 128) * np.uint8(15)
    index[64:128, 32:64] = index[128:160, 64:128] = 255
    Image.fromarray(index).save(folder / "set" / "0.png")
    report = score_version(version, str(folder), truth_class="15")
    masks = report.scores["masks"]
    assert "255 is void: left out of the figures of masks, background for boxes" in report.truth
    assert (masks.mask_iou, masks.precision, masks.recall, masks.box_iou) == (1, 1, 1, 1)
    index[64:128, 96:128] = 255  # the mask reaches into the void
    Image.fromarray(index).save(folder / "set" / "0.png")
    report = score_version(version, str(folder), truth_class="15")
    masks = report.scores["masks"]
    assert (masks.mask_iou, masks.precision, masks.recall, masks.box_iou) == (1, 1, 1, 0.5)
    assert all(0 <= score.precision <= 1 and 0 <= score.mask_iou <= 1 for score in report.scores.values())
