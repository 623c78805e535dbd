"""What `auto` becomes on CPUs and GPUs that are not there."""

import pytest
import torch

from locloc.pipeline.backbones import precision
from locloc.pipeline.backbones.precision import auto_precision


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
