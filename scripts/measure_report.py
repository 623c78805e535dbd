"""The page of `masks report`: how fast it is made, painted and scrolled. `python scripts/measure_report.py FOLDER`.

    --rows 10000     of the version; its images are 400 synthetic scenes, again and again
    --workers 2      processes that make the page
    --only scroll    measures a page that is there

Makes FOLDER/masks.store once. Prints a line of JSON for each part:

report   rows a second, and a CPU second; peak memory of the largest process and of all together; size of the folder
paint    milliseconds from the beginning of navigation to the first paint and to the page being ready
scroll   frames a second of a gallery that scrolls evenly for some seconds, by Chromium's trace: presented frames, and
         the median and 95th percentile of the time between two
steps    the same in even steps, as many a second as there are: CPU milliseconds a frame of each kind of process, and of
         the main thread's kinds of work. On a busy machine these say more than frames a second

Needs Playwright and Chromium: `pip install playwright`, and `playwright install chromium` or /usr/bin/chromium.
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from measure_export import SIDE, jpeg, make_store
from playwright.sync_api import CDPSession, Page, sync_playwright

from locloc.pipeline.synthetic.scene import make_scene

SCENES = 400
CATEGORIES = "devtools.timeline,disabled-by-default-devtools.timeline.frame,blink.user_timing,loading"

SCROLL = """
async ([seconds, pixels, step]) => {
  const scroller = document.getElementById("scroller");
  const end = performance.now() + 1000 * seconds;
  let frames = 0, last = performance.now();
  while (performance.now() < end) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();  // at an even speed, however many frames there are; or in even steps
    scroller.scrollTop += step || pixels * Math.min(now - last, 100) / 1000;
    last = now;
    frames++;
  }
  return frames;
}
"""


def make_scenes() -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Images, masks `(SCENES, S, S) bool`, and attention that looks like them."""
    rng, files, masks, attention = np.random.default_rng(0), [], [], []
    for index in range(SCENES):
        scene = make_scene(3, index, 20)
        files.append(jpeg(scene.rgb))
        masks.append(cv2.resize(scene.mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0)
        grid = cv2.resize(scene.mask.astype(np.float32), (14, 14), interpolation=cv2.INTER_AREA)
        attention.append(grid + 0.2 * rng.random((6, 14, 14)))
    return files, np.stack(masks), (np.stack(attention) / 400).astype(np.float16)


def tree_mb(root: psutil.Process, cpu: dict[int, float]) -> tuple[float, float]:
    """Resident memory of the largest process of a tree, and of all. Notes the CPU seconds of each so far in `cpu`."""
    sizes = []
    with suppress(psutil.Error):  # one that has just ended
        for process in [root, *root.children(recursive=True)]:
            sizes.append(process.memory_info().rss / 1e6)
            cpu[process.pid] = sum(process.cpu_times()[:2])
    return max(sizes, default=0.0), sum(sizes)


def measure_report(folder: Path, page: Path, workers: int, rows: int) -> dict[str, Any]:
    shutil.rmtree(page, ignore_errors=True)
    command = [sys.executable, "-m", "locloc", "masks", "report", f"{folder / 'masks.store'}@latest"]
    begun = time.perf_counter()
    running = subprocess.Popen(
        [*command, "--out", str(page), "--all", "--workers", str(workers), "--json"], stdout=subprocess.DEVNULL
    )
    tree, peaks, cpu = psutil.Process(running.pid), list[tuple[float, float]](), dict[int, float]()

    def watch() -> None:
        while running.poll() is None:
            peaks.append(tree_mb(tree, cpu))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if running.wait():
        sys.exit("locloc masks report failed")
    seconds = time.perf_counter() - begun
    watcher.join()
    half = max(total for _, total in peaks[: max(1, len(peaks) // 2)])
    return {
        "part": "report", "rows": rows, "workers": workers, "rows_per_s": round(rows / seconds, 1),
        "rows_per_cpu_s": round(rows / sum(cpu.values()), 1),
        "seconds": round(seconds, 1), "largest_mb": round(max(one for one, _ in peaks)),
        "all_mb": round(max(total for _, total in peaks)), "all_mb_in_first_half": round(half),
        "folder_mb": round(sum(file.stat().st_size for file in page.rglob("*") if file.is_file()) / 1e6, 1),
    }  # fmt: skip


def measure_page(page: Path, seconds: float, pixels: int) -> list[dict[str, Any]]:
    chromium = Path("/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(chromium) if chromium.exists() else None, args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(f"file://{page.absolute() / 'index.html'}#gallery")
        tab.wait_for_selector("body.ready")
        painted = tab.evaluate(
            "() => ({...Object.fromEntries(performance.getEntriesByType('paint').map((e) => [e.name, e.startTime])), "
            "ready: performance.timing.loadEventEnd - performance.timing.navigationStart})"
        )
        paint = {"part": "paint", **{name: round(value) for name, value in painted.items()}}
        tab.wait_for_timeout(1500)
        session = browser.new_browser_cdp_session()
        scroll = measure_scroll(tab, session, seconds, pixels, 0)
        steps = measure_scroll(tab, session, seconds, pixels, pixels // 60)
        browser.close()
    return [paint, scroll, steps]


def measure_scroll(tab: Page, session: CDPSession, seconds: float, pixels: int, step: int) -> dict[str, Any]:
    """step: pixels a frame; 0: `pixels` a second."""
    events: list[dict[str, Any]] = []
    complete: list[bool] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: complete.append(True))
    session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": {
        "includedCategories": CATEGORIES.split(","), "excludedCategories": ["*"],
    }})  # fmt: skip
    chromium = [process for process in psutil.Process().children(recursive=True) if "chrom" in process.name()]
    before = {process.pid: sum(process.cpu_times()[:2]) for process in chromium}
    begun = time.perf_counter()
    calls = tab.evaluate(SCROLL, [seconds, pixels, step])
    took = time.perf_counter() - begun
    cpu: dict[str, float] = {}
    for process in chromium:
        with suppress(psutil.Error):
            kinds = [word.removeprefix("--type=") for word in process.cmdline() if word.startswith("--type=")]
            kind = f"{kinds[0] if kinds else 'browser'}_cpu_ms"
            spent = 1000 * (sum(process.cpu_times()[:2]) - before[process.pid]) / max(calls, 1)
            cpu[kind] = round(cpu.get(kind, 0.0) + spent, 1)
    seen = tab.evaluate("document.querySelectorAll('.cell:not([hidden])').length")
    session.send("Tracing.end")
    while not complete:
        tab.wait_for_timeout(50)
    presented = np.array(sorted({event["ts"] for event in events if event["name"] == "DrawFrame"})) / 1e3
    between = np.diff(presented)
    return {
        "part": "steps" if step else "scroll", "seconds": round(took, 1), "frames": calls,
        "frames_per_s": round(len(presented) / took, 1), "median_ms": round(float(np.median(between)), 1),
        "p95_ms": round(float(np.quantile(between, 0.95)), 1), "cells": seen,
    } | (cpu | _main_thread(events, calls) if step else {})  # fmt: skip


def _main_thread(events: list[dict[str, Any]], frames: int) -> dict[str, float]:
    """CPU milliseconds a frame of the page's own kinds of work, where the trace has them."""
    spent: dict[str, float] = {}
    for event in events:
        if event.get("tdur"):
            spent[event["name"]] = spent.get(event["name"], 0.0) + event["tdur"] / 1e3
    names = ("FunctionCall", "UpdateLayoutTree", "Layout", "PrePaint", "Paint", "Layerize", "Commit", "EvaluateScript")
    return {name: round(spent[name] / max(frames, 1), 2) for name in names if name in spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["report", "scroll"])
    parser.add_argument("--seconds", type=float, default=8.0, help="of scrolling")
    parser.add_argument("--pixels", type=int, default=2500, help="a second")
    given = parser.parse_args()
    folder, page = given.folder.absolute(), given.folder.absolute() / "page"
    if not (folder / "masks.store").exists():
        make_store(folder, given.rows, *make_scenes())
    if given.only != "scroll":
        print(json.dumps(measure_report(folder, page, given.workers, given.rows)), flush=True)
    if given.only != "report":
        for part in measure_page(page, given.seconds, given.pixels):
            print(json.dumps(part), flush=True)


if __name__ == "__main__":
    main()
