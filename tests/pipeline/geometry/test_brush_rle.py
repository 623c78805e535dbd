"""The run lengths of Label Studio's brush."""

import numpy as np
import pytest

from locloc.pipeline.geometry.brush_rle import decode_brush, encode_brush


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 64), (300, 400), (1000, 1000)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_is_encoded_is_decoded(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    if mask.size > 10_000:  # long runs: of more pixels than one count can say
        mask[: shape[0] // 2] = False
        mask[shape[0] // 2 :, ::2] = mask[shape[0] // 2 :, :1]
        mask = np.repeat(mask[:, :1], shape[1], axis=1)
    assert np.array_equal(decode_brush(encode_brush(mask), shape[1], shape[0]), mask)


def test_the_bits_are_those_of_the_format():
    """One pixel, white: 4 values; 8 bits a value; widths 4, 8, 12, 16; one run of width 0, count 4, value 255."""
    bits = f"{4:032b}{7:05b}{3:04b}{7:04b}{11:04b}{15:04b}" + "1" + "00" + f"{3:04b}" + f"{255:08b}"
    data = [int(bits.ljust(-(-len(bits) // 8) * 8, "0")[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert encode_brush(np.ones((1, 1), bool)) == data


def test_literal_values_and_antialiased_edges():
    """What Label Studio writes: values one by one, where they do not repeat; half transparent is background."""
    values = [0, 0, 0, 255, 9, 9, 9, 127]
    bits = f"{8:032b}{7:05b}{3:04b}{7:04b}{11:04b}{15:04b}" + "0" + "00" + f"{7:04b}"
    bits += "".join(f"{value:08b}" for value in values)
    data = [int(bits.ljust(-(-len(bits) // 8) * 8, "0")[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert decode_brush(data, 2, 1).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "ends too early"), ([0, 0, 0, 8, 57, 0], "holds 8 values, and 1 x 1"), ([0, 0, 0, 4], "ends")],
)
def test_broken_data(data, message):
    with pytest.raises(ValueError, match=message):
        decode_brush(data, 1, 1)
