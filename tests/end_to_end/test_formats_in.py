"""The same images in every format that `masks build` reads: the same labels, splits and boxes, and the same masks."""

import io
import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from locloc.pipeline.build.spec import resolve_backbone
from locloc.pipeline.build.tasks import Block, TaskContext, attend, refine
from locloc.pipeline.catalogs.catalog import Catalog
from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.catalogs.split_words import SPLITS
from locloc.pipeline.io.images import read_image_bytes
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.recipes.choice import choose_recipe
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import BLOCK_ROWS, block_count, input_digest

from .conftest import build, image

ROW_GROUP = 5
SHARD = 7


@dataclass(frozen=True)
class Photo:
    name: str
    label: str
    split: str
    boxes: list[list[float]]
    size: tuple[int, int]
    data: bytes


def photos_of(catalog: Catalog) -> list[Photo]:
    """The images of a catalog, in memory; with boxes of integers."""
    photos = []
    for row in catalog.table.to_pylist():
        data = read_image_bytes(resolve(catalog.root, row["path"]))
        size = Image.open(io.BytesIO(data)).size
        name = Path(row["path"]).stem
        photos.append(Photo(name, catalog.classes[row["label"]], SPLITS[row["split"]], row["boxes"], size, data))
    return photos


def to_list(photos: list[Photo], out: Path) -> list[str]:
    lines = ["path,label,split,boxes"]
    for photo in photos:
        (out / "files").mkdir(parents=True, exist_ok=True)
        (out / f"files/{photo.name}.jpg").write_bytes(photo.data)
        boxes = "; ".join(" ".join(map(str, box)) for box in photo.boxes)
        lines.append(f"files/{photo.name}.jpg,{photo.label},{photo.split},{boxes}")
    (out / "list.csv").write_text("\n".join(lines) + "\n")
    return [str(out / "list.csv")]


def to_imagefolder(photos: list[Photo], out: Path) -> list[str]:
    for photo in photos:
        file = out / photo.split / photo.label / f"{photo.name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photo.data)
    return [str(out), "--catalog", "imagefolder"]


def to_coco(photos: list[Photo], out: Path) -> list[str]:
    classes = sorted({photo.label for photo in photos})
    for split in sorted({photo.split for photo in photos}):
        content: dict[str, list] = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": 3 * number + 1, "name": name} for number, name in enumerate(classes)]
        for number, photo in enumerate(photo for photo in photos if photo.split == split):
            width, height = photo.size
            content["images"].append({"id": number, "file_name": f"{photo.name}.jpg", "width": width, "height": height})
            for x0, y0, x1, y1 in photo.boxes:
                content["annotations"].append({
                    "id": len(content["annotations"]), "image_id": number, "iscrowd": 0,
                    "category_id": 3 * classes.index(photo.label) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": [[x0, y0, x1, y0, x1, y1]],
                })  # fmt: skip
            (out / split).mkdir(parents=True, exist_ok=True)
            (out / split / f"{photo.name}.jpg").write_bytes(photo.data)
        (out / "annotations").mkdir(exist_ok=True)
        (out / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return [str(out), "--catalog", "coco"]


def to_voc(photos: list[Photo], out: Path) -> list[str]:
    base = out / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for photo in photos:
        (base / f"JPEGImages/{photo.name}.jpg").write_bytes(photo.data)
        size = f"<size><width>{photo.size[0]}</width><height>{photo.size[1]}</height></size>"
        objects = [
            f"<object><name>{photo.label}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax>"
            f"<ymax>{y1}</ymax></bndbox></object>"
            for x0, y0, x1, y1 in photo.boxes
        ]
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (base / f"Annotations/{photo.name}.xml").write_text(text)
        with open(base / f"ImageSets/Main/{photo.split}.txt", "a") as stream:
            stream.write(f"{photo.name}\n")
    return [str(out), "--catalog", "voc"]


def to_webdataset(photos: list[Photo], out: Path) -> list[str]:
    out.mkdir(parents=True)
    for split in sorted({photo.split for photo in photos}):
        own = [photo for photo in photos if photo.split == split]
        for start in range(0, len(own), SHARD):
            with tarfile.open(out / f"{split}-{start // SHARD:04}.tar", "w") as tar:
                for photo in own[start : start + SHARD]:
                    members = {"jpg": photo.data, "cls": photo.label.encode()}
                    members["json"] = json.dumps({"boxes": photo.boxes, "caption": "none"}).encode()
                    for extension, data in members.items():
                        header = tarfile.TarInfo(f"{photo.label}/{photo.name}.{extension}")
                        header.size = len(data)
                        tar.addfile(header, io.BytesIO(data))
    return [str(out), "--catalog", "webdataset"]


def to_parquet(photos: list[Photo], out: Path) -> list[str]:
    (out / "data").mkdir(parents=True)
    classes = sorted({photo.label for photo in photos})
    features = {"label": {"names": classes, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    for split in sorted({photo.split for photo in photos}):
        own = [photo for photo in photos if photo.split == split]
        table = pa.table({
            "image": [{"bytes": photo.data, "path": f"{photo.name}.jpg"} for photo in own],
            "label": [classes.index(photo.label) for photo in own],
            "boxes": [photo.boxes for photo in own],
        }).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})  # fmt: skip
        pq.write_table(table, out / f"data/{split}-00000-of-00001.parquet", row_group_size=ROW_GROUP)
    return [str(out), "--catalog", "parquet"]


def to_hub(photos: list[Photo], out: Path) -> list[str]:
    datasets = pytest.importorskip("datasets")
    classes = sorted({photo.label for photo in photos})
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.ClassLabel(names=classes),
        "boxes": datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=4)),
    })  # fmt: skip
    splits = {}
    for split in sorted({photo.split for photo in photos}):
        own = [photo for photo in photos if photo.split == split]
        splits[split] = datasets.Dataset.from_dict(
            {
                "image": [{"bytes": photo.data, "path": None} for photo in own],
                "label": [classes.index(photo.label) for photo in own],
                "boxes": [photo.boxes for photo in own],
            },
            features=features,
        )
    datasets.DatasetDict(splits).save_to_disk(out)
    return [f"hf:{out}"]


FORMATS: dict[str, Callable[[list[Photo], Path], list[str]]] = {
    "list": to_list,
    "imagefolder": to_imagefolder,
    "coco": to_coco,
    "voc": to_voc,
    "webdataset": to_webdataset,
    "parquet": to_parquet,
    "hf": to_hub,
}
WITHOUT_BOXES = ("imagefolder",)


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    made = []
    for number in range(24):
        size = ((120, 90), (90, 120), (64, 64))[number % 3]
        stream = io.BytesIO()
        Image.fromarray(image(number, *size)).save(stream, "JPEG", quality=92)
        split = ("train", "val", "train", "test")[number % 4]
        boxes = [[number % 5, 3, 40 + number % 7, 50], [0, 0, 5, 6]][: 1 + number % 2]
        made.append(Photo(f"n{number:03}", ("zebra", "ant")[number % 2], split, boxes, size, stream.getvalue()))
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FORMATS)
def test_labels_splits_boxes_and_bytes(photos, tmp_path, name):
    images, *options = FORMATS[name](photos, tmp_path / "data")
    catalog = read_catalog(images, options[1] if options else None)
    found = {}
    for row in catalog.table.to_pylist():
        data = read_image_bytes(resolve(catalog.root, row["path"]))
        found[data] = (catalog.classes[row["label"]], SPLITS[row["split"]], row["boxes"])
    boxes_kept = name not in WITHOUT_BOXES
    assert found == {photo.data: (photo.label, photo.split, photo.boxes if boxes_kept else []) for photo in photos}
    assert len(catalog) == len(photos)


def masks_by_file(catalog: Catalog, recipe: Recipe, weights: str | None) -> dict[bytes, bytes]:
    """Digest of an image's file > its packed mask, by the tasks of a build."""
    context = TaskContext(catalog.root, recipe, resolve_backbone(recipe, weights).spec)
    found = {}
    for index in range(block_count(len(catalog))):
        start = index * BLOCK_ROWS
        batch = attend(Block(index, start, *catalog.slice(start, start + BLOCK_ROWS)), context)
        packed, result = refine(batch, context)
        assert not result.errors
        found |= {digest.tobytes(): mask.tobytes() for digest, mask in zip(batch.digest, packed, strict=True)}
    return found


@pytest.mark.slow
def test_masks_are_the_same_in_every_format(photos, tmp_path):
    recipe = choose_recipe(None, "vit_tiny_patch16_224", tmp_path).recipe
    found = {}
    for name, convert in FORMATS.items():
        images, *options = convert(photos, tmp_path / name)
        found[name] = masks_by_file(read_catalog(images, options[1] if options else None), recipe, "random")
    assert set(found["list"]) == {input_digest(photo.data).tobytes() for photo in photos}
    assert all(masks == found["list"] for masks in found.values())
    assert np.mean([any(mask) for mask in found["list"].values()]) > 0.5


def kill_a_worker(log: Path, killed: list[int]) -> None:
    """Kills the worker of the first block that the log of a build names, and notes its process id."""
    give_up = time.monotonic() + 300
    while time.monotonic() < give_up:
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        for event in map(json.loads, lines):
            if event["event"] == "block":
                killed.append(int(event["worker"].rpartition(":")[2]))
                os.kill(killed[0], signal.SIGKILL)
                return
        time.sleep(0.05)


@pytest.mark.slow
def test_a_build_from_shards_and_what_follows(photos, tmp_path, locloc):
    """A worker is killed; then verify, view, refine and the same build again; a shard is away for a while."""
    many = [replace(photo, name=f"{photo.name}-{copy}") for copy in range(8) for photo in photos]
    images, *options = to_webdataset(many, tmp_path / "tars")
    store, log = tmp_path / "x.store", tmp_path / "log.jsonl"
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(log, killed))
    killer.start()
    summary = build(images, store, *options, "--workers", 2, "--log", log)
    killer.join()
    assert (summary["new_rows"], summary["counts"]["ok"]) == (192, 192)
    assert killed
    version = open_version(f"{store}@v1")
    digests, masks = version.read_column("input_digest"), version.read_column("mask")
    recipe = choose_recipe(None, "vit_tiny_patch16_224", tmp_path).recipe
    expected = masks_by_file(read_catalog(images, options[1]), recipe, "random")
    assert all(expected[digest.tobytes()] == mask.tobytes() for digest, mask in zip(digests, masks, strict=True))

    assert build(images, store, *options)["already_there"]
    assert locloc("masks", "verify", f"{store}@v1").code == 0
    away = tmp_path / "tars/test-0000.tar"
    away.rename(tmp_path / "away.tar")
    changes = json.loads(locloc("masks", "verify", f"{store}@v1", "--json").stdout)["changes"]
    assert [(change["kind"], change["rows"]) for change in changes] == [("gone", SHARD)]
    (tmp_path / "away.tar").rename(away)
    said = locloc("masks", "view", f"{store}@v1", version.ids[0], "--out", tmp_path / "grid.png")
    assert said.code == 0 and (tmp_path / "grid.png").stat().st_size > 10_000
    (tmp_path / "other.toml").write_text("[refine]\nengine = 'opencv'\n")
    assert locloc("masks", "refine", f"{store}@v1", "--recipe", tmp_path / "other.toml", "--workers", 1).code == 0
    assert open_version(f"{store}@v2").provenance["counts"]["ok"] > 150
