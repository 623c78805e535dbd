"""Boxes that follow from true masks, and what is said where there is no ground truth."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import TrainError, TruthError
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.trainer.evaluation.eval_dataset import EvalDataset, dataset_of_catalog
from locloc.trainer.evaluation.evaluate import evaluate
from locloc.trainer.evaluation.outcome import CENTRED
from locloc.trainer.evaluation.predictors import EvalPredictor
from locloc.trainer.evaluation.protocols import protocols_named
from locloc.trainer.evaluation.table import as_json, print_evaluation

WIDTH, HEIGHT = 120, 80
NAMES = [f"{split}/{number}.png" for split in ("test", "val") for number in range(4)]


class Ones(EvalPredictor):
    """Finds the object of every image, which lies at the same place."""

    def maps(self, batch, fit):
        score_map = np.zeros((HEIGHT, WIDTH), np.float32)
        score_map[20:60, 30:90] = 1
        square = ResizeCrop.stretch((WIDTH, HEIGHT), 224).image((score_map * 255).astype(np.uint8), "nearest")
        return [(square / 255.0, ResizeCrop.stretch(image.size_px, 224)) for image in batch]


@pytest.fixture
def images(tmp_path) -> Path:
    for name in NAMES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def truth(tmp_path) -> Path:
    """Masks at half of the images' size; that of test/3 is empty, of test/2 there is none."""
    for name in NAMES:
        mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
        if name != "test/3.png":
            mask[10:30, 15:45] = 1
            mask[0, 0] = 1  # a smaller contour
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        if name != "test/2.png":
            Image.fromarray(mask).save(tmp_path / "masks" / name)
    return tmp_path / "masks"


def of_catalog(images: Path, truth: Path | None = None, catalog: str = "folder") -> EvalDataset:
    return dataset_of_catalog(read_catalog(images, catalog), truth)


def test_boxes_follow_from_masks(images, truth, capsys):
    dataset = of_catalog(images, truth)
    row = dataset.ids.index("test/0.png")
    assert dataset.true_boxes(row).tolist() == [[30, 20, 90, 60]], "of the largest contour, in pixels of the image"
    assert dataset.true_boxes(dataset.ids.index("test/2.png")).shape == (0, 4)
    done = evaluate(dataset, [Ones("ones")], protocols_named("locloc,wsol"))
    by_name = {(outcome.predictor, outcome.protocol): outcome for outcome in done.outcomes}
    for name in ("locloc", "wsol"):
        outcome = by_name["ones", name]
        assert outcome.metrics["gt_known_loc"] == 1 and outcome.metrics["box_iou"] > 0.95
        assert outcome.metrics["mask_iou"] > 0.95 and outcome.tau_from == "validation images"
        assert outcome.kinds.count("unknown") == 2 and outcome.kinds.count("right") == 2
    assert (CENTRED, "wsol") in by_name
    lines = as_json(done)["truth"]
    assert lines[0].startswith(
        "7 of 8 images have a true mask; masks read as: label index, any but 0 is object (seen: 1)"
    )
    assert lines[1] == "true boxes: of the largest contours of the true masks"
    assert any("nothing is marked in 1 true masks" in line and "test/3.png" in line for line in done.warnings)
    print_evaluation(done)
    assert "true boxes: of the largest contours of the true masks" in capsys.readouterr().out


def test_boxes_of_the_catalog_have_priority(images, truth, tmp_path):
    (tmp_path / "list.csv").write_text("path,split,boxes\ntest/0.png,test,1 2 30 40\ntest/1.png,test,\n")
    dataset = dataset_of_catalog(read_catalog(tmp_path / "list.csv", "list", images), truth)
    assert [dataset.true_boxes(row).tolist() for row in range(2)] == [[[1, 2, 30, 40]], [[30, 20, 90, 60]]]
    assert dataset.truth is not None
    assert dataset.truth.lines()[1].startswith("true boxes of images without one in the catalog: of the largest")


@pytest.mark.parametrize("tau", ["val", "sweep", 0.5])
def test_without_any_ground_truth_there_is_nothing_to_evaluate(images, tau):
    with pytest.raises(TrainError, match=r"has no ground truth of its 4 images: .*name true masks with --truth"):
        evaluate(of_catalog(images), [Ones("ones")], protocols_named("all"), tau=tau)


def test_masks_without_boxes_leave_the_threshold_open(images, truth, capsys):
    """As in wsolevaluation's layout with masks: there is no box to choose by, and no centred box to compare with."""
    dataset = of_catalog(images, truth)
    without = EvalDataset(**(vars(dataset) | {"boxes": {}}))
    done = evaluate(without, [Ones("ones")], protocols_named("wsol"), tau="sweep")
    (outcome,) = done.outcomes
    assert outcome.tau_from == "nothing to choose by" and not outcome.swept
    assert "gt_known_loc" not in outcome.metrics and outcome.metrics["px_ap"] > 0.9
    print_evaluation(done)
    said = capsys.readouterr().out
    assert "no true box" in said and "given" not in said and CENTRED not in said


def test_void_is_ignored_and_background_for_boxes(images, truth):
    for file in truth.rglob("*.png"):
        mask = np.asarray(Image.open(file)).copy()
        mask[10:30, 45:50][mask.any()] = 255
        Image.fromarray(mask).save(file)
    dataset = of_catalog(images, truth)
    row = dataset.ids.index("test/0.png")
    codes = dataset.true_mask(row)
    assert codes is not None and codes.dtype == np.uint8 and np.unique(codes).tolist() == [0, 1, 255]
    np.testing.assert_allclose(dataset.true_boxes(row), [[30, 20, 90, 60]])
    assert "255 is void: left out of the figures of masks" in dataset.truth.lines()[0]


def test_masks_on_stored_pixels_beside_upright_boxes(tmp_path):
    exif, mask = Image.Exif(), np.zeros((HEIGHT, WIDTH), np.uint8)
    exif[0x0112] = 6
    mask[20:60, 30:90] = 255
    (tmp_path / "masks").mkdir()
    for number in range(3):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(tmp_path / f"{number}.jpg", exif=exif)
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    rows = "".join(f"{number}.jpg,test,20 30 60 90\n" for number in range(3))
    (tmp_path / "list.csv").write_text("path,split,boxes\n" + rows)
    catalog = read_catalog(tmp_path / "list.csv")
    dataset = dataset_of_catalog(catalog, tmp_path / "masks", masks_in="stored")
    assert (dataset.true_mask(0) == np.rot90(mask > 0, -1)).all()
    assert dataset.true_boxes(0).tolist() == [[20, 30, 60, 90]]
    with pytest.raises(TruthError, match="say so with --masks-in stored$"):
        of_upright = dataset_of_catalog(catalog, tmp_path / "masks")
        for row in range(3):
            of_upright.true_mask(row)
    with pytest.raises(TruthError, match="--masks-in"):
        dataset_of_catalog(catalog, tmp_path / "masks", masks_in="turned")
