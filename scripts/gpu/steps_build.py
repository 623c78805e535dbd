"""Step `d`: whole builds with one GPU worker and a CPU worker per core."""

import json
from pathlib import Path

from commands import run_locloc
from measure import ON_GPU, VIT, UsageMonitor
from results import emit, part
from scenes import UNIQUE, WORK, wait_for_scenes

from locloc.pipeline.store import open_version

SALIENCY = {"heads": "mean", "background_below": 0.30, "threshold": 0.45, "foreground_from": 0.60}
FAST_STORE = WORK / "fast8.store"


def builds() -> None:
    """Builds with the engines `fast` and `torch`, and equal images of one build compared."""
    wait_for_scenes()
    scenes, synthetic = WORK / "scenes", ("--catalog", "synthetic")
    _build("fast8", scenes, FAST_STORE, {"engine": "fast"}, *synthetic)
    _build("torch", WORK / "few", WORK / "torch.store", {"engine": "torch"})
    if ON_GPU:
        faster = {"engine": "fast", "neighbours": 4, "band_px": 3}
        _build("fast4 band3", scenes, WORK / "fast4.store", faster, *synthetic)
        _build("fast8 nvjpeg", scenes, WORK / "nvjpeg.store", {"engine": "fast"}, *synthetic, decoder="nvjpeg")
    else:
        emit("build, nvjpeg", skipped="no GPU")
        emit("build, fast4 band3", skipped="fast8 runs the same code")
    with part("the same masks again"):
        version = open_version(f"{FAST_STORE}@v1")
        count = min(64, UNIQUE)
        first, second = slice(0, count), slice(UNIQUE, UNIQUE + count)
        attention, again = (version.read_attention(rows).astype("f4") for rows in (first, second))
        masks, others = version.read_masks(first), version.read_masks(second)
        emit(
            "equal images in other blocks", attention_max=float(abs(attention - again).max()),
            masks_differ=int((masks != others).any((1, 2)).sum()), pixels=float((masks != others).mean()),
        )  # fmt: skip


def _recipe_file(name: str, refine: dict, decoder: str) -> Path:
    sections = {
        "images": {"decoder": decoder},
        "backbone": {"name": VIT if ON_GPU else "pocket", "precision": "bf16" if ON_GPU else "fp32"},
        "saliency": SALIENCY,
        "refine": refine,
    }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    file = WORK / f"{name.replace(' ', '-')}.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _build(name: str, images: Path, store: Path, refine: dict, *more: str, decoder: str = "pillow") -> None:
    weights = ("--weights", "random") if ON_GPU else ()
    workers = () if ON_GPU else ("--workers", 1, "--gpus", 0)
    with UsageMonitor() as usage:
        done = run_locloc(
            "masks", "build", images, "--store", store, "--recipe", _recipe_file(name, refine, decoder), *weights,
            *workers, *more, "--json", limit_s=90,
        )  # fmt: skip
    print(done.err[-3000:])
    if done.code:
        emit("build", name=name, failed=f"exit {done.code}: {done.err.strip()[-300:]}")
        return
    summary = json.loads(done.out[done.out.index("{") : done.out.rindex("}") + 1])
    rows = max(1, summary["new_rows"])
    emit(
        "build", name=name, images_s=summary["images_per_s"], wall_s=done.seconds, counts=summary["counts"],
        ms_an_image={stage: round(1e3 * seconds / rows, 3) for stage, seconds in summary["stage_s"].items()},
        worker_ms_an_image=1e3 * summary["worker_s"] / rows, coordinator_s=summary["coordinator_s"], **usage.values(),
    )  # fmt: skip
