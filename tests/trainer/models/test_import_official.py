"""Released files become runs with the same outputs."""

import re
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from locloc.pipeline.errors import BackboneError, TrainError
from locloc.trainer.models.checkpoint import load_checkpoint
from locloc.trainer.models.official_weights import import_official, load_official


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def outputs(model: nn.Module, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens)


def statistics(name: str, channels: int) -> dict[str, Tensor]:
    return {
        f"{name}.weight": 1 + 0.2 * torch.randn(channels),
        f"{name}.bias": 0.2 * torch.randn(channels),
        f"{name}.running_mean": 0.2 * torch.randn(channels),
        f"{name}.running_var": 0.5 + torch.rand(channels),
        f"{name}.num_batches_tracked": torch.tensor(940),
    }


def released_geg() -> dict[str, Tensor]:
    state = {}
    steps = {"down_1.1": (24, 4), "down_2.1": (4, 8), "down_3.1": (8, 16)}
    steps |= {"up_1.conv": (24, 8), "up_2.conv": (12, 6), "up_3.conv": (30, 10)}
    for step, (inputs, width) in steps.items():
        name = f"att_layer4.{step}.UConv"
        state |= {
            f"{name}.0.weight": torch.randn(width, inputs, 3, 3),
            f"{name}.3.weight": torch.randn(width, width, 3, 3),
        }
        state |= statistics(f"{name}.1", width) | statistics(f"{name}.4", width)
    for step, inputs in ((1, 10), (2, 6), (3, 6)):
        state |= {f"up{step}.weight": torch.randn(inputs, 6, 4, 4)} | statistics(f"bn{step}", 6)
    return state | {"att_conv2.weight": 0.02 * torch.randn(1, 6, 3, 3)} | statistics("bn_att2", 1)


def released_lfdm(classes: int = 1000) -> dict[str, Tensor]:
    vit = VisionTransformer(img_size=16, embed_dim=64, depth=1, num_heads=1, num_classes=0)
    state = {f"blocks_mini.{name}": tensor for name, tensor in vit.blocks.state_dict().items()}
    state |= {f"norm_mini.{name}": tensor for name, tensor in vit.norm.state_dict().items()}
    state |= {"conv.weight": 0.05 * torch.randn(64, 64, 3, 3), "conv.bias": torch.randn(64)}
    return state | {"classifier.0.weight": 0.05 * torch.randn(classes, 64, 3, 3)} | statistics("classifier.1", classes)


def released_decoder() -> dict[str, Tensor]:
    state = {"conv0.weight": torch.randn(16, 24, 3, 3)} | statistics("bn0", 16)
    for step, inputs in ((1, 16), (2, 8), (3, 8)):
        state |= {f"up{step}.weight": torch.randn(inputs, 8, 4, 4)} | statistics(f"bn{step}", 8)
    return state | {"att_conv.weight": torch.randn(1, 8, 1, 1), "att_conv.bias": torch.randn(1)}


def released_linear(classes: int = 1000) -> dict[str, Tensor]:
    return {"linear.weight": torch.randn(classes, 96), "linear.bias": torch.randn(classes)}


RELEASED = {
    "generator": (released_geg, (2, 24, 6, 6)),
    "classifier": (released_lfdm, (2, 197, 64)),
    "decoder": (released_decoder, (2, 24, 6, 6)),
    "linear": (released_linear, (2, 96)),
}


def released_file(folder: Path, kind: str) -> tuple[Path, Tensor]:
    """A file of the authors' format, and an input of its model."""
    make, size = RELEASED[kind]
    file = folder / f"released_{kind}.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in make().items()}}, file)
    return file, torch.randn(size)


@pytest.mark.parametrize("kind", RELEASED)
def test_a_released_file_becomes_a_run_with_the_same_outputs(kind, tmp_path):
    file, tokens = released_file(tmp_path, kind)
    target = import_official(file, tmp_path / "some" / "run")
    assert target == tmp_path / "some" / "run" / kind / "best.safetensors"
    assert [path.name for path in target.parent.iterdir()] == ["best.safetensors"]
    model, header = load_checkpoint(target)
    wanted = outputs(load_official(file), tokens)
    assert wanted.std() > 0 and torch.equal(outputs(model, tokens), wanted)
    assert (header["kind"], header["released"]) == (kind, f"released_{kind}.pth")
    assert header["backbone"]["name"] == "vit_small_patch16_224.dino"


def test_several_released_files_make_one_run(tmp_path):
    for kind in RELEASED:
        import_official(released_file(tmp_path, kind)[0], tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(RELEASED)


@pytest.mark.parametrize("kind", ["classifier", "linear"])
@pytest.mark.parametrize("classes", [1, 200, 1000])
def test_the_first_classes_of_a_released_file_are_those_of_the_whole(kind, classes, tmp_path):
    file, tokens = released_file(tmp_path, kind)
    model, header = load_checkpoint(import_official(file, tmp_path / "run", classes))
    whole = outputs(load_official(file), tokens)
    found = outputs(model, tokens)
    assert whole.shape == (2, 1000) and found.shape == (2, classes)
    assert whole[:, :classes].std() > 0
    torch.testing.assert_close(found, whole[:, :classes], atol=1e-6, rtol=1e-6)
    assert header["shape"]["classes"] == classes
    rows = {"classifier": ("head.0.weight", "head.1.running_var"), "linear": ("weight", "bias")}[kind]
    assert {len(model.state_dict()[name]) for name in rows} == {classes}


@pytest.mark.parametrize("kind", ["generator", "decoder"])
def test_a_file_that_knows_no_classes_takes_no_number_of_them(kind, tmp_path):
    file, _ = released_file(tmp_path, kind)
    with pytest.raises(TrainError, match=f"is a {kind}, which knows no classes; leave --classes out") as caught:
        import_official(file, tmp_path / "run", 200)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["classifier", "linear"])
def test_more_classes_than_a_file_has_are_refused(kind, tmp_path):
    file, _ = released_file(tmp_path, kind)
    with pytest.raises(TrainError, match="has 1000 classes, --classes asks for 1001"):
        import_official(file, tmp_path / "run", 1001)
    assert not (tmp_path / "run").exists()


def test_what_is_there_already_is_not_written_over(tmp_path):
    file, _ = released_file(tmp_path, "linear")
    target = import_official(file, tmp_path / "run", 5)
    before = target.read_bytes()
    with pytest.raises(TrainError, match=f"{re.escape(str(target))} is there already; name another --out"):
        import_official(file, tmp_path / "run", 7)
    assert target.read_bytes() == before


def test_what_is_no_release_makes_no_run(tmp_path):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(TrainError, match="no released GEG, LFDM or PPD file"):
        import_official(tmp_path / "other.pth", tmp_path / "run")
    with pytest.raises(BackboneError, match="No weights file"):
        import_official(tmp_path / "none.pth", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_out_that_is_no_folder_is_one_clear_line(tmp_path):
    file, _ = released_file(tmp_path, "linear")
    with pytest.raises(TrainError, match=r"^--out .* is a file; name a folder$") as caught:
        import_official(file, file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "size_px"),
    [
        ("generator", 224),
        ("classifier", 224),
        ("decoder", 256),
        ("linear", 224),
    ],
)
def test_a_released_model_keeps_the_size_that_its_authors_show_the_backbone(kind, size_px, tmp_path):
    file, _ = released_file(tmp_path, kind)
    assert load_checkpoint(import_official(file, tmp_path / "run"))[1]["backbone_size_px"] == size_px


def test_nothing_is_written_among_files_that_are_no_run(tmp_path):
    released = tmp_path / "released.pth"
    torch.save(released_geg(), released)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(TrainError, match=r"photos is not empty: it holds a\.jpg; name a new or empty folder"):
        import_official(released, tmp_path / "photos")
    assert [entry.name for entry in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    for run in ("imported", "trained"):
        (tmp_path / run / "linear").mkdir(parents=True)
        (tmp_path / run / "linear" / "best.safetensors").touch()
    (tmp_path / "trained" / "run.json").touch()
    (tmp_path / "trained" / "recipe.toml").touch()
    for run in ("imported", "trained"):
        assert import_official(released, tmp_path / run).is_file()
