"""The galleries of `--report`: ids and classes of every image, whatever they are called and however EXIF turns them."""

import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.errors import ImageError
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.trainer.evaluation.eval_dataset import dataset_of_catalog
from locloc.trainer.evaluation.evaluate import Evaluation
from locloc.trainer.evaluation.gallery import GALLERY_IMAGES, write_galleries
from locloc.trainer.evaluation.outcome import GIVEN, Outcome
from locloc.trainer.evaluation.predictors import EvalPredictor
from locloc.trainer.evaluation.protocols import protocols_named
from locloc.trainer.evaluation.report import write_report

NAMES = ["a&b<c>", "[bold]x[/]", "猫", "قطة", "<script>x()</script>", "007", "", "line\nbreak"]
PROTOCOL = protocols_named("ppd")[0]
SIDE = PROTOCOL.frame.size_px


class Corner(EvalPredictor):
    """A map that is bright in the upper left, and classes of its own order."""

    def __init__(self, name: str = "run", classes: tuple[str, ...] = ()):
        super().__init__(name)
        self.classes = classes

    def maps(self, batch, fit):
        one = np.zeros((8, 8), np.float32)
        one[:4, :4] = 1
        return [(one, ResizeCrop.stretch(image.size_px, 8)) for image in batch]


def evaluation(tmp_path, names, count=3, guesses=None, predictor="run") -> Evaluation:
    """Images of 60 x 40 that EXIF turns to 40 x 60, red in the upper half; the true box is the upper half."""
    rows = CatalogRows()
    for number in range(count):
        exif = Image.Exif()
        exif[0x0112] = 6
        upright = np.zeros((60, 40, 3), np.uint8)
        upright[:30, :, 0] = 255
        id = f"{names[number % len(names)]}/{number}.png".replace("\n", " ")
        Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / f"{number}.png", exif=exif)
        rows.add(id, f"{number}.png", label=number % len(names), split=3, boxes=[(0, 0, 40, 30)])
    catalog = build_catalog("list", tmp_path, rows, names, where=lambda row, column: "", looked_for="")
    dataset = dataset_of_catalog(catalog)
    wrong = np.full((count, 5), -1)
    wrong[:, 0] = (dataset.labels + 1) % len(names)
    outcome = Outcome(
        predictor, "ppd", 0.5, GIVEN, {}, None, np.tile([0.0, 0, SIDE, SIDE // 2], (count, 1)),
        np.linspace(0.1, 0.9, count), np.ones(count, int), wrong if guesses is None else guesses,
        ["classification"] * count,
    )  # fmt: skip
    return Evaluation(dataset, "test", np.arange(count), [(40, 60)] * count, {}, [outcome])


def captions_of(page: str) -> list[str]:
    found = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    return [" ".join(unescape(re.sub(r"<(?!/?script)[^>]*>", " ", one)).split()) for one in found]


def test_ids_true_and_predicted_classes_stand_below_each_image(tmp_path):
    (tmp_path / "images").mkdir()
    done = evaluation(tmp_path / "images", NAMES, 8)
    write_report(done, [Corner()], [PROTOCOL], tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http" not in page and page.count("<figcaption>") == 24
    assert "0 of 8 images right, 8 classes" in page and "taken for" in page
    assert "a&amp;b&lt;c&gt;/0.png" in page and "&lt;script&gt;x()&lt;/script&gt;" in page
    said = "\n".join(captions_of(page))
    assert re.search(r"a&b<c>/0.png IoU 0.\d\d, classification true: a&b<c> predicted: \[bold\]x\[/\]\n", said)
    assert "true: قطة predicted: <script>x()</script>" in said and "true: line break" in said
    assert "true: class 007 predicted: class 6" in said, "a class without a name has its number"


def test_images_that_exif_turns_are_upright_with_their_boxes(tmp_path):
    done = evaluation(tmp_path, ["a", "b"], 1)
    (best, _, _) = write_galleries(done, [Corner()], PROTOCOL, tmp_path)
    panel = np.asarray(Image.open(tmp_path / best.file))
    assert panel.shape == (2 * SIDE, SIDE, 3)
    assert panel[SIDE // 4, SIDE // 2, 0] > 200 and panel[3 * SIDE // 4, SIDE // 2, 0] < 50
    assert np.abs(panel[SIDE // 2 - 1, SIDE // 2].astype(int) - (255, 140, 20)).max() < 30, "the box ends in the middle"


@pytest.mark.parametrize("classes", [3, 5000])
def test_names_come_from_the_run_where_the_images_have_none(tmp_path, classes):
    done = evaluation(tmp_path, ["x", "y"], 2, guesses=np.full((2, 5), classes - 1))
    names = tuple(f"class number {number}" for number in range(classes))
    gallery = write_galleries(done, [Corner(classes=names)], PROTOCOL, tmp_path)[0]
    assert {one.predicted_class for one in gallery.captions} == {names[-1]}
    assert [one.true_class for one in gallery.captions] == ["y", "x"]
    gallery = write_galleries(done, [Corner()], PROTOCOL, tmp_path)[0]
    assert {one.predicted_class for one in gallery.captions} == {f"class {classes - 1}"}


def test_an_image_that_is_gone_by_then_is_said(tmp_path):
    done = evaluation(tmp_path, ["x"], 2)
    (tmp_path / "0.png").unlink()
    with pytest.raises(ImageError):
        done.dataset.decode(0)
    worst = write_galleries(done, [Corner()], PROTOCOL, tmp_path)[1]
    assert [one.note for one in worst.captions] == ["no image", None]


def test_predictors_with_similar_names_have_files_of_their_own(tmp_path):
    done = evaluation(tmp_path, ["x"], GALLERY_IMAGES + 2)
    outcome = done.outcomes[0]
    done.outcomes[:] = [Outcome(name, *list(vars(outcome).values())[1:]) for name in ("a b", "a-b")]
    galleries = write_galleries(done, [Corner("a b"), Corner("a-b")], PROTOCOL, tmp_path)
    assert len({one.file for one in galleries}) == 6
    assert all(len(one.captions) == GALLERY_IMAGES and (tmp_path / one.file).exists() for one in galleries)
