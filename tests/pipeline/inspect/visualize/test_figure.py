"""`locloc masks view`: every row is drawn, in true proportions, in every format; what is missing is said."""

import io

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import ImageError, StoreError, TruthError
from locloc.pipeline.inspect.visualize import figure as figures
from locloc.pipeline.inspect.visualize.figure import draw_view, save_view
from locloc.pipeline.inspect.visualize.output import FORMATS, check_view_file
from locloc.pipeline.inspect.visualize.panels import BOX, MASK, TRIMAP, TRUTH, panels_of
from locloc.pipeline.inspect.visualize.rows import view_images
from locloc.pipeline.inspect.visualize.truth import ViewTruth
from locloc.pipeline.status import HAS_MASK, Status

IDS = ["a$b$.png", "猫\ue000.png", "x" * 200 + "end.png", "empty.png", "gone.png", "text.png", "[bold]x.png"]
SIZE = (64, 48)


def encoded(size: tuple[int, int] = SIZE, colour=(200, 60, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), colour, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def version(tmp_path, write, made):
    """Seven images of 64 x 48; the object is the left half. One has an empty mask, one is gone, one is no image."""
    content = made(IDS)
    content.recipe = {"images": {"fit": "stretch"}, "mask_px": 32, "saliency": {"heads": "mean"}}
    content.files = [encoded()] * len(IDS)
    content.files[5] = b"no image"
    content.masks[:] = False
    content.masks[[0, 1, 2, 6], 4:28, :16] = True
    content.status = np.full(len(IDS), Status.OK, np.uint8)
    content.status[3:6] = Status.FALLBACK, Status.MISSING, Status.UNDECODABLE
    content.attention = np.random.default_rng(0).random((len(IDS), 2, 3, 3)).astype(np.float16)
    return write(tmp_path / "m.store", content, tmp_path / "images")


def viewed(version, *ids, **how):
    return view_images(version, [version.row(one) for one in ids or IDS], **how)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def test_every_row_is_drawn_and_says_what_is_missing(version, tmp_path):
    images = viewed(version)
    assert [one.rgb is not None for one in images] == [True] * 4 + [False] * 2 + [True]
    assert [one.box is not None for one in images] == [True] * 3 + [False] * 3 + [True]
    assert images[0].box.tolist() == [0, 6, 32, 42] and images[0].figures == "mask 38% of the image"
    assert images[4].notes == ("no such file",) and images[5].notes == ("not an image of a known format",)
    figure = draw_view(version, images, 2, tmp_path / "x.png")
    said = texts(figure)
    assert said[0] == "m.store@v1 · recipe test, backbone none"
    assert {name for name, _ in TRIMAP.values()} <= set(said)
    assert {"a$b$.png", "猫\ue000.png".encode("unicode_escape").decode(), "[bold]x.png"} <= set(said)
    assert any(text.startswith("xxx") and text.endswith("xend.png") for text in said)
    assert "no mask: missing; no such file" in said and "cannot be read" in said


def test_panels_have_the_proportions_of_the_image(version, tmp_path):
    figure = draw_view(version, viewed(version, IDS[0]), 1, tmp_path / "x.png")
    extents = [image.get_extent() for image in figure.axes[0].images]
    assert [(right - left, bottom - top) for left, right, bottom, top in extents] == [(256, 192)] * 4
    shown = pixels(figure)
    assert shown.shape[:2] == (figures._HEAD_PX + figures._CAPTION_PX + 192 + figures._ROW_GAP_PX, 4 * 264 + 8)
    assert (shown == BOX).all(2).any() and (np.abs(shown.astype(int) - MASK) < 40).all(2).any()


def test_an_image_of_a_centre_crop_is_shown_in_whole(tmp_path, write, made):
    content = made(["a"])
    content.recipe = {"images": {"fit": "centre_crop"}, "mask_px": 32, "saliency": {"heads": "mean"}}
    content.files = [encoded()]
    content.masks[:] = True
    (image,) = viewed(write(tmp_path / "c.store", content, tmp_path / "images"), "a")
    photo, attention, _, mask = panels_of(image)
    assert photo.layers[0].extent == (0, 0, 64, 48) and attention.layers[0].extent == pytest.approx(
        (8, 0, 56, 48), abs=0.5
    )
    assert (mask.layers[0].pixels[24, [4, 60]] < 80).all(), "what the crop leaves out is no object"
    assert tuple(mask.layers[0].pixels[24, 32]) == (200, 60, 30) and image.figures == "mask 100% of the crop"


def test_outlines_and_boxes_are_in_pixels_of_the_image(version):
    *_, mask = panels_of(viewed(version, IDS[0])[0])
    (outline,) = mask.outlines
    assert np.allclose([outline.min(0), outline.max(0)], [[0, 6], [32, 42]], atol=2.1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_written(version, tmp_path, suffix):
    file = tmp_path / f"view.{suffix}"
    check_view_file(file)
    save_view(draw_view(version, viewed(version, IDS[0]), 1, file), file)
    data = file.read_bytes()
    if suffix in ("pdf", "svg"):
        assert data.startswith(b"%PDF" if suffix == "pdf" else b"<?xml")
        save_view(draw_view(version, viewed(version, IDS[0]), 1, file), file)
        assert file.read_bytes() == data
    else:
        with Image.open(file) as image:
            assert image.size == (4 * 264 + 8, 326)


def test_a_figure_that_is_too_large_names_columns(version, tmp_path, monkeypatch):
    monkeypatch.setitem(figures._MOST_PX, "pdf", 500)
    with pytest.raises(StoreError, match="7 images make a figure of 1064 x .*--columns"):
        draw_view(version, viewed(version), 1, tmp_path / "x.pdf")


def test_images_that_were_moved_are_an_error_that_names_root(version, tmp_path):
    with pytest.raises(ImageError, match="none of 7 images can be read; .*no such file; .*--root"):
        viewed(version, root=tmp_path)


def test_images_that_the_build_could_not_read_either_are_not_moved(version, tmp_path):
    failed = np.flatnonzero(~np.isin(version.status, HAS_MASK))
    with pytest.raises(ImageError, match="no such file$"):
        view_images(version, [int(failed[0])], tmp_path)


def test_a_changed_image_is_said(version, tmp_path):
    (tmp_path / "images" / IDS[0]).write_bytes(encoded((48, 64)))
    (image,) = viewed(version, IDS[0])
    assert image.notes == ("the image has changed since the version was built",) and image.size_px == SIZE


def test_true_masks_are_shown_beside_their_scores(version, tmp_path):
    folder = tmp_path / "true"
    folder.mkdir()
    mask = np.zeros((96, 128), np.uint8)
    mask[12:84, :64] = 255
    for name in (IDS[0], IDS[6]):
        Image.fromarray(mask).save(folder / name)
    images = viewed(version, IDS[0], IDS[2], truth=ViewTruth(version, str(folder)))
    assert images[0].figures == "mask 38% of the image, mask IoU 1.00, box IoU 1.00"
    *_, true = panels_of(images[0])
    assert true.boxes[0].tolist() == [0, 6, 32, 42] and true.outline_colour == TRUTH
    *_, none = panels_of(images[1])
    assert none.note == "no true mask" and images[1].all_notes() == ("no true mask",)
    assert "ground truth" in texts(draw_view(version, images, 1, tmp_path / "x.png"))
    with pytest.raises(TruthError):
        ViewTruth(version, str(tmp_path / "nowhere"))


def test_true_boxes_of_a_catalog_without_any_are_said(version):
    (image,) = viewed(version, IDS[0], truth=ViewTruth(version, "catalog"))
    assert image.truth.note == "no true box"
