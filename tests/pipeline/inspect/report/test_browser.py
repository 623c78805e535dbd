"""Pages in a real browser: opened from disk and from a server, filtered, sorted, judged, and not broken by any id."""

import threading
from pathlib import Path

import pytest

from locloc.pipeline.build.decide import decide_version
from locloc.pipeline.inspect.report.decisions_csv import read_decisions_csv
from locloc.pipeline.inspect.report.live import LivePage
from locloc.pipeline.inspect.report.server import PageServer
from locloc.pipeline.inspect.report.write import ReportRequest, write_report
from locloc.pipeline.io.html import render_html
from locloc.pipeline.store import open_version

from .conftest import EVIL

IDS = [f"{n:03}.png" for n in range(90)]


def shown_ids(page) -> list[str]:
    return page.evaluate("Array.from(locloc.selection.order, (row) => locloc.rows.ids[row])")


def until(page, condition: str) -> None:
    """Playwright's own `wait_for_function` needs an eval, which the server's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def export(page, file):
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(file)
    return {one.id: (one.decision, one.note) for one in read_decisions_csv(file).values()}


def test_filter_sort_open_judge_reload_export(with_images, look, tmp_path):
    version = with_images(IDS)
    write_report(ReportRequest(version, tmp_path / "page", workers=1))
    address = f"file://{tmp_path / 'page' / 'index.html'}"
    page = look(address)
    assert page.text_content(".hero h2") == "masks.store@v1" and page.is_visible(".spreads")
    page.click("[data-tab=gallery]")
    assert page.text_content("#shown") == "90 images"
    page.fill("#find", "01")
    page.wait_for_function("locloc.selection.order.length === 11")
    assert all("01" in id for id in shown_ids(page)) and page.is_visible("text=id has “01”")
    page.select_option("#sort", "mask_share")
    shares = page.evaluate("Array.from(locloc.selection.order, (row) => locloc.rows.metric('mask_share').values[row])")
    assert shares == sorted(shares)
    page.click("#turn")
    assert shown_ids(page) == page.evaluate("[...locloc.selection.order].map((row) => locloc.rows.ids[row])")
    page.click("text=Clear all")
    page.check("label.check:has-text('val')")
    page.wait_for_function("locloc.selection.order.length === 30")
    page.uncheck("label.check:has-text('val')")
    page.select_option("#sort", "id")
    page.focus("#scroller")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open] .outline[d^=M]", state="attached")
    assert page.text_content("#viewer-title") == "000.png"
    for key in ("r", "a", "r", "ArrowLeft", "n"):  # rejects 000, accepts 001, rejects 002; a note on 002
        page.keyboard.press(key)
    page.keyboard.type('an ear, "left"\nis missing')
    page.keyboard.press("Escape")
    page.keyboard.press("5")
    assert page.is_visible("#viewer .stage .trimap")
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer")
    page.reload()
    page.wait_for_selector("body.ready")
    assert page.text_content("#judged") == "1 accepted, 2 rejected"
    kept = {
        "000.png": ("rejected", ""),
        "001.png": ("accepted", ""),
        "002.png": ("rejected", 'an ear, "left"\nis missing'),
    }
    assert export(page, tmp_path / "decisions.csv") == kept
    summary = decide_version(version, read_decisions_csv(tmp_path / "decisions.csv"))
    decided = open_version(f"{version.store}@{summary.version}")
    assert decided.decisions.rejected.tolist() == [0, 2] and decided.decisions.notes[2].startswith("an ear")
    # The page of the new version begins with its decisions.
    write_report(ReportRequest(decided, tmp_path / "page", workers=1))
    page = look(address)
    assert page.text_content("#judged") == "1 accepted, 2 rejected" and page.is_disabled("#export")


def test_no_id_breaks_or_scripts_the_page(with_images, look, tmp_path):
    ids = [id for id in EVIL if "/" not in id] + IDS[:30]
    version = with_images(ids)
    write_report(ReportRequest(version, tmp_path / "page", workers=1))
    page = look(f"file://{tmp_path / 'page' / 'index.html'}#gallery")
    page.select_option("#sort", "id")
    assert sorted(shown_ids(page)) == sorted(ids) and page.title() == "masks.store@v1"
    page.focus("#scroller")
    page.keyboard.press("Home")
    for _ in ids:
        page.keyboard.press("Enter")
        page.keyboard.press("a")
        page.keyboard.press("Enter")
    assert page.title() == "masks.store@v1"
    assert page.evaluate("document.querySelectorAll('#gallery b, #viewer b, #gallery script').length") == 0
    with_mask = {
        version.ids[row] for row in range(len(ids)) if version.table["status"][row].as_py() in ("ok", "fallback")
    }
    page.keyboard.press("z")  # undone, and done again
    judged = page.evaluate("Array.from(locloc.decisions.mine.keys(), (row) => locloc.rows.ids[row])")
    assert len(judged) == len(with_mask) - 1 and set(judged) < with_mask
    assert export(page, tmp_path / "d.csv").keys() == set(judged)


def test_two_versions_and_a_narrow_window(with_images, look, tmp_path):
    def change(content):
        content.masks[40] = False
        content.masks[40, 5:9, 5:9] = True

    one, other = with_images(IDS), with_images(IDS, change=change)
    write_report(ReportRequest(one, tmp_path / "page", other, workers=1))
    page = look(f"file://{tmp_path / 'page' / 'index.html'}", 360)
    assert shown_ids(page)[0] == "040.png"  # the one that disagrees
    page.wait_for_selector(".cell .version-1 .outline[d^=M]", state="attached")
    page.click("#filters-button")
    page.click("#filters-done")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for part in (".top > *", ".toolbar > *"):
        ends = f"[...document.querySelectorAll('{part}')].map((one) => one.getBoundingClientRect().right)"
        assert page.evaluate(f"Math.max(...{ends})") <= 360
    page.click(".cell >> nth=0")
    assert page.locator("#viewer .stage").count() == 2 and page.is_visible("#viewer .close")


def test_a_served_page(with_images, look, tmp_path):
    live = LivePage(with_images(IDS), tmp_path / "decisions.csv")
    with PageServer(live) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            page = look(server.url + "#gallery")
            page.wait_for_selector(".cell .outline[d^=M]", state="attached")
            page.keyboard.press("Home")
            page.keyboard.press("r")
            until(page, "locloc.decisions.unsent.size === 0 && locloc.decisions.mine.size === 1")
            page.reload()
            page.wait_for_selector("body.ready")
            assert page.text_content("#judged") == "0 accepted, 1 rejected"
            until(page, "document.querySelector('.cell img').naturalWidth > 0")
        finally:
            server.shutdown()
            thread.join()
    assert [one.decision for one in read_decisions_csv(tmp_path / "decisions.csv").values()] == ["rejected"]


def test_paper_is_white(with_images, look, tmp_path):
    """Also of a page without scripts, and on a machine whose pages are dark."""
    plain = render_html("locloc.pipeline.io", "page.html.j2").replace("<body>", '<body class="ready">')
    (tmp_path / "plain.html").write_text(plain)
    write_report(ReportRequest(with_images(IDS), tmp_path / "page", workers=1))
    ground = "getComputedStyle(document.body).backgroundColor"
    for file in (tmp_path / "plain.html", tmp_path / "page" / "index.html"):
        page = look(f"file://{file}", color_scheme="dark")
        assert page.evaluate(ground) == "rgb(14, 17, 22)"
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        page.emulate_media(media="screen", color_scheme="dark")
    theme = "document.documentElement.dataset.theme"
    for event, wanted in (("beforeprint", "light"), ("afterprint", "dark")):
        page.evaluate(f"window.dispatchEvent(new Event('{event}'))")
        assert page.evaluate(theme) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_large_enough_and_stands_out(with_images, look, tmp_path, scheme):
    """At least 12 px, and a contrast of 4.5 (WCAG AA), in every view."""
    write_report(ReportRequest(with_images(IDS), tmp_path / "page", workers=1))
    page = look(f"file://{tmp_path / 'page' / 'index.html'}", color_scheme=scheme)
    for view in ("overview", "gallery", "viewer", "help"):
        if view in ("overview", "gallery"):
            page.click(f"[data-tab={view}]")
        else:
            page.keyboard.press({"viewer": "Enter", "help": "?"}[view])
        page.wait_for_timeout(50)
        assert page.evaluate((Path(__file__).parent / "contrast.js").read_text()) == [], view
