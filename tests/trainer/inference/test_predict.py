"""Images to predictions, on models small enough to be worked out by hand: sizes, order, faults and threads."""

import io
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from locloc.pipeline.errors import CatalogError, ImageError, PredictError
from locloc.pipeline.geometry.boxes import largest_box, largest_object
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.trainer.inference.formats import RunMetadata
from locloc.trainer.inference.formats.overlay import LEAST_PX, MOST_PX, canvas_of, draw_overlay
from locloc.trainer.inference.inputs import find_inputs
from locloc.trainer.inference.predict import Prediction, Predictor

SIDE = 64


class Brightness:
    """A stand-in for a Localiser whose map is the red channel, and whose logits are the means of the channels."""

    def __init__(self, fit: str = "stretch", maps: bool = True, classes: tuple[str, ...] = ("red", "green", "blue")):
        self.fit, self.has_maps, self.has_classes, self.classes = fit, maps, bool(classes), classes
        self.count, self.tau, self.map_px, self.kind = len(classes), 0.5, SIDE, "locloc"
        self.device, self.images = torch.device("cpu"), SimpleNamespace(max_pixels=10**6)
        self.headers, self.backbone = {"generator": {"version": "s@v1"}}, SimpleNamespace(name="eye")
        self.batches: list[int] = []

    def map_geometry(self, size: tuple[int, int]) -> ResizeCrop:
        return (ResizeCrop.centre_crop if self.fit == "centre_crop" else ResizeCrop.stretch)(size, SIDE)

    def class_geometry(self, size: tuple[int, int]) -> ResizeCrop:
        return ResizeCrop.centre_crop(size, 8, 9)

    def maps(self, rgb: np.ndarray) -> Tensor:
        self.batches.append(len(rgb))
        return torch.from_numpy(rgb[..., 0].astype(np.float32) / 255)

    def logits(self, rgb: np.ndarray) -> Tensor:
        return torch.from_numpy(rgb.astype(np.float32).mean((1, 2)) / 64)


def image(width: int, height: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Red where the object is, on dark green."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 1] = 40
    rgb[box[1] : box[3], box[0] : box[2], 0] = 240
    return rgb


def near(box: np.ndarray, truth: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    """Within a cell of the map on each side."""
    return bool((np.abs(box - truth) <= np.ceil(np.tile(np.array(size) / SIDE, 2))).all())


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 64), (10, 12, 40, 50)),
        ((500, 90), (100, 20, 300, 70)),
        ((33, 257), (5, 60, 30, 200)),
        ((7, 5), (1, 1, 5, 4)),
        ((640, 480), (0, 0, 320, 240)),
    ],
)
def test_boxes_are_in_pixels_of_the_original_whatever_its_size(size, box):
    (found,) = Predictor(Brightness())(image(*size, box))
    assert found.size_px == size and found.mask.shape == size[::-1] and found.mask.dtype == bool
    assert near(found.box, box, size)
    assert np.array_equal(found.box, largest_box(found.mask))


def test_small_holes_are_filled_and_small_parts_dropped_by_their_share_of_the_object():
    rgb = image(256, 256, (60, 40, 200, 200))
    rgb[100:120, 100:120, 0] = 0  # a hole of a 50th of the object
    (plain,), (cleaned,) = (Predictor(Brightness())(rgb, clean=share) for share in (0.0, 0.1))
    assert not plain.mask[110, 110] and cleaned.mask[110, 110] and np.array_equal(plain.box, cleaned.box)
    assert np.array_equal(cleaned.mask | plain.mask, cleaned.mask) and cleaned.mask_score < plain.mask_score
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(PredictError, match="clean is a share of the object"):
            Predictor(Brightness())(rgb, clean=share)


def test_nothing_is_found_outside_of_a_centre_crop():
    rgb = image(300, 100, (0, 20, 180, 80))
    (found,) = Predictor(Brightness("centre_crop"))(rgb)
    assert not found.mask[:, :100].any() and not found.mask[:, 200:].any()
    assert near(found.box, (100, 20, 180, 80), (100, 100))


def test_the_largest_object_alone_is_masked():
    rgb = image(128, 128, (10, 10, 60, 60))
    rgb[90:110, 90:110, 0] = 240
    (found,) = Predictor(Brightness())(rgb)
    assert near(found.box, (10, 10, 60, 60), (128, 128)) and not found.mask[80:, 80:].any()


def test_a_flat_map_finds_nothing():
    (found,) = Predictor(Brightness())(np.full((20, 30, 3), 90, np.uint8))
    assert not found.mask.any() and found.box.tolist() == [0, 0, 0, 0] and found.mask_score == 0


def test_tau_is_a_share_of_the_maps_range():
    rgb = image(64, 64, (10, 10, 50, 50))
    rgb[20:30, 20:30, 0] = 255
    rgb[..., 0] = rgb[..., 0].clip(100)  # from 100 to 255: 240 is at 0.903
    low, high = (Predictor(Brightness())(rgb, tau=tau)[0].box for tau in (0.9, 0.91))
    assert low.tolist() == [10, 10, 50, 50] and high.tolist() == [20, 20, 30, 30]
    score = Predictor(Brightness())(rgb, tau=0.91)[0].mask_score
    assert score == pytest.approx(1.0)
    for tau in (-0.1, 1.0):
        with pytest.raises(PredictError, match="from 0 to below 1"):
            Predictor(Brightness())(rgb, tau=tau)


def test_classes_come_best_first_with_their_softmax():
    rgb = np.zeros((10, 10, 3), np.uint8)
    rgb[:] = (64, 192, 128)
    (found,) = Predictor(Brightness())(rgb, top=2)
    shares = np.exp([1.0, 3.0, 2.0]) / np.exp([1.0, 3.0, 2.0]).sum()
    assert (found.labels, found.classes) == ((1, 2), ("green", "blue"))
    assert found.scores == pytest.approx((shares[1], shares[2]))
    assert len(Predictor(Brightness())(rgb)[0].classes) == 3


def test_a_run_may_lack_maps_or_classes():
    rgb = image(40, 30, (5, 5, 20, 20))
    (found,) = Predictor(Brightness(maps=False))(rgb)
    assert found.box is found.mask is found.mask_score is None and sorted(found.labels) == [0, 1, 2]
    (found,) = Predictor(Brightness(classes=()))(rgb)
    assert found.box.any() and found.labels == found.classes == found.scores == ()


def test_any_batch_and_any_number_of_threads_give_the_same_in_the_same_order():
    rng = np.random.default_rng(3)
    images = []
    for _ in range(23):
        width, height = rng.integers(20, 90, 2).tolist()
        images.append(image(width, height, (3, 4, 3 + width // 2, 4 + height // 2)))
    alone = Predictor(Brightness(), 1, 1)(images)
    eye = Brightness()
    together = Predictor(eye, 5, 4)(images)
    assert eye.batches == [5, 5, 5, 5, 3]
    for one, other, rgb in zip(alone, together, images, strict=True):
        assert one.size_px == rgb.shape[1::-1] and np.array_equal(one.mask, other.mask)
        assert np.array_equal(one.box, other.box) and one.scores == other.scores


def jpeg(rgb: np.ndarray, orientation: int = 1) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def test_files_are_read_as_the_build_reads_them(tmp_path):
    upright = image(90, 60, (10, 20, 50, 45))
    (tmp_path / "turned.jpg").write_bytes(jpeg(np.rot90(upright), 6))  # a viewer turns it clockwise, upright again
    Image.fromarray(upright).convert("L").save(tmp_path / "grey.png")
    model = Predictor(Brightness())
    turned, grey = model([tmp_path / "turned.jpg", str(tmp_path / "grey.png")])
    assert turned.size_px == grey.size_px == (90, 60)
    assert near(turned.box, (10, 20, 50, 45), (90, 60)) and near(grey.box, (10, 20, 50, 45), (90, 60))
    with Image.open(tmp_path / "turned.jpg") as opened:
        assert np.array_equal(model(opened)[0].box, turned.box)
    alpha = np.dstack([upright, np.full((60, 90), 255, np.uint8)])
    assert np.array_equal(model(alpha)[0].mask, model(upright)[0].mask)
    assert np.array_equal(model(upright[..., 0])[0].mask, model(upright)[0].mask)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(jpeg(image(90, 60, (10, 20, 50, 45)))[:400])
    good = image(30, 30, (5, 5, 20, 20))
    given = [
        tmp_path / "cut.jpg",
        good,
        tmp_path / "none.jpg",
        good.astype(np.float32),
        np.zeros((4, 4, 2), np.uint8),
        3,
    ]
    found = list(Predictor(Brightness(), 2).each(given))
    assert [isinstance(one, Prediction) for one in found] == [False, True, False, False, False, False]
    reasons = [
        "cannot be decoded",
        "",
        "no such file",
        "float32 is no image",
        "no three channels",
        "int is no image",
    ]
    for one, reason in zip(found, reasons, strict=True):
        assert reason in str(one)
    with pytest.raises(ImageError, match="image 0: cannot be decoded.*`each` goes on without it"):
        Predictor(Brightness())(given)


def test_a_map_that_is_not_finite_is_a_reason():
    eye = Brightness(classes=())
    eye.maps = lambda rgb: torch.full((len(rgb), 4, 4), torch.nan)
    (found,) = Predictor(eye).each([image(20, 20, (1, 1, 9, 9))])
    assert isinstance(found, ImageError) and "not finite" in str(found)


def test_images_are_read_a_few_batches_ahead_and_no_further():
    asked = itertools.count()
    endless = (image(20, 20, (2, 2, 9, 9)) for _ in asked)
    stream = Predictor(Brightness(), 2, 2).each(endless)
    next(stream)
    stream.close()
    assert next(asked) < 30


def test_the_object_of_a_mask_is_what_its_largest_contour_holds():
    mask = np.zeros((20, 30), bool)
    mask[2:12, 3:15] = True
    mask[5:9, 6:10] = False  # a hole stays one
    mask[15:18, 20:28] = True
    box, own = largest_object(mask)
    assert box.tolist() == [3, 2, 15, 12] and np.array_equal(box, largest_box(mask))
    assert own.sum() == 10 * 12 - 4 * 4 and not own[15:].any()
    box, own = largest_object(np.zeros((4, 5), bool))
    assert box.tolist() == [0, 0, 0, 0] and own.shape == (4, 5) and not own.any()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("cats/a.jpg", "cats/b.PNG", "cats/deep/c.webp", "dogs/a.jpg", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["."], ["cats/a.jpg", "cats/b.PNG", "cats/deep/c.webp", "dogs/a.jpg"]),
        (["cats"], ["a.jpg", "b.PNG", "deep/c.webp"]),
        (["dogs", "cats/deep"], ["dogs/a.jpg", "cats/deep/c.webp"]),
        (["cats/a.jpg", "dogs/a.jpg"], ["cats/a.jpg", "dogs/a.jpg"]),
        (["cats/a.jpg"], ["a.jpg"]),
        (["cats/a.jpg", "cats", "cats/../cats/a.jpg"], ["a.jpg", "b.PNG", "deep/c.webp"]),
        (["*/a.jpg"], ["cats/a.jpg", "dogs/a.jpg"]),
        (["**/*"], ["cats/a.jpg", "cats/b.PNG", "cats/deep/c.webp", "dogs/a.jpg"]),
        (["cat*"], ["cats/a.jpg", "cats/b.PNG", "cats/deep/c.webp"]),
        (["notes.txt", "gone.jpg"], ["notes.txt", "gone.jpg"]),
    ],
)
def test_files_folders_and_globs_become_named_images(given, names, album):
    sources = find_inputs([str(album / one) for one in given])
    assert [source.name for source in sources] == names
    assert all(isinstance(source.where, Path) for source in sources)


def test_a_place_without_images_is_one_line(album):
    (album / "empty").mkdir()
    for given in ("empty", "*.jpg", "*.txt"):
        with pytest.raises(PredictError, match="no image there"):
            find_inputs([str(album / given)])
    with pytest.raises(PredictError, match="takes no wildcards"):
        find_inputs(["memory://album/*.jpg/x"])
    with pytest.raises(CatalogError, match="lists no folder"):
        find_inputs(["http://example.org/album"])


def test_urls_are_named_below_what_they_share():
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("one/a.jpg", "two/a.jpg", "two/notes.txt"):
        memory.pipe(f"/predict-album/{name}", b"x")
    sources = find_inputs(["memory://predict-album"])
    assert [source.name for source in sources] == ["one/a.jpg", "two/a.jpg"]
    assert sources[0].where == "memory://predict-album/one/a.jpg"
    sources = find_inputs(["memory://predict-album/one/a.jpg", "memory://predict-album/two"])
    assert [source.name for source in sources] == ["one/a.jpg", "two/a.jpg"]


def test_files_of_one_stem_do_not_overwrite_each_other(tmp_path):
    metadata = RunMetadata(
        tmp_path, "run", Brightness(), 0.5, ["a.jpg", "b/a.jpg", "A.png", "plain", "b/x.y.jpg", "a.jpg.png"]
    )
    files = [metadata.file("masks", number, ".png").relative_to(tmp_path / "masks").as_posix() for number in range(6)]
    assert files == ["a.jpg.png", "b/a.png", "A.png.png", "plain.png", "b/x.y.png", "a.jpg.png.png"]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (24, 16), (640, 480), (3000, 1000)])
@pytest.mark.parametrize("fill", ["nothing", "all", "some"])
def test_overlays_have_a_legible_size_and_change_what_is_inside(size, fill):
    width, height = size
    mask = np.zeros((height, width), bool)
    if fill == "all":
        mask[:] = True
    elif fill == "some":
        mask[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    found = Prediction(size, largest_box(mask), mask, 0.5, (3,), ("a name that is rather long",), (0.5,))
    canvas = canvas_of(np.full((height, width, 3), 128, np.uint8))
    shown = draw_overlay(canvas, found)
    assert shown.shape == canvas.shape and LEAST_PX <= max(shown.shape[:2]) <= MOST_PX
    changed = (shown != 128).any(2)
    assert changed.any() and (fill != "all" or changed.mean() > 0.99 or min(shown.shape[:2]) < 4)
    if fill == "some" and min(size) > 10:
        y, x = (round(0.375 * side) for side in shown.shape[:2])
        assert changed[y, x] and not changed[round(0.8 * shown.shape[0]), round(0.8 * shown.shape[1])]


def test_outlines_follow_the_mask():
    """On a canvas of the mask's own size the tint covers the mask to within the line's width."""
    mask = np.zeros((480, 640), bool)
    mask[100:300, 200:500] = True
    found = Prediction((640, 480), np.zeros(4, np.float32), mask, 0.5, (), (), ())
    shown = draw_overlay(np.full((480, 640, 3), 200, np.uint8), found)
    changed = (shown != 200).any(2)
    assert changed[110:290, 210:490].all() and not changed[40:90, 210:490].any() and not changed[310:, :].any()
    assert tuple(shown[200, 350]) == tuple(np.round(0.38 * np.array((230, 159, 0)) + 0.62 * 200).astype(int))
