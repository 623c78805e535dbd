"""What several test files share: small pictures made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)  # as a worker has it; two threads on two busy cores only wait for each other


def picture(seed: int, width: int = 120, height: int = 90) -> np.ndarray:
    """A bright ellipse on a noisy gradient, `(height, width, 3) uint8`: something with an inside and an outside."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.3, 0.7, 2) * (width, height)
    radius = rng.uniform(0.15, 0.3, 2) * (width, height)
    inside = (((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2) < 1
    ground = np.stack([x / width, y / height, (x + y) / (width + height)], -1) * 120
    values = np.where(inside[..., None], rng.uniform(120, 255, 3), ground) + rng.normal(0, 8, (height, width, 3))
    return values.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_folder() -> Callable[[Path, int], Path]:
    """`make_folder(folder, n)` fills two class folders with n JPEG pictures of three sizes."""

    def make(folder: Path, count: int) -> Path:
        for number in range(count):
            file = folder / ("even" if number % 2 == 0 else "odd") / f"{number:04}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            width, height = ((120, 90), (90, 120), (64, 64))[number % 3]
            Image.fromarray(picture(number, width, height)).save(file, quality=92)
        return folder

    return make
