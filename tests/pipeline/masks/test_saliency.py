"""Attention > saliency > trimap: every number where it decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from locloc.pipeline.masks.saliency import (
    SaliencySettings,
    border_shares,
    foreground_odds,
    make_trimap,
    pack_map,
    saliency_map,
    unpack_map,
)

unhurried = settings(deadline=None)  # shared machines stall
RAMP = np.arange(16, dtype=np.float32).reshape(4, 4)
# Just below, at, and just above a threshold, in the map's own precision.
AROUND = {at: np.nextafter(np.float32(at), [np.float32(-1), np.float32(at), np.float32(2)]) for at in (0.03, 0.05, 0.1)}


def test_heads_are_those_asked_for():
    """The other heads are as large as may be, and change nothing."""
    rng = np.random.default_rng(0)
    attention = rng.random((6, 14, 14)).astype(np.float32)
    loud = attention.copy()
    loud[3:] *= 1000
    default, mean = SaliencySettings(), SaliencySettings(heads="mean")
    np.testing.assert_array_equal(saliency_map(attention, default, 56), saliency_map(loud, default, 56))
    assert not np.array_equal(saliency_map(attention, mean, 56), saliency_map(loud, mean, 56))
    np.testing.assert_array_equal(
        saliency_map(attention, mean, 56), saliency_map(attention, SaliencySettings(heads=range(6)), 56)
    )


@pytest.mark.parametrize("heads", [(0,), (2,), (1, 2), (2, 0)])
def test_map_is_the_mean_of_its_heads_stretched(heads):
    attention = np.random.default_rng(1).random((3, 5, 5)).astype(np.float32)
    mean = attention[list(heads)].mean(axis=0)
    seen = saliency_map(attention, SaliencySettings(heads=heads), 5)
    assert seen.shape == (5, 5) and seen.dtype == np.float32
    assert seen.min() == 0 and seen.max() == 1
    np.testing.assert_allclose(seen, (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-6)


def test_any_scale_and_offset_give_the_same_map():
    attention = np.random.default_rng(2).random((3, 14, 14))
    expected = saliency_map(attention, SaliencySettings(), 28)
    np.testing.assert_allclose(saliency_map(attention * 1e-4 + 5e-5, SaliencySettings(), 28), expected, atol=1e-4)
    np.testing.assert_allclose(saliency_map(attention.astype(np.float16), SaliencySettings(), 28), expected, atol=1e-2)


@pytest.mark.parametrize("value", [0, 1, 1 / 196, 3.3, -2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_flat_map_is_none(value, dtype):
    assert saliency_map(np.full((6, 14, 14), value, dtype), SaliencySettings(), 224) is None
    assert saliency_map(np.full((6, 1, 1), value, dtype), SaliencySettings(), 224) is None


def test_opposed_heads_are_flat_together():
    assert saliency_map(np.stack([RAMP, 15 - RAMP]), SaliencySettings(heads="mean"), 8) is None
    assert saliency_map(np.stack([RAMP, 15 - RAMP]), SaliencySettings(heads=(0,)), 8) is not None


def test_one_raised_token_is_not_flat():
    attention = np.full((3, 14, 14), 1 / 196, np.float32)
    attention[:, 3, 4] += np.float32(1e-8)
    seen = saliency_map(attention, SaliencySettings(), 14)
    assert seen[3, 4] == 1 and seen.sum() == 1


@pytest.mark.parametrize("size_px", [1, 3, 4, 8, 224])
def test_resized_bilinearly_to_a_square(size_px):
    """Of a linear ramp bilinear interpolation is the ramp itself, clamped at the outer tokens' centres."""
    columns = np.tile(np.arange(4, dtype=np.float32), (1, 6, 1))
    seen = saliency_map(columns, SaliencySettings(heads=(0,)), size_px)
    assert seen.shape == (size_px, size_px)
    places = ((np.arange(size_px) + 0.5) * 4 / size_px - 0.5).clip(0, 3)
    np.testing.assert_allclose(seen, np.broadcast_to(places / 3, seen.shape), atol=1e-6)


@unhurried
@given(
    attention=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32, allow_subnormal=False)),
    size_px=st.integers(1, 40),
)
def test_map_is_in_range_and_its_input_untouched(attention, size_px):
    before = attention.copy()
    seen = saliency_map(attention, SaliencySettings(), size_px)
    np.testing.assert_array_equal(attention, before)
    if seen is not None:
        assert np.isfinite(seen).all() and seen.min() >= 0 and seen.max() <= 1
        if size_px % 20 == 0:  # a whole number of pixels a token, so that pixels reach the tokens' extremes
            assert seen.min() < 0.5 < seen.max()


# --- trimap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unknown_init", "codes"),
    [
        # below, at and above 0.03, then 0.05, then 0.10
        ("background", "022 222 211"),
        ("split", "022 233 311"),
        ("foreground", "033 333 311"),
    ],
)
def test_codes_at_the_thresholds(unknown_init, codes):
    saliency = np.concatenate(list(AROUND.values()))[None]
    trimap = make_trimap(saliency, SaliencySettings(unknown_init=unknown_init))
    assert trimap.dtype == np.uint8 and trimap.tolist() == [[int(code) for code in codes.replace(" ", "")]]


@pytest.mark.parametrize("unknown_init", ["background", "split", "foreground"])
def test_equal_thresholds_leave_nothing_unknown(unknown_init):
    cut = SaliencySettings(foreground_from=0.05, background_below=0.05, threshold=0.05, unknown_init=unknown_init)
    assert make_trimap(AROUND[0.05][None], cut).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("unknown_init", ["background", "split", "foreground"])
def test_codes_at_the_ends(unknown_init):
    saliency = np.array([[0, 0.5, 1]], np.float32)
    widest = SaliencySettings(foreground_from=1, background_below=0, threshold=0.5, unknown_init=unknown_init)
    middle = {"background": [2, 2], "split": [2, 3], "foreground": [3, 3]}[unknown_init]
    assert make_trimap(saliency, widest).tolist() == [[*middle, 1]]
    all_foreground = SaliencySettings(foreground_from=0, background_below=0, threshold=0, unknown_init=unknown_init)
    assert make_trimap(saliency, all_foreground).tolist() == [[1, 1, 1]]


@unhurried
@given(
    saliency=hnp.arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32)),
    cuts=st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted),
)
def test_unknown_init_moves_only_the_unknown(saliency, cuts):
    low, middle, high = cuts
    trimaps = {
        init: make_trimap(
            saliency, SaliencySettings(background_below=low, threshold=middle, foreground_from=high, unknown_init=init)
        )
        for init in ("background", "split", "foreground")
    }
    background, split, foreground = trimaps.values()
    sure = background < 2
    for trimap in (split, foreground):
        np.testing.assert_array_equal(trimap[sure], background[sure])
        assert (trimap[~sure] >= 2).all()
    assert (background[~sure] == 2).all() and (foreground[~sure] == 3).all()
    np.testing.assert_array_equal(split == 3, ~sure & (saliency >= np.float32(middle)))


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cuts",
    [
        {"threshold": 0.02},
        {"threshold": 0.2},
        {"background_below": 0.06},
        {"foreground_from": 0.04},
        {"foreground_from": 0.01, "background_below": 0.3},
    ],
)
def test_thresholds_out_of_order(cuts):
    with pytest.raises(ValidationError, match="background_below <= threshold <= foreground_from must hold"):
        SaliencySettings(**cuts)


@pytest.mark.parametrize("heads", [(), (-1,), (0, 0), (1, 2, 1)])
def test_heads_that_make_no_sense(heads):
    with pytest.raises(
        ValidationError, match="heads must be 'mean', 'off_border' or a list of different head numbers from 0"
    ):
        SaliencySettings(heads=heads)


@pytest.mark.parametrize("name", ["foreground_from", "background_below", "threshold"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf"), "much", None])
def test_thresholds_are_shares(name, value):
    with pytest.raises(ValidationError, match=name):
        SaliencySettings(**{name: value})


def test_settings_are_frozen_and_know_their_names():
    made = SaliencySettings(heads=[2, 1])
    assert made == SaliencySettings(heads=(2, 1)) and hash(made) == hash(SaliencySettings(heads=(2, 1)))
    assert made.heads == (2, 1)
    with pytest.raises(ValidationError, match="frozen"):
        made.threshold = 0.04
    with pytest.raises(ValidationError, match="treshold"):
        SaliencySettings(treshold=0.04)
    with pytest.raises(ValidationError, match="unknown_init"):
        SaliencySettings(unknown_init="both")


# --- relative and contrast -------------------------------------------------------------------------------------------


def spot(side: int, top: int, left: int, size: int, high: float = 1.0, low: float = 0.01) -> np.ndarray:
    """Attention of one head `(side, side)`: high in a square, low elsewhere."""
    head = np.full((side, side), low, np.float32)
    head[top : top + size, left : left + size] = high
    return head


RELATIVE = SaliencySettings(
    strategy="relative", heads="off_border", background_below=0.1, threshold=0.5, foreground_from=4
)
CONTRAST = SaliencySettings(strategy="contrast", background_below=-0.2, threshold=0.0, foreground_from=0.4)


@pytest.mark.parametrize("side", [14, 16, 32])
def test_off_border_takes_the_head_that_looks_least_at_the_border(side):
    central, corner = spot(side, side // 3, side // 3, side // 4), spot(side, 0, 0, side // 4)
    shares = border_shares(np.stack([corner, central, np.zeros_like(corner)]))
    assert shares[1] < shares[0] < shares[2] == 1
    taken = saliency_map(np.stack([corner, central]), RELATIVE, side)
    np.testing.assert_allclose(taken, central / central.mean(), rtol=1e-6)


def test_relative_levels_do_not_depend_on_scale_nor_on_one_bright_token():
    head = spot(16, 5, 5, 5)
    saliency = saliency_map(head[None], RELATIVE, 16)
    np.testing.assert_allclose(saliency_map(head[None] * 1e-3, RELATIVE, 16), saliency, rtol=1e-5)
    bright = head.copy()
    bright[7, 7] = 8
    for levels, survives in (
        (RELATIVE, True),
        (SaliencySettings(heads="mean", threshold=0.2, foreground_from=1), False),
    ):
        thresholded = saliency_map(bright[None], levels, 16) >= levels.threshold
        assert np.array_equal(thresholded, head == 1) == survives


def test_contrast_is_the_last_map_as_it_is():
    maps = np.stack([spot(14, 4, 4, 5), np.linspace(-1, 1, 196, dtype=np.float32).reshape(14, 14)])
    assert np.array_equal(saliency_map(maps, CONTRAST, 14), maps[1])
    assert saliency_map(np.zeros((1, 14, 14)), CONTRAST, 14) is None


def test_odds_of_foreground():
    maps = np.stack([spot(14, 4, 4, 5), np.linspace(-1, 1, 196, dtype=np.float32).reshape(14, 14)])
    np.testing.assert_allclose(foreground_odds(maps, CONTRAST, 14), np.exp(maps[1]), rtol=1e-6)
    relative = maps[0] / maps[0].mean()
    np.testing.assert_allclose(foreground_odds(maps[:1], RELATIVE, 14), relative.clip(*RELATIVE.prior_range), rtol=1e-6)
    absolute = SaliencySettings(heads=(0,))
    np.testing.assert_allclose(foreground_odds(maps[:1], absolute, 14), relative.clip(*absolute.prior_range), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"strategy": "relative", "background_below": -0.1}, "make no sense with strategy = 'relative'"),
        ({"foreground_from": 4.0}, "make no sense with strategy = 'absolute'"),
        ({"prior_range": (0.0, 4.0)}, "prior_range must be"),
        ({"prior_range": (2.0, 4.0)}, "prior_range must be"),
    ],
)
def test_levels_that_make_no_sense(wrong, says):
    with pytest.raises(ValidationError, match=says):
        SaliencySettings(**wrong)


# --- maps of a generator ---------------------------------------------------------------------------------------------

GENERATOR = SaliencySettings(
    strategy="generator", background_below=0.2, threshold=0.5, foreground_from=0.8, prior_range=(0.1, 5.0)
)


def test_a_generator_s_map_is_packed_without_loss():
    drawn = np.random.default_rng(0).random((24, 40)).astype(np.float32)
    packed = pack_map(drawn)
    assert packed.shape == (64, 3, 5) and np.array_equal(unpack_map(packed), drawn)
    assert np.array_equal(packed[:, 0, 0].reshape(8, 8), drawn[:8, :8]), "the points of a token, row by row"
    unshuffled = torch.nn.functional.pixel_unshuffle(torch.from_numpy(drawn)[None, None], 8)[0]
    assert np.array_equal(packed, unshuffled.numpy()), "as a build packs it"


def test_saliency_of_a_generator_is_its_probability_or_the_mean_with_the_contrast():
    drawn, contrast = np.full((16, 16), 0.9, np.float32), np.full((1, 2, 2), -0.3, np.float32)
    drawn[:, 8:] = 0.1
    maps = np.concatenate([contrast, pack_map(drawn)])
    alone = saliency_map(maps, GENERATOR, 16)
    np.testing.assert_allclose(alone, drawn, rtol=1e-6)
    mixed = saliency_map(maps, GENERATOR.model_copy(update={"contrast_share": 0.5}), 16)
    np.testing.assert_allclose(mixed, 0.5 * drawn + 0.5 * 0.2, rtol=1e-6)
    odds = foreground_odds(maps, GENERATOR, 16)
    assert odds[0, 0] == pytest.approx(5.0), "9, clipped to the range"
    assert odds[0, 15] == pytest.approx(1 / 9, rel=1e-5)
    with pytest.raises(ValidationError, match="make no sense"):
        SaliencySettings(strategy="generator", background_below=0.2, threshold=0.5, foreground_from=1.5)
