"""What every engine in REFINERS promises, and what GrabCut makes of images with a known object."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut import REFINERS, AnyEngine, Engine, refines_on_gpu
from locloc.pipeline.masks.grabcut.trimap import too_few_pixels, trimap_foreground
from locloc.pipeline.masks.saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, SURE_BACKGROUND, SURE_FOREGROUND

unhurried = settings(deadline=None)  # shared machines stall
engines = pytest.mark.parametrize("engine", [engine() for engine in REFINERS.values()], ids=list(REFINERS))
# `torch` on a CPU takes seconds an image.
engines_torch_slow = pytest.mark.parametrize(
    "engine",
    [pytest.param(kind(), id=name, marks=[pytest.mark.slow] * (name == "torch")) for name, kind in REFINERS.items()],
)
SIDE_PX = 64
OBJECT = np.zeros((SIDE_PX, SIDE_PX), bool)
OBJECT[20:44, 16:50] = True


def two_colours(noise=0, seed=0):
    """An orange object before blue, `(64, 64, 3) uint8`."""
    image = np.where(OBJECT[..., None], (230, 140, 20), (30, 60, 190))
    noise = np.random.default_rng(seed).normal(0, noise, image.shape) if noise else 0
    return (image + noise).clip(0, 255).astype(np.uint8)


def trimap(unknown=PROBABLE_BACKGROUND):
    """Sure of the object's middle and of the image's rim; in between `unknown`."""
    codes = np.full((SIDE_PX, SIDE_PX), unknown, np.uint8)
    codes[26:38, 24:42] = SURE_FOREGROUND
    codes[:8] = codes[-8:] = codes[:, :8] = codes[:, -8:] = SURE_BACKGROUND
    return codes


def patchworks(count):
    """Images of many colours, on which k-means finds other mixtures, and GrabCut another mask, for another seed."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        patches = cv2.resize(rng.integers(0, 180, (6, 6, 3)).astype(np.float32), (128, 128))
        saliency = cv2.GaussianBlur(rng.random((128, 128)), (0, 0), 10)
        cuts = np.quantile(saliency, [0.2, 0.5, 0.8])
        codes = np.array([SURE_BACKGROUND, PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, SURE_FOREGROUND], np.uint8)
        yield (patches + rng.random((128, 128, 3)) * 10).astype(np.uint8), codes[np.digitize(saliency, cuts)]


def degenerate():
    """name > trimap."""
    for code in range(4):
        yield f"all {code}", np.full((9, 7), code, np.uint8)
    for pixels in range(1, 7):
        for code in (SURE_FOREGROUND, PROBABLE_FOREGROUND):
            few = np.zeros((9, 7), np.uint8)
            few.flat[10 : 10 + pixels] = code
            yield f"{pixels} foreground pixels of {code}", few
            yield f"{pixels} background pixels before {code}", np.where(few > 0, code - 1, code).astype(np.uint8)
    for code in range(4):
        yield f"one pixel of {code}", np.full((1, 1), code, np.uint8)
    for shape in ((1, 12), (12, 1)):
        for pair in ((0, 1), (2, 3), (0, 3), (2, 1)):
            yield f"{shape} of {pair}", np.repeat(np.array(pair, np.uint8), 6).reshape(shape)


DEGENERATE = dict(degenerate())


# --- every engine ----------------------------------------------------------------------------------------------------


@engines
@pytest.mark.parametrize("codes", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_trimaps(engine, codes):
    for rgb in (
        np.zeros((*codes.shape, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (*codes.shape, 3), np.uint8),
    ):
        mask = engine(rgb, codes)
        assert mask.shape == codes.shape and mask.dtype == bool
        if engine.unusable(codes):
            np.testing.assert_array_equal(mask, trimap_foreground(codes))


@engines
@unhurried
@given(
    codes=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)),
    seed=st.integers(0, 2**64),
    flat=st.booleans(),
)
def test_any_trimap_and_seed(engine, codes, seed, flat):
    rgb = np.random.default_rng(1).integers(0, 1 if flat else 256, (*codes.shape, 3), np.uint8)
    mask = engine(rgb, codes, seed)
    assert mask.shape == codes.shape and mask.dtype == bool
    np.testing.assert_array_equal(engine(rgb, codes, seed), mask)
    assert mask[codes == SURE_FOREGROUND].all() and not mask[codes == SURE_BACKGROUND].any()


@engines
def test_constant_image(engine):
    """Both mixtures are alike, and the trimap alone decides."""
    mask = engine(np.full((SIDE_PX, SIDE_PX, 3), 7, np.uint8), trimap())
    assert mask[trimap() == SURE_FOREGROUND].all() and not mask[trimap() == SURE_BACKGROUND].any()


@engines
def test_inputs_are_untouched_and_may_be_views(engine):
    rgb, codes = two_colours(noise=20), trimap()
    expected = engine(rgb.copy(), codes.copy())
    rgb.flags.writeable = codes.flags.writeable = False
    before = rgb.tobytes(), codes.tobytes()
    mask = engine(rgb, codes)
    assert mask.flags.writeable
    np.testing.assert_array_equal(mask, expected)
    spread = np.zeros((2 * SIDE_PX, 3 * SIDE_PX, 4), np.uint8)
    spread[::2, ::3, :3], spread[::2, ::3, 3] = rgb, codes
    np.testing.assert_array_equal(engine(spread[::2, ::3, :3], spread[::2, ::3, 3]), expected)
    np.testing.assert_array_equal(
        engine(rgb[::-1, ::-1], codes[::-1, ::-1]), engine(rgb[::-1, ::-1].copy(), codes[::-1, ::-1].copy())
    )
    assert (rgb.tobytes(), codes.tobytes()) == before


@engines
def test_mask_shares_no_memory_with_the_trimap(engine):
    codes = trimap()
    engine(two_colours(), codes)[:] = True
    np.testing.assert_array_equal(codes, trimap())


@engines_torch_slow
def test_same_mask_whatever_ran_before(engine):
    cases = list(patchworks(4))
    serial = [engine(*case) for case in cases]
    for disturb in (
        lambda: cv2.setRNGSeed(12345),
        lambda: cv2.randu(np.zeros((7, 7), np.uint8), 0, 255),
        lambda: cv2.kmeans(
            np.random.default_rng(0).random((50, 3), np.float32), 4, None, (3, 5, 0.1), 2, cv2.KMEANS_RANDOM_CENTERS
        ),
        lambda: engine(*cases[0], seed=99),
        lambda: (random.seed(5), np.random.default_rng().random()),
    ):
        for case, expected in zip(cases, serial, strict=True):
            disturb()
            np.testing.assert_array_equal(engine(*case), expected)


@engines_torch_slow
def test_same_mask_in_every_thread(engine):
    cases = [(*case, seed) for case in patchworks(4) for seed in range(3)]
    serial = [engine(*case) for case in cases]
    shuffled = random.Random(0).sample(range(len(cases)), len(cases)) * 4
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda i: engine(*cases[i]), shuffled))
    for i, mask in zip(shuffled, threaded, strict=True):
        np.testing.assert_array_equal(mask, serial[i])


@engines
def test_other_random_numbers_are_left_alone(engine):
    random.seed(3)
    expected = random.getstate()
    numpy_state = np.random.get_state()[1].tobytes()  # noqa: NPY002
    engine(*next(patchworks(1)), seed=4)
    assert random.getstate() == expected
    assert np.random.get_state()[1].tobytes() == numpy_state  # noqa: NPY002


@engines
def test_settings_are_frozen_hashable_and_pickle(engine):
    twin = pickle.loads(pickle.dumps(engine))
    assert twin == engine and hash(twin) == hash(engine) and type(twin) is type(engine)
    np.testing.assert_array_equal(twin(two_colours(), trimap()), engine(two_colours(), trimap()))
    with pytest.raises(ValidationError, match="frozen"):
        engine.engine = "other"
    with pytest.raises(ValidationError, match="such_setting"):
        type(engine)(such_setting=1)


def test_the_type_of_a_recipe_s_engine_is_the_registry():
    assert get_args(AnyEngine) == tuple(REFINERS.values())
    assert all(isinstance(engine(), Engine) for engine in REFINERS.values())
    assert [name for name, engine in REFINERS.items() if refines_on_gpu(engine())] == ["torch"]


@pytest.mark.parametrize("name", REFINERS)
def test_registry_name_is_the_engine_s_tag(name):
    assert REFINERS[name]().engine == name
    assert REFINERS[name].revision >= 1
    with pytest.raises(ValidationError, match="engine"):
        REFINERS[name](engine="another")


# --- threshold -------------------------------------------------------------------------------------------------------


def test_threshold_is_the_trimap_s_foreground():
    codes = np.array([[0, 1], [2, 3]], np.uint8)
    rgb = np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8)
    assert REFINERS["threshold"]()(rgb, codes, seed=7).tolist() == [[False, True], [False, True]]
    assert all(REFINERS["threshold"]().unusable(codes) is None for codes in DEGENERATE.values())


# --- opencv ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 5, 20])
@pytest.mark.parametrize("unknown", [PROBABLE_BACKGROUND, PROBABLE_FOREGROUND])
@pytest.mark.parametrize("iterations", [1, 3])
def test_grabcut_finds_the_object(iterations, unknown, noise):
    mask = REFINERS["opencv"](iterations=iterations)(two_colours(noise), trimap(unknown))
    assert mask_iou(mask, OBJECT) > 0.95


def test_grabcut_sees_rgb_as_opencv_sees_bgr():
    rgb, codes = next(patchworks(1))
    labels = codes.copy()
    cv2.setRNGSeed(5)
    cv2.grabCut(rgb[..., ::-1].copy(), labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    np.testing.assert_array_equal(REFINERS["opencv"]()(rgb, codes, seed=5), (labels == 1) | (labels == 3))


def test_grabcut_depends_on_its_seed():
    """Or the tests above would show nothing: somewhere another seed gives another mask."""
    engine = REFINERS["opencv"]()
    assert any(len({engine(*case, seed=seed).tobytes() for seed in range(10)}) > 1 for case in patchworks(6))


@pytest.mark.parametrize(
    ("foreground", "reason"),
    [
        (0, "no foreground"),
        (1, "1 foreground pixels for 5 mixture components"),
        (4, "4 foreground pixels for 5 mixture components"),
        (5, None),
        (15, None),
        (16, "4 background pixels for 5 mixture components"),
        (19, "1 background pixels for 5 mixture components"),
        (20, "no background"),
    ],
)
def test_unusable_says_why(foreground, reason):
    for background_code, foreground_code in ((0, 1), (0, 3), (2, 1), (2, 3)):
        codes = np.full((4, 5), background_code, np.uint8)
        codes.flat[:foreground] = foreground_code
        assert REFINERS["opencv"]().unusable(codes) == too_few_pixels(codes, 5) == reason


@pytest.mark.parametrize("iterations", [0, -1, 101, 1.5, "many"])
def test_iterations_are_checked(iterations):
    with pytest.raises(ValidationError, match="iterations"):
        REFINERS["opencv"](iterations=iterations)
