"""Speed and memory of `masks export`: `python scripts/measure_export.py FOLDER --rows 100000`.

Makes FOLDER/masks.store once, of made masks of 256 px for images of 500 x 375 (hard links to a few files), and exports
it to each format in a process of its own. Prints rows a second, and the growth of the process's memory: its peak less
what it held before the export.
"""

import argparse
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.export import ExportOptions, export_version
from locloc.pipeline.geometry.boxes import largest_box
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import BLOCK_ROWS, STATS, content_crc, input_digest, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter, timestamp

SIZE, SIDE, KINDS = (500, 375), 256, 200


def blob(rng: np.random.Generator) -> np.ndarray:
    """A mask `(256, 256) bool` of a few parts with holes."""
    noise = cv2.GaussianBlur(rng.random((SIDE, SIDE)), (0, 0), SIDE / 14)
    return noise > np.quantile(noise, 0.75)


def jpeg(rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "jpeg", quality=85)
    return file.getvalue()


def link_images(folder: Path, rows: int, files: list[bytes]) -> None:
    """Hard links to the files; row n is file n modulo their number."""
    folder.mkdir(parents=True)
    for kind, file in enumerate(files):
        (folder.parent / f"kind{kind}").write_bytes(file)
    for row in range(rows):
        name = folder / f"{row // 1000:04}" / f"{row:08}.jpg"
        name.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder.parent / f"kind{row % len(files)}", name)


def make_blobs() -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """KINDS images, masks `(KINDS, S, S) bool` and attention."""
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 255, (24, 32, 3), np.uint8) for _ in range(KINDS)]
    files = [jpeg(cv2.resize(one, SIZE, interpolation=cv2.INTER_CUBIC)) for one in small]
    masks = np.stack([blob(rng) for _ in range(KINDS)])
    return files, masks, rng.random((KINDS, 6, 14, 14)).astype(np.float16)


def make_store(folder: Path, rows: int, files: list[bytes], masks: np.ndarray, attention: np.ndarray) -> None:
    """A version of images that are K files again and again, with masks `(K, S, S)` and attention `(K, H, h, w)`."""
    link_images(folder / "images", rows, files)
    catalog = read_catalog(str(folder / "images"))
    packed, count = pack_masks(masks), len(files)
    sizes = np.array([Image.open(io.BytesIO(file)).size for file in files], np.int32)
    kinds = {
        "box": np.stack(
            [largest_box(mask) * np.tile(size / SIDE, 2) for mask, size in zip(masks, sizes, strict=True)]
        ).astype(np.float32),
        "stats": np.tile(masks.mean((1, 2))[:, None], (1, len(STATS))).astype(np.float32),
        "status": np.full(count, Status.OK, np.uint8),
        "size": sizes,
        "orientation": np.ones(count, np.uint8),
        "input_digest": np.stack([input_digest(file) for file in files]),
        "content_crc": content_crc(packed, attention),
    }
    metadata = {
        "build_id": "ab" * 32, "fingerprint": "ab" * 32, "recipe_name": "made", "parent": None,
        "recipe": Recipe().model_dump(mode="json"), "created_at": timestamp(), "operation": {"kind": "build"},
        "backbone": {"name": "none", "weights": "none", "sha256": "0" * 64},
        "catalog": {
            "kind": catalog.kind, "root": str(catalog.root), "sha256": catalog.sha256, "rows": rows,
            "classes": list(catalog.classes),
        },
    }  # fmt: skip
    with StoreWriter(folder / "masks.store") as writer:
        writer.begin(metadata, catalog, attention.shape[1:], SIDE)
        for block in range(len(writer.block_done)):
            part = np.arange(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, rows)) % count
            fork = pickle.loads(pickle.dumps(writer.fork))
            write_block(fork.store, block * BLOCK_ROWS, packed[part], attention[part])
            writer.merge(fork, block, {name: values[part] for name, values in kinds.items()})
        writer.publish()


def held_mb() -> float:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def export(folder: Path, name: str, images: str | None) -> None:
    """One export; prints its figures as JSON."""
    version, out = open_version(f"{folder / 'masks.store'}@latest"), folder / f"out-{name}"
    shutil.rmtree(out, ignore_errors=True)
    before, began, cpu = held_mb(), time.perf_counter(), time.process_time()
    exported = export_version(version, out, name, ExportOptions(images=images))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file() and not file.is_symlink())
    shutil.rmtree(out)
    figures = {
        "format": name, "images": images or "default", "rows": exported.rows,
        "rows_per_s": round(exported.rows / seconds), "rows_per_cpu_s": round(exported.rows / cpu),
        "memory_growth_mb": round(peak - before), "peak_mb": round(peak), "mb": round(written / 1e6),
    }  # fmt: skip
    print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--formats", nargs="+", default=["coco", "parquet"])
    parser.add_argument("--images", choices=["copy", "link", "none"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        export(given.folder, given.one, given.images)
        return
    if not (given.folder / "masks.store").exists():
        make_store(given.folder.absolute(), given.rows, *make_blobs())
    for name in given.formats:
        images = ["--images", given.images] if given.images else []
        subprocess.run([sys.executable, __file__, str(given.folder), "--one", name, *images], check=True)


if __name__ == "__main__":
    main()
