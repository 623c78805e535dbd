"""The tasks of one block, without dask and store: statuses, seeds, and independence of other images."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from locloc.pipeline.backbones import vit as backbone_module
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import load_backbone
from locloc.pipeline.build import decode as decode_module
from locloc.pipeline.build import tasks as block_module
from locloc.pipeline.build.block import AttentionBatch
from locloc.pipeline.build.decode import decode
from locloc.pipeline.build.isolation import refine_isolated_and_write
from locloc.pipeline.build.tasks import Block, TaskContext, attend, attend_decoded, refine, refine_and_write
from locloc.pipeline.io.images import decode_image
from locloc.pipeline.masks.pseudo_mask import image_seed, make_mask, rate_mask, working_geometry
from locloc.pipeline.recipe import REVISIONS, ImageSettings, Recipe, load_recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store.schema import content_crc, unpack_masks

SPEC = BackboneSpec("vit_tiny_patch16_224", weights="random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for number in range(6):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((160, 120), Image.Resampling.BICUBIC).save(root / f"{number}.png")
    (root / "bad.png").write_bytes(b"no image")
    return root


def job(folder: Path, **changes) -> TaskContext:
    return replace(TaskContext(folder, load_recipe(), SPEC), **changes)


def block(*names: str) -> Block:
    return Block(0, 0, list(names), [f"{name}.png" for name in names])


def test_a_mask_does_not_depend_on_its_neighbours(folder):
    """Alone or with others, in any order, among failed images, decoded by one thread or three."""
    whole = attend(block("0", "1", "2", "3", "4", "5"), job(folder))
    mixed = attend(block("5", "bad", "3", "gone", "0"), job(folder, decode_threads=3))
    assert mixed.status.tolist() == [Status.OK, Status.UNDECODABLE, Status.OK, Status.MISSING, Status.OK]
    packed, result = refine(whole, job(folder))
    mixed_packed, mixed_result = refine(mixed, job(folder))
    for mine, other in ((5, 0), (3, 2), (0, 4)):
        assert np.array_equal(packed[mine], mixed_packed[other])
        assert np.array_equal(whole.attention[mine], mixed.attention[other])
        for name, values in result.columns.items():
            assert np.array_equal(values[mine], mixed_result.columns[name][other]), name
    assert not mixed_packed[[1, 3]].any()
    assert mixed_result.errors == {1: "not an image of a known format", 3: "no such file"}


def test_a_gpu_worker_decodes_plain_jpegs(folder, tmp_path, monkeypatch):
    """Its decoder is a fake that refuses the third of them; the masks are those of Pillow's pixels."""
    names, files = ("0.jpg", "1.jpg", "2.jpg", "turned.jpg", "0.png", "bad.png", "gone.jpg"), []
    (tmp_path / "0.png").write_bytes((folder / "0.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no image")
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, name in enumerate(names[:4]):
        options = {"exif": turned.tobytes()} if number == 3 else {}
        Image.open(folder / f"{number}.png").save(tmp_path / name, **options)

    def decode_some(jpegs, device):
        files.extend(jpegs)
        return [None if data == files[2] else decode_image(data) for data in jpegs]

    monkeypatch.setattr(decode_module.nvjpeg, "decode", decode_some)
    images = Block(0, 0, list(names), list(names))
    recipe = load_recipe().model_copy(update={"images": ImageSettings(decoder="nvjpeg")})
    context = job(tmp_path, recipe=recipe, decode_threads=3)
    decoded = decode(images, context)
    assert sorted(decoded.jpegs) == [0, 1, 2] and not decoded.images[:3].any() and decoded.images[3].any()
    before = pickle.dumps(decoded)
    found = AttentionBatch.of(decoded, pickle.loads(pickle.dumps(attend_decoded(decoded, context))))
    assert pickle.dumps(decoded) == before, "Dask may compute with it again"
    assert files == [(tmp_path / name).read_bytes() for name in names[:3]]
    wanted = attend(images, job(tmp_path))
    assert found.errors == wanted.errors and {"decode", "resize", "vit"} <= set(found.seconds)
    for name in ("attention", "images", "size", "orientation", "digest", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    np.testing.assert_array_equal(attend(images, context).images, wanted.images)


def test_columns_describe_the_masks(folder):
    attended = attend(block("0", "1"), job(folder))
    packed, result = refine(attended, job(folder))
    masks = unpack_masks(packed)
    assert np.array_equal(result.columns["content_crc"], content_crc(packed, attended.attention))
    assert np.allclose(result.columns["stats"][:, 0], masks.mean((1, 2)))
    assert result.columns["size"].tolist() == [[160, 120], [160, 120]]
    assert len({digest.tobytes() for digest in result.columns["input_digest"]}) == 2
    assert set(result.seconds) >= {"decode", "resize", "vit", "saliency", "quality"}
    assert result.columns["quality_parts"].any(1).all() and not result.columns["seen"].any()
    for row, score in enumerate(result.columns["quality"]):
        made = make_mask(attended.attention[row], attended.images[row], load_recipe(), str(row))
        expected = rate_mask(made, attended.attention[row], attended.images[row], load_recipe())
        assert score == np.float32(expected[0])
        assert np.array_equal(result.columns["quality_parts"][row], np.float32(expected[1]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_attention_that_is_not_finite_is_a_status(folder, monkeypatch, value):
    backbone = load_backbone(SPEC, "cpu")
    real = backbone.cls_attention

    def broken(rgb):
        attention = real(rgb).clone()
        if np.array_equal(rgb[0], first):
            attention[0, 0, 3, 3] = value
        return attention

    first = working_geometry((160, 120), load_recipe(), 224).image(np.array(Image.open(folder / "1.png")))
    monkeypatch.setattr(backbone, "cls_attention", broken)
    found = attend(block("0", "1", "2"), job(folder))
    assert found.status.tolist() == [Status.OK, Status.NON_FINITE, Status.OK]
    assert not found.attention[1].any()
    packed, result = refine(found, job(folder))
    assert not packed[1].any()
    assert result.errors[1] == "the backbone's attention is not finite"


def test_batches_of_a_gpu_are_filled_and_flushed(folder, monkeypatch):
    """The batching that CUDA uses, on the CPU: every image once, the last batch short, failures left out."""
    sizes, backbone = [], load_backbone(SPEC, "cpu")
    real = backbone.cls_attention

    class Pretend:
        type = "cuda"

    def counted(rgb):
        sizes.append(len(rgb))
        monkeypatch.setattr(backbone, "device", torch.device("cpu"))
        attention = real(rgb).clone()
        monkeypatch.setattr(backbone, "device", Pretend)
        return attention

    alone = attend(block("0", "1", "2", "3", "4"), job(folder))
    monkeypatch.setattr(backbone, "device", Pretend)
    monkeypatch.setattr(backbone, "cls_attention", counted)
    monkeypatch.setattr(block_module, "CUDA_BATCH", 2)
    found = attend(block("0", "1", "bad", "2", "3", "4", "gone"), job(folder, decode_threads=2))
    assert sizes == [2, 2, 1]
    parent_rows = found.attention[[0, 1, 3, 4, 5]]
    assert np.abs(parent_rows.astype(np.float32) - alone.attention.astype(np.float32)).max() < 1e-4
    assert (parent_rows.sum((2, 3)) > 0.5).all()


def attention_of(values: np.ndarray) -> np.ndarray:
    return np.broadcast_to(values.astype(np.float16), (3, *values.shape))


def test_flat_attention_gives_an_empty_mask_and_says_so():
    made = make_mask(attention_of(np.full((14, 14), 0.005)), np.zeros((256, 256, 3), np.uint8), Recipe(), "id")
    assert not made.mask.any()
    assert made.reason == "flat attention: empty mask"


def test_without_background_the_thresholded_map_stands_in():
    """Attention that is high everywhere but in one far corner leaves fewer background pixels than components."""
    values = np.ones((14, 14))
    values[0, 0] = 0
    recipe = Recipe.model_validate(
        {
            "saliency": {"background_below": 0.0, "threshold": 0.0, "foreground_from": 0.0001},
            "refine": {"engine": "opencv"},
        }
    )
    made = make_mask(attention_of(values), np.zeros((256, 256, 3), np.uint8), recipe, "id")
    assert made.reason == "no background: thresholded attention instead"
    assert np.array_equal(made.mask, made.saliency >= 0)


def test_seeds_differ_by_image_and_by_recipe_and_are_always_the_same():
    seeds = {image_seed(f"{number}.jpg", seed) for number in range(500) for seed in (0, 1)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert image_seed("n01440764/x.JPEG", 0) == 1156722512


def test_unpickling_tasks_imports_no_torch(folder):
    """A scheduler unpickles tasks, and does not reply while it imports."""
    task = pickle.dumps((attend, refine_and_write, refine_isolated_and_write, block("0"), job(folder)))
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], input=task, check=False).returncode == 0


def test_a_worker_loads_its_backbone_once(folder):
    """The plugin and the tasks use equal specs, so the cache of `load_backbone` has one entry."""
    assert backbone_module.BackboneSpec is BackboneSpec
    assert load_backbone(SPEC, "cpu") is load_backbone(pickle.loads(pickle.dumps(job(folder))).backbone, "cpu")


def test_cuts_on_a_gpu_are_made_in_batches(folder, monkeypatch):
    """The batching of CUDA, on the CPU: engines without `cut` go one by one, and results are the same."""
    recipe = Recipe.model_validate(load_recipe().model_dump() | {"refine": {"engine": "torch"}})
    names = ("0", "1", "bad", "2", "3", "4")
    alone = job(folder, recipe=recipe)
    decoded = decode(block(*names), alone)
    decoded.attention = attend_decoded(decoded, alone).attention
    decoded.attention[4] = 0.005  # flat: there is nothing to refine
    packed, result = refine(AttentionBatch.of(decoded, attend_decoded(decoded, alone)), alone)
    sizes, real = [], type(recipe.refine).cut

    def counted(self, rgb, trimaps, device, odds=None):
        assert device == "cuda"
        sizes.append(len(rgb))
        return real(self, rgb, trimaps, "cpu", odds)

    monkeypatch.setattr(type(recipe.refine), "cut", counted)
    monkeypatch.setattr(block_module, "CUDA_BATCH", 2)
    together, found = refine(AttentionBatch.of(decoded, attend_decoded(decoded, replace(alone, device="cuda"))), alone)
    assert sizes == [2, 1, 1]
    assert np.array_equal(packed, together) and unpack_masks(packed)[[0, 1, 3]].any((1, 2)).all()
    assert result.errors == found.errors == {2: "not an image of a known format", 4: "flat attention: empty mask"}
    for name, values in result.columns.items():
        assert np.array_equal(values, found.columns[name]), name
    attended = attend_decoded(decoded, replace(alone, recipe=load_recipe(), device="cuda"))
    assert sizes == [2, 1, 1] and not len(attended.cuts) and not attended.is_cut.any()


def test_cuts_that_are_not_certified_are_made_again_where_the_images_are(folder):
    """By the exact engine, as a whole build on a CPU does, and not on the GPU's worker."""
    refine_settings = {"engine": "torch", "coarse_steps": 0, "fine_steps": 1, "stop_gap": 0, "max_gap": 0}
    recipe = Recipe.model_validate(load_recipe().model_dump() | {"refine": refine_settings})
    lazy = job(folder, recipe=recipe)
    attended = attend(block("0", "1"), lazy)
    assert not attended.is_cut.any()
    packed, result = refine(attended, lazy)
    exact = job(folder, recipe=Recipe.model_validate(load_recipe().model_dump() | {"refine": {"engine": "fast"}}))
    assert np.array_equal(packed, refine(attend(block("0", "1"), exact), exact)[0])
    assert result.seconds["refine"] > 0


def test_a_large_jpeg_is_decoded_smaller_where_the_recipe_allows(folder, tmp_path, monkeypatch):
    """Size, digest and box are those of the whole image; the mask is nearly the same."""
    with Image.open(folder / "0.png") as small:
        small.resize((1601, 1203), Image.Resampling.BICUBIC).save(tmp_path / "0.png", "JPEG", quality=92)
    shapes, real = [], decode_module.decode_reduced

    def decode(*arguments):
        shapes.append((found := real(*arguments)).rgb.shape[:2])
        return found

    monkeypatch.setattr(decode_module, "decode_reduced", decode)
    recipe = load_recipe()
    smaller = recipe.model_copy(update={"images": recipe.images.model_copy(update={"reduced_decode": True})})
    older = replace(job(tmp_path, recipe=recipe), revisions=REVISIONS | {"decode": 1})
    entire = attend(block("0"), older)
    whole, reduced = (attend(block("0"), job(tmp_path, recipe=one)) for one in (recipe, smaller))
    assert shapes == [(1203, 1601), (602, 801), (301, 401)], "half of the size covers the square twice"
    assert whole.size.tolist() == reduced.size.tolist() == [[1601, 1203]]
    assert np.array_equal(whole.digest, reduced.digest)
    apart = np.abs(whole.images.astype(int) - reduced.images)
    assert 0 < apart.mean() < 1.5
    assert 0 < np.abs(whole.images.astype(int) - entire.images).mean() < 0.5
    boxes = [refine(found, job(tmp_path, recipe=one))[1].columns["box"] for found, one in
             ((whole, recipe), (reduced, smaller))]  # fmt: skip
    assert (boxes[0][0, 2:] > 256).any() and np.abs(boxes[0] - boxes[1]).max() < 400
