"""From masks to a model by way of a person: look, judge, decide, train."""

import json
from pathlib import Path

import pytest

from locloc.pipeline.store import open_version
from locloc.pipeline.synthetic import write_dataset

from ...pipeline.inspect.report.conftest import browser, look  # noqa: F401
from ..train.conftest import SMALL, in_process


@pytest.mark.slow
def test_look_judge_decide_train(look, tmp_path: Path):  # noqa: F811
    write_dataset(tmp_path / "scenes", 40, 4, 3)
    store = tmp_path / "masks.store"
    in_process("masks", "build", tmp_path / "scenes", "--catalog", "synthetic", "--store", store, "--workers", 1)
    report = ("masks", "report", f"{store}@v1", "--truth", tmp_path / "scenes" / "masks", "--out", tmp_path / "page")
    assert in_process(*report)["rows"] == 40
    address = f"file://{tmp_path / 'page' / 'index.html'}"
    page = look(address)
    page.click("text=Look at the worst first")
    page.check("label.check:has-text('train')")
    iou = page.evaluate("Array.from(locloc.selection.order, (row) => locloc.rows.metric('true_iou').values[row])")
    assert len(iou) == 24 and iou == sorted(iou)
    page.focus("#scroller")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    judged = []
    for key in "rra":
        judged.append(page.text_content("#viewer-title"))
        page.keyboard.press(key)
    page.reload()
    page.wait_for_selector("body.ready")
    assert page.text_content("#judged") == "1 accepted, 2 rejected"
    with page.expect_download() as download:
        page.keyboard.press("e")
    download.value.save_as(tmp_path / "decisions.csv")
    decided = in_process("masks", "decide", f"{store}@v1", tmp_path / "decisions.csv")
    assert (decided["version"], decided["rejected"], decided["accepted"]) == ("v2", 2, 1)
    version = open_version(f"{store}@v2")
    assert {version.ids[row] for row in version.decisions.rejected} == set(judged[:2])
    assert {version.ids[row] for row in version.decisions.accepted} == {judged[2]}
    run = tmp_path / "run"
    in_process("train", f"{store}@v2", "--out", run, "--stage", "generator", *SMALL)
    lines = [json.loads(line) for line in (run / "generator" / "metrics.jsonl").read_text().splitlines()]
    assert json.loads((run / "run.json").read_text())["version"] == f"{store}@v2" and "loss" in lines[0]
    plan = in_process("train", f"{store}@v2", "--out", tmp_path / "none", "--stage", "generator", "--dry-run", *SMALL)
    assert plan["splits"]["train"] == 22 and plan["left_out"]["status rejected"] == 2
