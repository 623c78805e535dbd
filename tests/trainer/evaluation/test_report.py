"""The page of `--report`: what it holds, and that names cannot break it."""

import numpy as np
import pytest

from locloc.trainer.evaluation.eval_dataset import EvalDataset
from locloc.trainer.evaluation.evaluate import Evaluation
from locloc.trainer.evaluation.outcome import GIVEN, TEST, Outcome
from locloc.trainer.evaluation.protocols import protocols_named
from locloc.trainer.evaluation.report import write_report
from locloc.trainer.evaluation.table import print_evaluation


def test_the_page_shows_each_metric_and_escapes_names(tmp_path):
    rows = np.arange(2)
    dataset = EvalDataset(
        "a & b", "folder", ["x", "y"], np.array([0, -1]), {0: np.array([[0, 0, 9, 9.0]])}, {"test": rows}, None,
        decode=lambda row: np.zeros((9, 9, 3), np.uint8), true_mask=lambda row: None,
    )  # fmt: skip
    outcome = Outcome(
        "<script>run</script>", "ppd", 0.5, GIVEN, {"gt_known_loc": 0.25}, None, None, np.array([0.25, np.nan]),
        None, None, ["part", "unknown"],
    )  # fmt: skip
    evaluation = Evaluation(dataset, "test", rows, [(9, 9), (9, 9)], {}, [outcome])
    write_report(evaluation, [], protocols_named("ppd"), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "<h1>a &amp; b, test: 2 images</h1>" in page and "&lt;script&gt;run&lt;/script&gt;" in page
    assert "<script" not in page and "http" not in page
    assert "<td>GT-known Loc</td><td>0.250</td>" in page and "<td>tau</td><td>0.5, given</td>" in page
    assert "images right" not in page, "without a classifier"
    assert "<td>part</td><td>1</td>" in page and "<td>more</td>" not in page


@pytest.mark.parametrize(("tau_from", "metrics", "starred"), [
    (GIVEN, {"gt_known_loc": 0.25}, False), (TEST, {"gt_known_loc": 0.25}, True), (GIVEN, {"max_box_acc": 0.25}, True),
])  # fmt: skip
def test_the_star_is_explained_where_there_is_one(tau_from, metrics, starred, tmp_path, capsys):
    rows = np.arange(1)
    dataset = EvalDataset(
        "photos", "folder", ["x"], np.array([0]), {0: np.array([[0, 0, 9, 9.0]])}, {"test": rows}, None,
        decode=lambda row: np.zeros((9, 9, 3), np.uint8), true_mask=lambda row: None,
    )  # fmt: skip
    outcome = Outcome("run*", "wsol", 0.5, tau_from, metrics, None, None, np.array([0.25]), None, None, ["part"])
    done = Evaluation(dataset, "test", rows, [(9, 9)], {}, [outcome])
    print_evaluation(done)
    write_report(done, [], protocols_named("wsol"), tmp_path)
    printed, page = capsys.readouterr().out, (tmp_path / "index.html").read_text()
    assert ("* the best threshold" in printed) == ("* the best threshold" in page) == starred
    assert ("*" in printed.replace("run*", "")) == starred
