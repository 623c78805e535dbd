"""`masks import`: an export that comes back has the same masks; other masks become a version by stated rules."""

import io
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.build import import_masks
from locloc.pipeline.build.decide import decide_version
from locloc.pipeline.build.import_masks import import_version
from locloc.pipeline.build.import_source import ImportRequest
from locloc.pipeline.catalogs.paths import to_os_path
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import StoreError, TruthError
from locloc.pipeline.export import ExportOptions, export_version
from locloc.pipeline.export.zarr import export_zarr
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.pipeline.inspect.diff import diff_versions
from locloc.pipeline.inspect.report.decisions_csv import Decision
from locloc.pipeline.inspect.score import score_version
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import input_digest

SIDE = 32


def blobs(rng, height, width):
    noise = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 2.5)
    return noise > np.quantile(noise, 0.7)


def photo(rng, size):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module", params=["stretch", "centre_crop"])
def exported(request, tmp_path_factory, made, write):
    """A version of 70 images, 64 x 48, and its folder of images; of 70 rows, five have no mask or an empty one."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("exported")
    content = made([f"{n:03}.png" for n in range(70)])
    ok = content.status == Status.OK
    content.masks[ok] = [blobs(rng, SIDE, SIDE) for _ in range(int(ok.sum()))]
    content.files = [photo(rng, (64, 48)) for _ in content.ids]
    content.recipe = content.recipe | {"images": {"fit": request.param}}
    return write(folder / "masks.store", content, folder / "images"), folder / "images"


def imported(masks, images, tmp_path, **settings):
    request = ImportRequest(masks, read_catalog(str(images)), tmp_path / "imported.store", **settings)
    summary = import_version(request)
    return open_version(f"{tmp_path / 'imported.store'}@{summary.version}"), summary


@pytest.mark.parametrize(
    ("to", "options"),
    [
        ("png", {"size": "mask"}),
        ("png", {"size": "original"}),
        ("png", {"size": "original", "segmentation": "class"}),
        ("coco", {"size": "mask"}),
        ("coco", {"size": "original"}),
        ("labelstudio", {}),
    ],
)
def test_a_round_trip_gives_the_same_masks(exported, tmp_path, to, options):
    version, images = exported
    export_version(version, tmp_path / "out", to, ExportOptions(**options))
    again, summary = imported(tmp_path / "out", images, tmp_path)
    with_mask = [id for id, mask in version.original_masks() if version.mask(id).any()]
    assert len(with_mask) == 65
    assert summary.counts["ok"] == 65 and summary.counts["fallback"] == 1
    assert np.array_equal(again.read_masks(with_mask), version.read_masks(with_mask))
    if again.provenance["recipe"]["images"]["fit"] == "stretch":  # which the boxes of the fixture are made for
        assert np.allclose(again.read_column("box", with_mask), version.read_column("box", with_mask), atol=1e-4)
    assert again.provenance["operation"]["exported_from"] == version.name
    assert again.provenance["backbone"] == version.provenance["backbone"]
    assert again.attention_shape == version.attention_shape
    diff = diff_versions(version, again)  # the attention of `again` is zeros
    assert diff.not_compared == {"attention": f"the masks of {again.name} were imported, and have none"}
    assert "attention" not in diff.changed and diff.attention_max_difference is None and diff.iou is not None


@pytest.mark.parametrize("to", ["png", "coco", "yolo", "labelstudio"])
@pytest.mark.parametrize("mode", ["none", "copy"])
def test_images_whose_names_differ_by_their_suffix_get_their_own_masks_back(tmp_path, made, write, to, mode):
    rng, ids = np.random.default_rng(4), ["a.jpg", "a.jpg.png", "a.png", "b.png"]
    content = made(ids)
    content.status[:] = Status.OK
    content.errors = {}
    content.masks[:] = False
    for row in range(len(ids)):
        content.masks[row, : SIDE // 2, row * SIDE // 4 : (row + 1) * SIDE // 4] = True
    content.files = [photo(rng, (64, 48)) for _ in ids]
    version = write(tmp_path / "masks.store", content, tmp_path / "images")
    export_version(version, tmp_path / "out", to, ExportOptions(images=mode))
    again, summary = imported(tmp_path / "out", tmp_path / "images", tmp_path)
    assert summary.counts["ok"] == len(ids)
    for one, other in zip(again.read_masks(ids), version.read_masks(ids), strict=True):
        assert (one & other).sum() / (one | other).sum() > 0.9


@pytest.mark.parametrize("to", ["png", "coco", "yolo", "labelstudio"])
@pytest.mark.parametrize("mode", ["none", "copy"])
def test_images_as_cameras_write_them_get_their_masks_back_without_a_warning(tmp_path, made, write, to, mode):
    """Capital suffixes, names that are not UTF-8, and images that EXIF turns in a way that their sizes do not tell."""
    rng, ids = np.random.default_rng(5), ["DSC_0.JPG", "b.jfif", r"caf\xe9.png", "turned.jpg"]
    content = made(ids)
    content.status[:] = Status.OK
    content.masks[:] = False
    for row in range(len(ids)):
        content.masks[row, row : SIDE // 2, : SIDE // 2] = True
    content.files = [photo(rng, (64, 48)) for _ in ids]
    with io.BytesIO() as file:
        Image.new("RGB", (64, 48)).save(file, "jpeg", exif=orientation(3))
        content.files[3] = file.getvalue()
    version = write(tmp_path / "masks.store", content, tmp_path / "images")
    (tmp_path / "images" / ids[2]).rename(tmp_path / "images" / to_os_path(ids[2]))
    export_version(version, tmp_path / "out", to, ExportOptions(images=mode))
    again, summary = imported(tmp_path / "out", tmp_path / "images", tmp_path)
    assert summary.counts["ok"] == len(ids) and summary.warnings == ()
    for one, other in zip(again.read_masks(ids), version.read_masks(ids), strict=True):
        assert (one & other).sum() / (one | other).sum() > 0.9


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("mode", ["none", "copy"])
def test_coco_comes_back_where_files_got_other_names(tmp_path, made, write, mode):
    """`a.jpg` and `A.JPG` are one file on some systems."""
    content = made(["A.JPG", "a.jpg"])
    content.files = [photo(np.random.default_rng(6), (64, 48)) for _ in content.ids]
    version = write(tmp_path / "masks.store", content, tmp_path / "images")
    export_version(version, tmp_path / "out", "coco", ExportOptions(images=mode))
    again, summary = imported(tmp_path / "out", tmp_path / "images", tmp_path)
    assert summary.counts["ok"] == 2 and np.array_equal(again.read_masks(), version.read_masks())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (30, 1)])
def test_yolo_has_polygons_of_objects_as_thin_as_a_pixel(tmp_path, made, write, height, width):
    content = made(["a.png"])
    content.masks[:] = False
    content.masks[0, 1 : 1 + height, 1 : 1 + width] = True
    content.files = [photo(np.random.default_rng(7), (SIDE, SIDE))]
    version = write(tmp_path / "masks.store", content, tmp_path / "images")
    export_version(version, tmp_path / "out", "yolo", ExportOptions(size="mask"))
    numbers = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text().split()[1:]
    assert len(numbers) >= 6, "ultralytics takes four numbers for a box"
    again, _ = imported(tmp_path / "out", tmp_path / "images", tmp_path, mask_px=SIDE)
    assert np.array_equal(again.read_masks(), version.read_masks())


def test_yolo_comes_back_as_polygons(exported, tmp_path):
    version, images = exported
    export_version(version, tmp_path / "out", "yolo")
    again, _ = imported(tmp_path / "out", images, tmp_path)
    for id, mask in version.original_masks():
        if mask.any():
            one, other = again.mask(id), version.mask(id)
            assert (one & other).sum() / (one | other).sum() > 0.85  # bridges between parts, on images of 64 x 48


@pytest.fixture
def images(tmp_path):
    """Six images of 60 x 40."""
    rng, folder = np.random.default_rng(2), tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        (folder / f"im{number}.png").write_bytes(photo(rng, (60, 40)))
    return folder


@pytest.fixture
def masks(tmp_path):
    """Of three of them: at its size, at half of it, and empty."""
    rng, folder = np.random.default_rng(3), tmp_path / "masks"
    folder.mkdir()
    for number, (height, width) in enumerate([(40, 60), (20, 30), (40, 60)]):
        mask = blobs(rng, height, width) if number < 2 else np.zeros((height, width), bool)
        Image.fromarray(mask).save(folder / f"im{number}.png")
    return folder


def test_every_image_is_a_row_with_its_reason(images, masks, tmp_path):
    (masks / "im3.png").write_bytes(b"no mask")
    (masks / "another.png").write_bytes(b"of an image that is not there")
    version, summary = imported(masks, images, tmp_path)
    assert version.table["status"].to_pylist() == ["ok", "ok", "fallback", "undecodable", "missing", "missing"]
    errors = version.table["error"].to_pylist()
    assert errors[:2] == [None, None] and errors[2] == "its mask is empty"
    assert errors[3].startswith("its mask: Mask ") and errors[4] == f"no mask in {masks}"
    assert summary.warnings[0] == f"1 of the masks in {masks} not used: of no image here"
    assert summary.warnings[1].startswith("1 of 4 masks cannot be read (as Mask ")
    assert summary.read_as == "grey, brighter than half is object"
    with Image.open(masks / "im0.png") as image:
        whole = np.array(image)
    square = ResizeCrop.stretch((60, 40), 256).image(whole.astype(np.uint8) * 255, "area") > 127
    assert np.array_equal(version.mask("im0.png"), square)
    assert version.read_column("size", ["im0.png"]).tolist() == [[60, 40]]
    assert not version.read_attention().any() and version.provenance["operation"]["format"] == "png"


def test_the_same_masks_are_not_imported_twice(images, masks, tmp_path):
    _, first = imported(masks, images, tmp_path)
    _, again = imported(masks, images, tmp_path)
    assert again.already_there and again.version == first.version == "v1"
    with pytest.raises(StoreError, match="@v1 is this version already, .* no 'mine' was made; use .*@v1"):
        imported(masks, images, tmp_path, name="mine")
    Image.fromarray(np.ones((40, 60), bool)).save(masks / "im0.png")  # corrected
    _, corrected = imported(masks, images, tmp_path)
    assert corrected.version == "v2"


def test_an_import_that_is_stopped_is_resumed(images, masks, tmp_path, monkeypatch):
    monkeypatch.setattr(import_masks, "CHECKPOINT_S", 0.0)

    def stop(done, total):
        raise KeyboardInterrupt

    request = ImportRequest(masks, read_catalog(str(images)), tmp_path / "imported.store")
    with pytest.raises(KeyboardInterrupt):
        import_version(request, stop)
    monkeypatch.setattr("locloc.pipeline.build.import_source.MaskSource.rows", None)  # the block is there already
    assert import_version(request).version == "v1"


@pytest.mark.parametrize("judged", [False, True])
def test_imported_masks_are_scored_and_not_refined(images, masks, tmp_path, judged):
    from locloc.pipeline.build.incremental import failed_rows, refine_again, retry_rows
    from locloc.pipeline.build.spec import RunSettings

    version, _ = imported(masks, images, tmp_path)
    if judged:
        decided = {version.ids[0]: Decision(version.ids[0], "accepted", "", 0)}
        version = open_version(f"{version.store}@{decide_version(version, decided).version}")
    report = score_version(version, str(masks))
    assert report.scores["masks"].mask_iou == 1.0 and report.images == 2
    assert not any("threshold" in name for name in report.scores)  # of attention, which there is not
    with pytest.raises(StoreError, match="holds imported masks, and no attention"):
        retry_rows(version, failed_rows(version), "missing", RunSettings())
    with pytest.raises(StoreError, match="holds imported masks, and no attention"):
        refine_again(version, Recipe(), "locloc", RunSettings())


COCO_BASE = {
    "images": [{"id": 1, "file_name": "im0.png", "width": 60, "height": 40}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]}],
    "categories": [{"id": 1, "name": "a"}],
}


def test_masks_of_other_tools(images, tmp_path):
    (tmp_path / "coco.json").write_text(json.dumps(COCO_BASE))
    coco, _ = imported(tmp_path / "coco.json", images, tmp_path / "1")
    labels = tmp_path / "yolo" / "labels" / "train"
    labels.mkdir(parents=True)
    (tmp_path / "yolo" / "data.yaml").touch()
    corners = [10 / 60, 10 / 40, 30 / 60, 10 / 40, 30 / 60, 30 / 40, 10 / 60, 30 / 40]
    (labels / "im0.txt").write_text("0 " + " ".join(map(str, corners)) + "\n")
    (labels / "im1.txt").write_text("0 .5 .5 .1 .1\n")  # a box
    yolo, _ = imported(tmp_path / "yolo", images, tmp_path / "2")
    region = {"original_width": 60, "original_height": 40, "type": "polygonlabels"}
    points = (np.array(corners).reshape(-1, 2) * 100).tolist()
    brush = region | {"value": {"points": points, "polygonlabels": ["a"]}}
    box = region | {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5}}
    tasks = [
        {"data": {"image": "/data/upload/1/0123abcd-im0.png"}, "annotations": [{"result": [brush, box]}]},
        {"data": {"image": "/data/local-files/?d=photos/im1.png"}, "predictions": [{"result": [box]}]},
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    studio, _ = imported(tmp_path / "tasks.json", images, tmp_path / "3")
    for version in (coco, yolo, studio):
        assert np.allclose(version.box("im0.png"), [10, 10, 30, 30], atol=1.1)  # YOLO's border is drawn too
        assert abs(version.mask("im0.png").mean() - 400 / 2400) < 0.02
    assert "is a box (class x y width height), not a mask" in yolo.reasons(["im1.png"])[0][1]
    assert "boxes or other regions, and no brush or polygon" in studio.reasons(["im1.png"])[0][1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no mask of any of 6 images"),
        ({"a.txt": "x"}, "has no mask of any of 6 images"),
        ({"im0.png": b"x", "im1.png": b"y", "im2.png": b"z"}, r"Mask .*im0.png"),
        ({"data.yaml": "", "labels/zz.txt": "0 1 1"}, "has labels of none of 6 images: 1 files"),
        ({"data.yaml": "", "labels/im0.txt": "a 1 1"}, "im0.txt, line 1 is not a class and numbers"),
        ({"data.yaml": "", "labels/im0.txt": "0 2 2 3 3 4 4"}, "line 1 has coordinates outside of 0 to 1"),
        ({"data.yaml": "", "labels/a/im0.txt": "", "labels/b/im0.txt": ""}, "has labels of none of 6 images"),
    ],
)
def test_masks_that_cannot_be_used_leave_no_version(images, tmp_path, files, message):
    folder = tmp_path / "masks"
    for name, text in ({"": ""} | files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir(exist_ok=True) if not name else (folder / name).write_bytes(
            text if isinstance(text, bytes) else text.encode()
        )
    with pytest.raises(TruthError, match=message) as error:
        imported(folder, images, tmp_path)
    assert "\n" not in str(error.value) and "--truth " not in str(error.value)
    if (tmp_path / "imported.store").exists():
        from locloc.pipeline.store import list_versions

        assert list_versions(tmp_path / "imported.store") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[1]", "is no list of Label Studio's tasks"),
        ("[]", "has none of 6 images; its tasks are of images such as none"),
        (
            '[{"data": {"image": "im0.png"}}, {"data": {"image": "im0.png"}}]',
            r"has two tasks of im0.png, the second is \[1\]",
        ),
        (json.dumps(COCO_BASE | {"images": []}), "has none of 6 images"),
        (json.dumps(COCO_BASE | {"annotations": [{"image_id": 1}]}), "has no segmentation"),
    ],
)
def test_annotations_that_cannot_be_used(images, tmp_path, text, message):
    (tmp_path / "masks.json").write_text(text)
    with pytest.raises(TruthError, match=message):
        imported(tmp_path / "masks.json", images, tmp_path)


def test_a_file_that_is_no_image_has_its_digest(images, masks, tmp_path):
    """As a build gives it: `masks diff` of both says that the file is the same."""
    (images / "im5.png").write_bytes(b"no image")
    version, _ = imported(masks, images, tmp_path)
    assert version.table["status"][5].as_py() == "undecodable"
    assert np.array_equal(version.read_column("input_digest", ["im5.png"])[0], input_digest(b"no image"))


def test_settings_that_do_not_fit(exported, images, masks, tmp_path):
    with pytest.raises(StoreError, match="No format of masks 'tiff'; known: coco, labelstudio, png, yolo"):
        imported(masks, images, tmp_path, masks_format="tiff")
    with pytest.raises(TruthError, match="nowhere is no folder of masks and no file of annotations"):
        imported(tmp_path / "nowhere", images, tmp_path)
    version, photos = exported
    export_version(version, tmp_path / "out", "png", ExportOptions(size="mask"))
    with pytest.raises(StoreError, match="exported at the stored size, 32 px: leave --mask-px 64 out"):
        imported(tmp_path / "out", photos, tmp_path, mask_px=64)
    export_version(version, tmp_path / "hdf5", "hdf5")
    with pytest.raises(TruthError, match="is an export to hdf5; masks are imported from png, coco, labelstudio, yolo"):
        imported(tmp_path / "hdf5", photos, tmp_path)
    export_zarr(version, tmp_path / "zarr")
    with pytest.raises(TruthError, match="is an export to zarr; masks are imported from png"):
        imported(tmp_path / "zarr", photos, tmp_path)
    assert not os.path.exists(tmp_path / "imported.store")
