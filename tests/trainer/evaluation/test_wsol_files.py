"""The files of wsolevaluation, read and written, and each way in which they can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.cli import app
from locloc.pipeline.errors import TrainError
from locloc.trainer.evaluation.wsol_files import (
    read_metadata,
    read_score_map,
    read_true_mask,
    write_metadata,
    write_score_map,
)

IDS = ("a/one.jpg", "a/two.jpg", "three.png")


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    one = np.zeros((224, 224))
    one[y0:y1, x0:x1] = 1
    return one


@pytest.fixture
def files(tmp_path) -> Path:
    """Three images of 448 x 224, the second with two boxes, and a map of each: right, of the second box, wrong."""
    boxes = {IDS[0]: [[20, 10, 120, 90]], IDS[1]: [[0, 0, 40, 40], [200, 100, 400, 200]], IDS[2]: [[4, 4, 60, 60]]}
    write_metadata(tmp_path / "test", [(name, (448, 224), n, np.array(boxes[name])) for n, name in enumerate(IDS)])
    write_score_map(tmp_path / "maps", IDS[0], rectangle(10, 10, 60, 90))
    write_score_map(tmp_path / "maps", IDS[1], rectangle(100, 100, 200, 200))
    write_score_map(tmp_path / "maps", IDS[2], rectangle(100, 100, 200, 200))
    return tmp_path


def test_what_is_written_is_that_project_s_layout_and_is_read_back(files):
    assert (files / "test/localization.txt").read_text().splitlines() == [
        "a/one.jpg,20,10,120,90", "a/two.jpg,0,0,40,40", "a/two.jpg,200,100,400,200", "three.png,4,4,60,60",
    ]  # fmt: skip
    assert (files / "test/image_sizes.txt").read_text() == "a/one.jpg,448,224\na/two.jpg,448,224\nthree.png,448,224\n"
    assert (files / "test/class_labels.txt").read_text() == "a/one.jpg,0\na/two.jpg,1\nthree.png,2\n"
    for folder in (files, files / "test"):
        known = read_metadata(folder, "test")
        assert (known.ids, known.labels.tolist(), known.sizes.tolist()) == (list(IDS), [0, 1, 2], [[448, 224]] * 3)
        assert known.boxes[1].tolist() == [[0, 0, 40, 40], [200, 100, 400, 200]]
    one = np.load(files / "maps/a/one.jpg.npy")
    assert one.dtype == np.float64 and np.array_equal(one, read_score_map(files / "maps", IDS[0]))


def test_a_byte_order_mark_and_names_with_unicode_s_line_ends(tmp_path):
    write_metadata(tmp_path, [("a\u2028b.jpg", (9, 9), 0, np.array([[1, 1, 5, 5]]))])
    for file in tmp_path.glob("*.txt"):
        file.write_text("\ufeff" + file.read_text(encoding="utf-8"), encoding="utf-8")
    known = read_metadata(tmp_path, "test")
    assert known.ids == ["a\u2028b.jpg"] and known.boxes[0].tolist() == [[1, 1, 5, 5]]


def test_a_map_s_name_may_leave_the_image_s_suffix_out(files):
    (files / "maps/a/one.jpg.npy").rename(files / "maps/a/one.npy")
    assert read_score_map(files / "maps", IDS[0])[50, 30] == 1


def evaluated(files: Path, *more: str) -> dict:
    arguments = ["--score-maps", files / "maps", "--metadata", files, "--json", files / "out.json", *more]
    assert not app(["eval", *map(str, arguments)], standalone_mode=False)
    return json.loads((files / "out.json").read_text())


def test_score_maps_are_evaluated(files):
    found = evaluated(files, "--protocol", "wsol")
    assert found["max_box_acc"] == found["max_box_acc_v2"] == pytest.approx(2 / 3)
    assert found["max_box_acc_v2_by_iou"] == pytest.approx({"0.3": 2 / 3, "0.5": 2 / 3, "0.7": 2 / 3})
    assert "px_ap" not in found and found["images"] == 3
    own = found["results"][str(files / "maps")]["wsol"]
    assert own["swept_on_test"] and own["tau_from"] == "test images" and own["kinds"]["wrong place"] == 1


def test_all_protocols_take_score_maps_at_a_given_threshold_too(files):
    found = evaluated(files, "--tau", "0.4")["results"][str(files / "maps")]
    assert list(found) == ["locloc", "locloc-official", "ppd", "wsol"]
    assert found["wsol"]["tau"] == 0.4 and not found["wsol"]["swept_on_test"]
    assert found["ppd"]["gt_known_loc"] == found["wsol"]["gt_known_loc"] == pytest.approx(2 / 3)
    # The first official box of the second image is not the one that is found, and neither is in the crop's middle.
    assert found["locloc-official"]["gt_known_loc"] < found["locloc"]["gt_known_loc"]


@pytest.mark.parametrize("low", [0.2, -3.0])
def test_maps_in_0_to_1_are_taken_as_they_are_and_others_min_max(files, low):
    """0.2 + 0.6 x: levels 51 and 204, as that project has them. All is above 0.2 of 204, not above 0.25 of it."""
    write_score_map(files / "maps", IDS[0], low + 0.6 * rectangle(10, 10, 60, 90))
    for tau, right in ((0.2, low < 0), (0.25, True)):
        found = evaluated(files, "--protocol", "wsol", "--tau", str(tau))["results"][str(files / "maps")]["wsol"]
        assert found["gt_known_loc"] == pytest.approx((1 + right) / 3)


def test_px_ap_where_masks_are_given(files):
    """Half of an object is found: precision 1 to recall 1/2, then that of everything; a part is ignored."""
    for name, mask in (("m1", rectangle(0, 0, 100, 50)), ("m2", rectangle(0, 50, 100, 100)),
                       ("ignore", rectangle(0, 0, 224, 200))):  # fmt: skip
        Image.fromarray((mask * 255).astype(np.uint8)).save(files / f"{name}.png")
    (files / "test/image_ids.txt").write_text(f"{IDS[0]}\n")
    (files / "test/localization.txt").write_text(f"{IDS[0]},m1.png,ignore.png\n{IDS[0]},m2.png,\n")
    write_score_map(files / "maps", IDS[0], 0.8 * rectangle(0, 0, 100, 50))
    known = read_metadata(files, "test")
    mask = read_true_mask(known, 0, None)
    assert [(mask == code).sum() for code in (0, 1, 255)] == [24 * 224, 10_000, 200 * 224 - 10_000]
    found = evaluated(files, "--protocol", "wsol")
    assert found["px_ap"] == pytest.approx(0.5 + 0.5 * 10_000 / (10_000 + 24 * 224))
    assert "max_box_acc" not in found


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (lambda f: f.unlink(), "No score map of a/one.jpg"),
        (lambda f: np.save(f, np.zeros((100, 224))), r"holds \(100, 224\), not \(224, 224\)"),
        (lambda f: np.save(f, np.zeros((1, 224, 224))), r"holds \(1, 224, 224\)"),
        (lambda f: np.save(f, np.full((224, 224), np.nan)), "is not finite: nan at row 0, column 0"),
        (lambda f: np.save(f, np.where(rectangle(3, 2, 4, 3) > 0, np.inf, 0)), "not finite: inf at row 2, column 3"),
        (lambda f: np.save(f, np.full((224, 224), "x")), "not numbers"),
        (lambda f: f.write_text("map"), "is no array of NumPy's"),
        (lambda f: f.write_bytes(b""), "is no array of NumPy's"),
        (lambda f: np.save(f, np.array([{}], object), allow_pickle=True), "is no array of NumPy's"),
    ],
)
def test_a_score_map_that_is_none_is_one_line(files, broken, complaint):
    broken(files / "maps/a/one.jpg.npy")
    with pytest.raises(TrainError, match=complaint) as error:
        evaluated(files, "--protocol", "wsol")
    assert "\n" not in str(error.value) and "one" in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("image_ids.txt", "", "names no images"),
        ("image_ids.txt", "x\nx\n", "x is there twice"),
        ("image_sizes.txt", "a/one.jpg,448\n", "image_sizes.txt:1: 'a/one.jpg,448' has 1 fields after the id, not 2"),
        ("image_sizes.txt", "a/one.jpg,448,x\n", "'448,x' are not whole numbers"),
        ("image_sizes.txt", "a/one.jpg,0,5\n", "0 x 5 is no size"),
        ("image_sizes.txt", "a/one.jpg,9,9\n", "lacks a/two.jpg"),
        ("localization.txt", "\nthree.png,5,5,4,9\n", "localization.txt:2: 5,5,4,9 is no box"),
        ("localization.txt", "three.png,5,5,4\n", "has 3 fields after the id, not 4 or 2"),
        ("class_labels.txt", "three.png,cat\n", "'cat' are not whole numbers"),
        ("localization.txt", "three.png,nowhere.png,\n", "Mask nowhere.png cannot be read below"),
    ],
)
def test_metadata_that_are_wrong_are_named_by_line(files, file, text, complaint):
    (files / "test" / file).write_text(text)
    with pytest.raises(TrainError, match=complaint):
        evaluated(files, "--protocol", "wsol")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--score-maps", "maps"], "--score-maps and --metadata go together"),
        (["--score-maps", "maps", "--metadata", "nowhere"], "has neither image_ids.txt nor test/image_ids.txt"),
        (["--score-maps", "nowhere", "--metadata", "."], "nowhere is no folder"),
        (["--score-maps", "maps", "--metadata", ".", "run"], "evaluate one after the other"),
        (["--score-maps", "maps", "--metadata", ".", "--tau", "2"], "--tau 2: val, sweep, or a number"),
        (["--score-maps", "maps", "--metadata", ".", "--tau", "vall"], "--tau vall: val, sweep, or a number"),
        (["--score-maps", "maps", "--metadata", ".", "--protocol", "wsl"], "No --protocol 'wsl'; did you mean 'wsol'"),
        ([], "Nothing to evaluate"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(files, monkeypatch, arguments, complaint):
    monkeypatch.chdir(files)
    with pytest.raises(TrainError, match=complaint):
        app(["eval", *arguments], standalone_mode=False)


def test_ids_that_would_leave_the_folder_or_break_a_line_are_refused(tmp_path):
    with pytest.raises(TrainError, match="leads out of"):
        write_score_map(tmp_path, "../x", np.zeros((224, 224)))
    with pytest.raises(TrainError, match="comma"):
        write_metadata(tmp_path, [("a,b", (1, 1), 0, np.ones((1, 4)))])
