"""What `auto` becomes on CPUs and GPUs that are not there."""

import pytest
import torch

from locloc.pipeline.backbones import precision
from locloc.pipeline.backbones.precision import auto_precision, why_no_tf32
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.tf32 import float32_products, set_tf32
from locloc.pipeline.backbones.vit import Backbone


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu(amx, expected, monkeypatch):
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    monkeypatch.setattr(precision, "cpu_name", lambda: "Xeon")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for with_gpu in (False, True):
        auto = auto_precision(with_gpu)
        assert auto.precision == expected
        assert auto.why == f"auto: this CPU, Xeon, has {'AMX' if amx else 'no AMX'}"


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu(has_bf16, expected, monkeypatch):
    monkeypatch.setattr(precision, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    auto = auto_precision(with_gpu=True)
    assert auto.precision == expected and auto.why.startswith("auto: A100 has")


@pytest.mark.parametrize(
    ("capability", "why"), [((8, 0), None), ((9, 0), None), ((7, 5), "T4 has none: use fp32 or fp16"), (None, "a CPU")]
)
def test_tf32_is_of_some_gpus(capability, why, monkeypatch):
    monkeypatch.setattr(precision, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    said = why_no_tf32(with_gpu=True)
    assert said is None if why is None else why in said
    assert why_no_tf32(with_gpu=False) == "precision tf32 needs a GPU; on a CPU use fp32 or bf16"


def flags() -> tuple[bool, bool, str]:
    """Of products, of convolutions, and what torch.compile reads."""
    return (
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    )  # fmt: skip


@pytest.fixture
def torch_s_defaults():
    before = flags()[:2]
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
def test_products_and_convolutions_are_both_ieee_s_unless_tf32_is_named(name, monkeypatch, torch_s_defaults):
    backbone, seen = Backbone(BackboneSpec("pocket", precision=name)), []
    embed = type(backbone)._embed
    monkeypatch.setattr(Backbone, "_embed", lambda self, rgb: (seen.append(flags()), embed(self, rgb))[1])
    backbone.cls_attention(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert seen == [(True, True, "high") if name == "tf32" else (False, False, "highest")]
    assert flags() == (False, True, "highest")
    set_tf32(True)
    with pytest.raises(KeyError), float32_products("fp32"):
        assert flags() == (False, False, "highest")
        raise KeyError
    assert flags() == (True, True, "high")


def test_a_caller_may_have_set_torch_s_newer_names(torch_s_defaults):
    backends = torch.backends
    backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision = "tf32", "ieee"
    with float32_products("fp32"):
        assert flags() == (False, False, "highest")
    assert (backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision) == ("tf32", "ieee")
