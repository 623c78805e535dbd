"""`masks diff`: versions are joined by id, and every number equals one counted by hand."""

import dataclasses
import json

import numpy as np
import pytest

from locloc.pipeline.commands.rendering.inspection import print_diff
from locloc.pipeline.errors import StoreError
from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.inspect.diff import Changed, Setting, Worst, diff_versions, enlarge, packed_mask_iou
from locloc.pipeline.status import DONE, Status
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import pack_masks, unpack_masks


@pytest.fixture
def store(tmp_path):
    return tmp_path / "masks.store"


def by_hand(made):
    """Four images a version, `b`, `c`, `d` in both, with masks of 8 x 8 pixels."""
    one, other = (made([*ids], mask_px=8, heads=1, grid=(1, 2)) for ids in ("abcd", "bcde"))
    for content in (one, other):
        content.masks[:], content.attention[:], content.status[:] = False, 0.25, Status.OK
        content.labels = [0, 1, 2, 2] if content is one else [1, 2, 0, 0]
    one.masks[1, :4] = True  # b: 32 pixels and 16 of them, IoU 0.5
    other.masks[0, :2] = True
    one.masks[2, :4] = other.masks[1, :4] = True  # c: equal masks
    one.masks[3, 0] = True  # d: 8 pixels and none
    other.status[2], other.files[2] = Status.FALLBACK, b"another image"
    other.attention[1, 0, 0, 1] = 0.5
    one.masks[0], other.masks[3] = True, True  # a and e are in one version only
    return one, other


def test_a_diff_counted_by_hand(store, tmp_path, write, made):
    one, other = by_hand(made)
    one.recipe = {"images": {"fit": "stretch"}, "saliency": {"threshold": 0.3, "heads": "mean"}, "old": 1}
    other.recipe = {"images": {"fit": "stretch"}, "saliency": {"threshold": 0.4, "heads": "mean"}, "refine": {"new": 2}}
    diff = diff_versions(write(store, one, tmp_path / "images"), write(store, other, tmp_path / "images"))
    assert (diff.one, diff.other, diff.common) == (f"{store}@v1", f"{store}@v2", 3)
    assert (diff.only_in_one, diff.only_in_other) == (Changed(1, ["a"]), Changed(1, ["e"]))
    assert diff.changed == {
        "status": Changed(1, ["d"]),
        "file": Changed(1, ["d"]),
        "label": Changed(1, ["d"]),
        "mask": Changed(2, ["b", "d"]),
        "attention": Changed(1, ["c"]),
    }
    assert diff.attention_max_difference == 0.25
    assert diff.statuses == {"ok": {"ok": 2, "fallback": 1}}
    assert diff.iou.rows == 3
    assert diff.iou.mean == pytest.approx(0.5)
    assert diff.iou.quantiles == pytest.approx({"1%": 0.01, "5%": 0.05, "25%": 0.25, "median": 0.5})
    assert diff.iou.equal == pytest.approx(1 / 3)
    assert diff.iou.histogram == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert diff.worst == [Worst("d", 0.0, "ok", "fallback"), Worst("b", 0.5, "ok", "ok")]
    settings = {setting.name: (setting.one, setting.other) for setting in diff.settings}
    assert settings.pop("catalog.sha256")[0] != settings.get("catalog.sha256")
    assert settings == {
        "recipe.saliency.threshold": (0.3, 0.4), "recipe.old": (1, None), "recipe.refine.new": (None, 2),
    }  # fmt: skip
    assert Setting("recipe.saliency.threshold", 0.3, 0.4) in diff.settings
    assert json.loads(json.dumps(dataclasses.asdict(diff)))["iou"]["equal"] == pytest.approx(1 / 3)


def test_a_version_has_no_difference_to_itself(store, tmp_path, write, made, ids):
    version = write(store, made(ids), tmp_path / "images")
    diff = diff_versions(version, open_version(version.name))
    assert diff.common == 150
    assert all(changed == Changed(0, []) for changed in (*diff.changed.values(), diff.only_in_one, diff.only_in_other))
    assert (diff.iou.rows, diff.iou.mean, diff.iou.equal, diff.iou.histogram[-1]) == (146, 1.0, 1.0, 146)
    assert (diff.worst, diff.settings, diff.not_compared, diff.attention_max_difference) == ([], [], {}, 0.0)
    assert diff.statuses == {
        "ok": {"ok": 145}, "fallback": {"fallback": 1}, "undecodable": {"undecodable": 1},
        "non-finite": {"non-finite": 1}, "missing": {"missing": 1}, "crashed": {"crashed": 1},
    }  # fmt: skip


@pytest.mark.parametrize("batch", [1, 7, 64, 1024])
def test_any_mixture_of_rows_agrees_with_a_comparison_row_by_row(store, tmp_path, write, made, monkeypatch, batch):
    """`other` has most ids of `one`, in other rows, and many more."""
    monkeypatch.setattr("locloc.pipeline.inspect.diff.BATCH_ROWS", batch)
    rng = np.random.default_rng(1)
    names = [f"{n:04}" for n in range(400)]
    one, other = (made(sorted(rng.choice(names, n, replace=False).tolist())) for n in (170, 300))
    row_of = {id: row for row, id in enumerate(one.ids)}
    common = [id for id in other.ids if id in row_of]
    for id in common[::3]:
        row, other_row = row_of[id], other.ids.index(id)
        other.masks[other_row], other.attention[other_row] = one.masks[row], one.attention[row]
    diff = diff_versions(write(store, one, tmp_path / "a"), write(store, other, tmp_path / "a"))
    pairs = [(row_of[id], other.ids.index(id)) for id in common]
    differ = [id for id, (a, b) in zip(common, pairs, strict=True) if not np.array_equal(one.masks[a], other.masks[b])]
    attention_differs = [not np.array_equal(one.attention[a], other.attention[b]) for a, b in pairs]
    ious = [
        mask_iou(one.masks[a], other.masks[b])
        for a, b in pairs
        if one.status[a] in DONE and other.status[b] in DONE
    ]  # fmt: skip
    assert diff.common == len(common) > 100
    assert diff.changed["mask"] == Changed(len(differ), differ[:5])
    assert diff.changed["attention"].rows == sum(attention_differs)
    assert diff.iou.rows == len(ious)
    assert diff.iou.mean == pytest.approx(np.mean(ious))
    assert diff.iou.quantiles["5%"] == pytest.approx(np.quantile(ious, 0.05))
    assert diff.worst[0].iou == pytest.approx(min(ious))
    assert len(diff.worst) == 20
    assert [worst.iou for worst in diff.worst] == sorted(worst.iou for worst in diff.worst)


def test_nothing_in_common(store, tmp_path, write, made):
    diff = diff_versions(write(store, made([*"abc"]), tmp_path / "i"), write(store, made([*"xyz"]), tmp_path / "i"))
    assert (diff.common, diff.only_in_one.rows, diff.only_in_other.rows) == (0, 3, 3)
    assert (diff.iou, diff.worst, diff.statuses, diff.changed["mask"].rows) == (None, [], {}, 0)


def test_masks_of_two_sizes_are_compared_at_the_larger_size(store, tmp_path, write, made):
    coarse, fine = made([*"abc"], mask_px=16), made([*"abc"], mask_px=32)
    fine.masks[:] = coarse.masks.repeat(2, 1).repeat(2, 2)
    versions = [write(store, content, tmp_path / "images") for content in (coarse, fine)]
    for one, other in (versions, versions[::-1]):
        diff = diff_versions(one, other)
        assert (diff.changed["mask"].rows, diff.iou.mean, diff.iou.equal) == (0, 1.0, 1.0)
    fine.masks[1, 0, 0] ^= True
    diff = diff_versions(versions[0], write(store, fine, tmp_path / "images"))
    assert diff.changed["mask"] == Changed(1, ["b"])


@pytest.mark.parametrize(("side", "mask_px"), [(8, 16), (8, 24), (16, 24), (24, 64), (16, 16)])
def test_enlarging_takes_the_nearest_pixel(side, mask_px):
    masks = np.random.default_rng(0).random((3, side, side)) < 0.5
    large = unpack_masks(enlarge(pack_masks(masks), mask_px))
    wanted = np.zeros((3, mask_px, mask_px), bool)
    for y in range(mask_px):
        for x in range(mask_px):
            wanted[:, y, x] = masks[:, int((y + 0.5) * side / mask_px), int((x + 0.5) * side / mask_px)]
    assert np.array_equal(large, wanted)


def test_different_croppings_and_grids_are_not_compared(store, tmp_path, write, made):
    one, other = made([*"abc"]), made([*"abc"], grid=(4, 4))
    other.recipe = {"images": {"fit": "centre_crop"}}
    diff = diff_versions(write(store, one, tmp_path / "images"), write(store, other, tmp_path / "images"))
    assert diff.not_compared == {
        "mask": "they show different parts of an image: images.fit is stretch, and centre_crop",
        "attention": "heads and grid differ: 2x3x3, and 2x4x4",
    }
    assert diff.changed.keys() == {"status", "file", "label"}
    assert (diff.iou, diff.worst, diff.attention_max_difference) == (None, [], None)


def test_labels_are_compared_by_the_names_of_their_classes(store, tmp_path, write, made, capsys):
    one, other, moved, bare = (made([*"wxyz"]) for _ in range(4))
    one.classes, one.labels = ("b", "d"), [0, 1, 1, -1]
    other.classes, other.labels = ("a", "b", "d"), [1, 2, 2, -1]  # the same classes, of other numbers
    moved.classes, moved.labels = ("a", "b", "d"), [1, 1, 0, 0]  # b, b, a, a
    bare.classes, bare.labels = (), [0, 1, 2, -1]
    one, other, moved, bare = (write(store, content, tmp_path / "images") for content in (one, other, moved, bare))
    diff = diff_versions(one, other)
    assert (diff.changed["label"], diff.renumbered) == (Changed(0, []), ["b", "d"])
    print_diff(diff)
    assert "numbers of classes changed: b, d; labels are compared by name" in capsys.readouterr().out
    diff = diff_versions(other, moved)
    assert (diff.changed["label"], diff.renumbered) == (Changed(3, ["x", "y", "z"]), [])
    assert diff_versions(one, moved).changed["label"] == Changed(3, ["x", "y", "z"])
    assert diff_versions(one, bare).changed["label"] == Changed(1, ["y"])  # by number


@pytest.mark.parametrize("side", [8, 16, 24, 64])
def test_ious_of_packed_and_unpacked_masks_are_equal(side):
    rng = np.random.default_rng(side)
    a, b = (rng.random((20, side, side)) < 0.3 for _ in range(2))
    a[0] = b[0] = a[1] = False
    b[2] = a[2]
    assert packed_mask_iou(pack_masks(a), pack_masks(b)).tolist() == [
        mask_iou(*pair) for pair in zip(a, b, strict=True)
    ]


def test_a_damaged_version_is_an_error_of_one_line(store, tmp_path, write, made, ids):
    version = write(store, made(ids), tmp_path / "images")
    for file in (store / "chunks").iterdir():
        file.write_bytes(b"no chunk")
    with pytest.raises(
        StoreError, match=r"masks.store@v1 cannot be read .*; `locloc masks verify .*@v1` says"
    ) as caught:
        diff_versions(open_version(version.name), open_version(version.name))
    assert "\n" not in str(caught.value)
