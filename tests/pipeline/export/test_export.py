"""What all formats share: which rows, whole or not at all, and what is said of both."""

import io
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import StoreError
from locloc.pipeline.export import EXPORTERS, ExportOptions, export_version
from locloc.pipeline.export.images import ExportImages
from locloc.pipeline.export.names import export_names
from locloc.pipeline.export.yolo import label_names
from locloc.pipeline.inspect.ground_truth.export_note import read_note
from locloc.pipeline.io.archives.member import file_names
from locloc.pipeline.store.schema import input_digest

FORMATS = [name for name, make in EXPORTERS.items() if make is not None]


def ids_of(folder):
    content = json.loads((folder / "instances.json").read_text())
    return {image["locloc_id"] for image in content["images"]}


def test_rows_are_chosen_and_the_others_counted(version, tmp_path):
    table = version.table
    options = ExportOptions(split="val", classes=("a,c",))
    exported = export_version(version, tmp_path / "out", "coco", options)
    done = {id for id, _ in version.original_masks()}
    rows = zip(table["id"].to_pylist(), table["split"].to_pylist(), table["label"].to_pylist(), strict=True)
    wanted = {id for id, split, label in rows if split == "val" and label != 1 and id in done}
    assert ids_of(tmp_path / "out") == wanted
    assert exported.rows == len(wanted) and sum(exported.left_out.values()) == len(version) - len(wanted)
    assert exported.left_out["not in split val"] == 57
    categories = json.loads((tmp_path / "out" / "instances.json").read_text())["categories"]
    assert [category["id"] for category in categories] == [1, 2, 3]  # the same number in every export
    export_version(version, tmp_path / "none", "coco", ExportOptions(split="none"))
    assert len(ids_of(tmp_path / "none")) == sum(split == "" for split in table["split"].to_pylist()) - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tain"}, "no images in its split 'tain'; it has"),
        ({"classes": ("d",)}, "No class 'd'; known: a, b, c"),
        ({"min_quality": 0.5}, "no quality of its masks, by which --min-quality 0.5"),
        ({"images": "move"}, "--to coco has no --images move; it has none, copy, link"),
        ({"size": "half"}, "--to coco has no --size half; it has original, mask"),
        ({"segmentation": "binary"}, "--to coco has no --segmentation binary; it has rle, polygon, box"),
        ({"images": "copy", "root": "/nowhere"}, "cannot be read: /nowhere/.*no such file; if the images were moved"),
        ({"images": "link", "root": "/nowhere"}, "is not there: /nowhere/.*; if the images were moved"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(version, tmp_path, options, message):
    with pytest.raises(StoreError, match=message) as error:
        export_version(version, tmp_path / "out", "coco", ExportOptions(**options))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_zarr_and_urls_and_unknown_formats(version, tmp_path):
    with pytest.raises(StoreError, match="--to zarr copies the whole version"):
        export_version(version, tmp_path / "out", "zarr", ExportOptions(split="val"))
    with pytest.raises(StoreError, match="No format 'cocoa'; did you mean 'coco'"):
        export_version(version, tmp_path / "out", "cocoa")
    with pytest.raises(StoreError, match="--to coco writes a folder of this machine, not s3://b/x"):
        export_version(version, "s3://b/x", "coco")


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_is_whole_or_not_there(version, tmp_path, name, monkeypatch):
    """Stopped in the middle, and with damage in a late row."""

    def stop(done, total):
        raise KeyboardInterrupt

    options = ExportOptions(images="none")
    with pytest.raises(KeyboardInterrupt):
        export_version(version, tmp_path / "out", name, options, stop)
    monkeypatch.setattr("locloc.pipeline.export.stream.BATCH_BLOCKS", 1)
    monkeypatch.setattr("locloc.pipeline.export.stream.content_crc", lambda masks, attention: np.zeros(len(masks)))
    with pytest.raises(StoreError, match="row 0 is not what was written; `locloc masks verify"):
        export_version(version, tmp_path / "out", name, options)
    assert not list(tmp_path.iterdir())


def test_damage_ends_an_export(tmp_path, write, made):
    content = made([f"{n:03}.jpg" for n in range(150)])
    wrong = {"content_crc": content.columns["content_crc"] ^ (np.arange(150) == 140).astype(np.uint32)}
    version = write(tmp_path / "masks.store", content, tmp_path / "images", wrong)
    with pytest.raises(StoreError, match="row 140 is not what was written"):
        export_version(version, tmp_path / "out", "png")
    assert not (tmp_path / "out").exists()
    splits = ExportOptions(classes=("a", "b"))  # row 140 is of class c: it is not read
    assert export_version(version, tmp_path / "out", "png", splits).rows == 97


def test_an_image_that_changed_since_is_not_exported(version, images, tmp_path):
    id = version.ids[20]
    before = (images / id).read_bytes()
    try:
        (images / id).write_bytes(b"another")
        with pytest.raises(StoreError, match=f"{id} is another file than the one that the mask of {id} was made from"):
            export_version(version, tmp_path / "out", "coco", ExportOptions(images="copy"))
    finally:
        (images / id).write_bytes(before)
    assert not list(tmp_path.iterdir())


def test_images_are_copied_or_linked(version, images, tmp_path):
    for mode in ("copy", "link"):
        export_version(version, tmp_path / mode, "coco", ExportOptions(images=mode, split="val"))
        content = json.loads((tmp_path / mode / "instances.json").read_text())
        for image in content["images"]:
            file = tmp_path / mode / "data" / image["file_name"]
            assert file.is_symlink() == (mode == "link")
            assert file.read_bytes() == (images / image["locloc_id"]).read_bytes()


def test_masks_lie_on_the_upright_image(tmp_path, write, made):
    """An image that EXIF turns has the mask, box and size of what viewers show, and a line says so."""
    content = made(["a.jpg"])
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(file, "jpeg", exif=exif)
    content.files = [file.getvalue()]
    version = write(tmp_path / "masks.store", content, tmp_path / "images", {"orientation": np.array([6], np.uint8)})
    exported = export_version(version, tmp_path / "out", "coco", ExportOptions(images="copy"))
    (image,) = json.loads((tmp_path / "out" / "instances.json").read_text())["images"]
    assert (image["width"], image["height"]) == (64, 48)
    assert exported.notes[0].startswith("1 of the images are turned by EXIF: masks, boxes and sizes are in the upright")


def test_a_note_says_where_masks_come_from(version, tmp_path):
    export_version(version, tmp_path / "out", "png", ExportOptions(size="mask"))
    note = read_note(tmp_path / "out" / "masks")
    assert note is not None
    assert (note.version, note.size, note.fit, note.mask_px) == (version.name, "mask", "stretch", 32)


def test_images_without_labels_are_objects(tmp_path, write, made):
    content = made(["a.jpg", "b.jpg"])
    content.labels = [-1, 1]
    version = write(tmp_path / "masks.store", content, tmp_path / "images")
    export_version(version, tmp_path / "out", "coco")
    read = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [category["name"] for category in read["categories"]] == ["a", "b", "c", "object"]
    assert [annotation["category_id"] for annotation in read["annotations"]] == [4, 2]


def test_names_of_files():
    assert export_names(["a/x.jpg", "a/y.png"]) == ["a/x", "a/y"]
    assert export_names(["x.jpg", "x.png", "X.JPG"]) == ["x.jpg-0", "x.png", "X.JPG-2"]  # for file systems without case
    assert export_names(["x.jpg", "x.png", "x.jpg.png", "y.png"]) == ["x.jpg", "x.png", "x.jpg.png", "y"]
    assert export_names(["x.jpg", "X.JPG", "x.jpg-0.png"]) == ["x.jpg-0-0", "X.JPG-1", "x.jpg-0-2"]
    assert export_names(["/data/x.jpg", "s3://bucket/y.jpg"]) == ["data/x", "bucket/y"]
    assert export_names(["a/x.jpg", "a/x.jpg"]) == ["a/x.jpg-0", "a/x.jpg-1"]


def test_images_inside_archives(tmp_path):
    """They are copied out under the names of their members."""
    import tarfile

    photo = tmp_path / "photo.png"
    Image.new("RGB", (4, 3)).save(photo)
    with tarfile.open(tmp_path / "000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(photo, "cat/1.png")
    size = photo.stat().st_size
    paths = [f"000.tar//512+{size}/cat/1.png", "data.parquet//17/image"]
    names = file_names(paths)
    assert export_names(names) == ["000/cat/1", "data/00000017"]
    version = SimpleNamespace(name="s@v1", provenance={"catalog": {"root": str(tmp_path)}})
    row = SimpleNamespace(
        id="1", path=paths[0], file_name="cat/1", name="cat/1", digest=input_digest(photo.read_bytes())
    )
    assert ExportImages(version, "copy", None).put(row, tmp_path / "out") == "cat/1.png"  # by how its bytes begin
    assert (tmp_path / "out" / "cat" / "1.png").read_bytes() == photo.read_bytes()
    with pytest.raises(
        StoreError, match=r"The image 1 is no file of this machine \(.*000.tar.*use --images copy, or none"
    ):
        ExportImages(version, "link", None).put(row, tmp_path / "out")


def test_names_of_labels():
    """Ultralytics exchanges the last folder `images` of a path for `labels`."""
    assert label_names(["images/a/x", "images/b/x"]) == ["a/x", "b/x"]
    assert label_names(["a/images/x", "b/images"]) == ["a/images_/x", "b/images"]
    assert label_names(["images/x"]) == ["x"]
    assert label_names(["ab/x", "ac/x"]) == ["ab/x", "ac/x"]


def test_an_export_needs_an_empty_folder(version, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(StoreError, match="out is not empty: it holds mine"):
        export_version(version, tmp_path / "out", "coco")
    assert os.listdir(tmp_path / "out") == ["mine"]
