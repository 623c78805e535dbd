"""The folder of a page: what is in it, what it replaces, and what is left after an error."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.build.decide import decide_version
from locloc.pipeline.errors import StoreError
from locloc.pipeline.inspect.report import write
from locloc.pipeline.inspect.report.decisions_csv import Decision
from locloc.pipeline.inspect.report.neighbours import nearest_rows
from locloc.pipeline.inspect.report.page import MARKER, MARKER_TEXT, SCRIPTS, asset_names
from locloc.pipeline.inspect.report.rows import choose_rows
from locloc.pipeline.inspect.report.write import ReportRequest, write_report
from locloc.pipeline.store import open_version

from .conftest import EVIL, png

IDS = [f"{n:03}.png" for n in range(150)]
_DTYPES = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "i4": np.int32, "f4": np.float32}


def data_of(file, name: str) -> list:
    """The arguments of the call of `locloc.NAME` in a script."""
    text = file.read_text(encoding="ascii")
    assert text.startswith(f"locloc.{name}(") and text.endswith(");\n")
    return json.loads(f"[{text[len(f'locloc.{name}(') : -3]}]")


def array(column) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column["base64"]), _DTYPES[column["type"]])


def test_a_page(with_images, tmp_path):
    version = with_images(IDS)
    decided = decide_version(version, {"020.png": Decision("020.png", "rejected", "no", 2)})
    version = open_version(f"{version.store}@{decided.version}")
    done = []
    summary = write_report(
        ReportRequest(version, tmp_path / "page", workers=1), lambda part, all_: done.append((part, all_))
    )
    assert (summary.rows, summary.of, summary.without_image) == (150, 150, 2)  # one is missing, one crashed
    assert summary.lost_images == 0
    assert done == [(64, 150), (128, 150), (150, 150)]
    out = tmp_path / "page"
    assert summary.bytes == sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    assert {file.name for file in (out / "assets").iterdir()} == set(asset_names())
    (page,) = data_of(out / "data.js", "onData")
    assert page["ids"] == version.ids == IDS and page["paths"] is None
    assert page["versions"][0]["counts"]["rejected"] == 1 and "mask_px" in page["versions"][0]["recipe"]
    assert np.array_equal(array(page["status"]), version.status)
    assert array(page["decided"])[20] == 2 and page["notes"] == [[20], ["no"]]
    assert np.array_equal(array(page["size"]).reshape(-1, 2), version.read_column("size"))
    metrics = {metric["key"]: array(metric["values"]) for metric in page["metrics"]}
    assert list(metrics) == ["threshold_iou", "mask_share", "unknown_share"]
    shares = version.table["mask_share"].to_numpy().astype(np.float32)
    assert np.array_equal(metrics["mask_share"], shares, equal_nan=True)
    assert page["errors"][0] == [3, 4, 5, 6, 7] and array(page["hasMask"])[[3, 4, 20]].tolist() == [1, 0, 1]
    assert np.flatnonzero(array(page["hasTile"]) == 0).tolist() == page["imageNotes"][0] == [6, 7]
    with Image.open(out / "tiles" / "0001" / "49.webp") as tile:
        assert tile.size == (64, 48)
    number, versions, truth = data_of(out / "blocks" / "00002.js", "onBlock")
    assert (number, len(versions), len(versions[0]), truth) == (2, 1, 22, {})
    assert versions[0][0]["o"].startswith("M") and versions[0][0]["a"][:2] == [3, 3]
    near = array(page["neighbours"]).reshape(150, 6)
    assert all(row not in line for row, line in enumerate(near.tolist()))


def test_two_processes_write_the_same(with_images, tmp_path):
    version = with_images(IDS)
    for workers in (1, 2):
        write_report(ReportRequest(version, tmp_path / str(workers), workers=workers))
    one, two = ({str(f.relative_to(tmp_path / n)): f.read_bytes() for f in (tmp_path / n).rglob("*.*")} for n in "12")
    assert one == two


def test_no_id_gets_out_of_its_string(with_images, tmp_path):
    ids = [id for id in EVIL if "/" not in id]
    version = with_images(ids)
    write_report(ReportRequest(version, tmp_path / "page", workers=1))
    html = (tmp_path / "page" / "index.html").read_text()
    assert not any(id in html for id in ids) and html.count("<script") == len(SCRIPTS) + 1
    (page,) = data_of(tmp_path / "page" / "data.js", "onData")
    assert sorted(page["ids"]) == sorted(ids)


def test_two_versions(with_images, tmp_path):
    def change(content):
        content.masks[9] = ~content.masks[9]

    one, other = with_images(IDS), with_images(IDS[5:], change=change)
    summary = write_report(ReportRequest(one, tmp_path / "page", other, workers=1))
    assert (summary.rows, summary.of) == (145, 145)
    (page,) = data_of(tmp_path / "page" / "data.js", "onData")
    metrics = {metric["key"]: array(metric["values"]) for metric in page["metrics"]}
    assert next(iter(metrics)) == "disagreement" and "other_mask_share" in metrics
    assert len(page["versions"]) == 2 and len(array(page["otherStatus"])) == 145
    _, versions, _ = data_of(tmp_path / "page" / "blocks" / "00000.js", "onBlock")
    assert len(versions) == 2 and len(versions[1]) == 64
    with pytest.raises(StoreError, match="have no image in common: their first ids are"):
        write_report(ReportRequest(one, tmp_path / "none", with_images(["x.png", "y.png"])))


def test_samples(with_images):
    version = with_images(IDS)
    assert choose_rows(version, None, False).tolist() == list(range(150)) == choose_rows(version, 999, False).tolist()
    rows = choose_rows(version, 20, False)
    assert len(set(rows.tolist())) == 20 and (np.diff(rows) > 0).all()
    assert np.array_equal(rows, choose_rows(version, 20, False))
    assert len(choose_rows(version, 20, True)) == 150


def test_ground_truth(with_images, tmp_path):
    ids = [f"{n:03}.png" for n in range(70)]
    version = with_images(ids)
    for row, id in enumerate(ids):
        if version.table["status"][row].as_py() == "ok":
            (tmp_path / "truth").mkdir(exist_ok=True)
            mask = version.read_masks([row])[0].repeat(3, 0).repeat(4, 1)
            buffer = io.BytesIO()
            Image.fromarray(mask.astype(np.uint8) * 255).resize((64, 48), 0).save(buffer, "PNG")
            (tmp_path / "truth" / id).write_bytes(buffer.getvalue())
    request = ReportRequest(version, tmp_path / "page", truth=str(tmp_path / "truth"), workers=1)
    summary = write_report(request)
    assert "65 of 70 images have a true mask" in summary.truth[0]
    (page,) = data_of(tmp_path / "page" / "data.js", "onData")
    assert page["metrics"][0]["key"] == "true_iou"
    iou = array(page["metrics"][0]["values"])
    assert np.isnan(iou[3:8]).all() and (iou[8:] > 0.5).all()
    _, _, truth = data_of(tmp_path / "page" / "blocks" / "00001.js", "onBlock")
    assert sorted(map(int, truth)) == list(range(6)) and truth["0"]["o"].startswith("M")


def test_folders(with_images, tmp_path, monkeypatch):
    version, out = with_images(IDS[:70]), tmp_path / "page"
    write_report(ReportRequest(version, out, workers=1))
    write_report(ReportRequest(version, out, sample=10, workers=1))  # replaces it
    assert len(list(out.glob("tiles/*/*.webp"))) <= 10
    (out / "mine.txt").write_text("x")
    with pytest.raises(StoreError, match=r"is not empty: it holds mine\.txt"):
        write_report(ReportRequest(version, out, workers=1))
    assert (out / "index.html").exists()
    (out / "mine.txt").unlink()
    page = content(tmp_path / "page")
    monkeypatch.setattr(write, "write_index", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StoreError, match="cannot be written: no space left"):
        write_report(ReportRequest(version, out, workers=1))
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda file, data: (real(file, b"") and None) or _no_space())
    for folder in (out, tmp_path / "new"):  # with its first file, as on a full disk
        with pytest.raises(StoreError, match="cannot be written: no space left"):
            write_report(ReportRequest(version, folder, workers=1))
    assert content(out) == page and not (tmp_path / "new").exists()
    monkeypatch.undo()
    for folder in ("tiles/0", "blocks", "assets"):  # a kill may leave them empty
        (tmp_path / "killed" / folder).mkdir(parents=True)
    (tmp_path / "killed" / MARKER).write_text(MARKER_TEXT)
    write_report(ReportRequest(version, tmp_path / "killed", workers=1))


def content(folder: Path) -> dict[str, bytes]:
    """All below a folder, by name; folders are empty."""
    return {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else b"" for file in folder.rglob("*")}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupt_leaves_the_earlier_page_whole(with_images, tmp_path, workers):
    def interrupt(done: int, total: int) -> None:
        assert done == 64 and list(tmp_path.rglob("*.webp"))
        raise KeyboardInterrupt

    version, out = with_images(IDS), tmp_path / "a" / "page"
    for _ in range(2):  # without and with an earlier page
        before = content(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            write_report(ReportRequest(version, out, workers=workers), interrupt)
        assert content(tmp_path) == before
        write_report(ReportRequest(version, out, sample=2, workers=1))


def _no_space() -> None:
    raise OSError(28, "No space left on device")


def test_an_image_that_changed_is_said(with_images, tmp_path):
    version = with_images(IDS[:20])
    (tmp_path / "images" / "010.png").write_bytes(png(99))
    write_report(ReportRequest(version, tmp_path / "page", workers=1))
    (page,) = data_of(tmp_path / "page" / "data.js", "onData")
    notes = dict(zip(*page["imageNotes"], strict=True))
    assert notes[10] == "the image has changed since the version was built"


def test_neighbours_look_alike():
    rng = np.random.default_rng(0)
    kinds = rng.random((5, 8, 8, 3)).astype(np.float32)
    of = np.arange(60) % 5
    colours = kinds[of] + rng.normal(0, 0.01, (60, 8, 8, 3)).astype(np.float32)
    near = nearest_rows(colours, np.zeros((60, 8, 8), np.float32))
    assert (of[near] == of[:, None]).all() and not (near == np.arange(60)[:, None]).any()
    assert nearest_rows(colours[:5], np.zeros((5, 8, 8))) is None


def test_a_version_is_not_compared_with_itself(with_images, tmp_path):
    version = with_images(IDS)
    with pytest.raises(StoreError, match=r"@v1 is given twice; name another version"):
        write_report(ReportRequest(version, tmp_path / "page", open_version(version.name)))
    assert not (tmp_path / "page").exists()
