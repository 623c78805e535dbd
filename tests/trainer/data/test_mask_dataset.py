"""`MaskDataset`: items and batches of a version for PyTorch, also from several processes."""

import pickle

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from locloc.pipeline.errors import TrainError
from locloc.pipeline.geometry.boxes import largest_box
from locloc.pipeline.status import Status
from locloc.trainer.data.mask_dataset import MaskDataset

from .conftest import MASK_PX, Row, publish_rows


@pytest.fixture
def version(tmp_path):
    rows = [Row("train", n % 3) for n in range(70)] + [Row("val", -1), Row("val", 1, status=Status.MISSING)]
    return publish_rows(tmp_path, rows, classes=("a", "b", "c"))


def test_an_item_is_an_image_with_its_mask_box_label_and_id(version):
    dataset = MaskDataset(version)
    assert (len(dataset), dataset.classes) == (71, ("a", "b", "c"))
    image, target = dataset[5]
    mask = version.read_masks([5])[0]
    assert isinstance(image, tv_tensors.Image) and (image.shape, image.dtype) == ((3, MASK_PX, MASK_PX), torch.uint8)
    assert isinstance(target["mask"], tv_tensors.Mask) and np.array_equal(target["mask"], mask)
    assert target["boxes"].tolist() == [largest_box(mask).tolist()]
    assert (target["label"], target["id"], target["row"]) == (2, "005.png", 5)
    assert MaskDataset(version, split="val")[0][1]["label"] == -1  # the row without a mask is left out
    with pytest.raises(TrainError, match="no masks in its split 'test'"):
        MaskDataset(version, split="test")


def test_a_loader_gives_batches_and_reads_their_masks_together(version, monkeypatch):
    dataset = MaskDataset(version.name, split="train")
    read, asked = dataset.version.read_masks, []
    monkeypatch.setattr(dataset.version, "read_masks", lambda rows: asked.append(len(rows)) or read(rows))
    batches = list(dataset.loader(32))
    assert asked == [32, 32, 6]
    images, targets = batches[1]
    assert (images.shape, images.dtype) == ((32, 3, MASK_PX, MASK_PX), torch.uint8)
    assert np.array_equal(targets["mask"], version.read_masks(slice(32, 64)))
    assert targets["boxes"].shape == (32, 1, 4) and targets["label"].tolist() == [n % 3 for n in range(32, 64)]
    assert targets["id"] == version.ids[32:64] and targets["row"].tolist() == [*range(32, 64)]
    shuffled = [id for _, target in dataset.loader(16, shuffle=True, drop_last=True) for id in target["id"]]
    assert len(set(shuffled)) == 64 and shuffled != version.ids[:64]


def test_a_transform_moves_image_mask_and_box_alike(version):
    dataset = MaskDataset(version, v2.RandomHorizontalFlip(1.0))
    image, target = dataset[5]
    plain, before = MaskDataset(version)[5]
    assert torch.equal(image, plain.flip(2)) and torch.equal(target["mask"], before["mask"].flip(1))
    assert target["boxes"].tolist() == [largest_box(target["mask"].numpy()).tolist()]


def test_it_travels_to_other_processes_by_the_versions_name(version):
    dataset = pickle.loads(pickle.dumps(MaskDataset(version)))
    assert dataset.version.name == version.name and torch.equal(dataset[3][0], MaskDataset(version)[3][0])


@pytest.mark.slow
def test_several_processes_give_the_same_batches(version):
    dataset = MaskDataset(version)
    one, several = (list(dataset.loader(16, workers=workers)) for workers in (0, 2))
    for (images, targets), (same_images, same_targets) in zip(one, several, strict=True):
        assert torch.equal(images, same_images) and targets["id"] == same_targets["id"]
        assert all(torch.equal(targets[name], same_targets[name]) for name in ("mask", "boxes", "label", "row"))
