"""Coarse to fine: the problem at half size, and the band along its cut's outline to cut at full size."""

import cv2
import numpy as np


def halve(rgb: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image `(H, W, 3) uint8` and trimap `(H, W) uint8` > both at `(ceil(H / 2), ceil(W / 2))`.

    Each pixel is the mean of four. Its code is theirs if all four are equal; else probable foreground if two or more
    are (sure or probable) foreground, else probable background. The last row and column of an odd size count twice.
    """
    height, width = codes.shape
    if height % 2 or width % 2:
        rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        codes = np.pad(codes, ((0, height % 2), (0, width % 2)), "edge")
    size = (rgb.shape[1] // 2, rgb.shape[0] // 2)
    four = codes[::2, ::2], codes[::2, 1::2], codes[1::2, ::2], codes[1::2, 1::2]
    alike = (four[0] == four[1]) & (four[0] == four[2]) & (four[0] == four[3])
    foreground = sum(code & 1 for code in four)
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.where(alike, four[0], 2 + (foreground >= 2)).astype(
        np.uint8
    )


def band(codes: np.ndarray, coarse: np.ndarray, radius_px: int) -> np.ndarray:
    """Trimap `(H, W) uint8` and a mask of half its size > trimap whose unknown pixels are initialised by the mask.

    A pixel stays unknown if the square of `radius_px` around it holds both sides of the mask; all others become sure.
    """
    height, width = codes.shape
    mask = coarse.astype(np.uint8).repeat(2, 0).repeat(2, 1)[:height, :width]
    mask = np.where(codes >= 2, mask, codes)  # the codes of sure pixels are 0 and 1 too
    square = np.ones((2 * radius_px + 1,) * 2, np.uint8)
    near = cv2.dilate(mask, square) != cv2.erode(mask, square)
    return np.where(near & (codes >= 2), 2 + mask, mask)
