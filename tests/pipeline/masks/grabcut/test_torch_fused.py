"""The fused cut: in Triton's interpreter it is the plain one; its launches, traffic and host reads are counted."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from locloc.pipeline.masks.grabcut import torch_cut, torch_primal_dual
from locloc.pipeline.masks.grabcut.torch_cut import TorchGrabCut
from locloc.pipeline.masks.grabcut.torch_primal_dual import CHECK_STEPS

triton = pytest.importorskip("triton")
from locloc.pipeline.masks.grabcut import torch_fused, torch_kernels  # noqa: E402

KERNELS = ("primal", "dual", "check", "decide", "gather")


def interpreted(what):
    script = Path(__file__).with_name("interpreted.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, str(script), what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {line["dtype"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def few():
    return interpreted("few")


def test_interpreted_kernels_are_the_plain_steps(few):
    result = few["float32"]
    assert result["different_pixels"] == 0 and 0.05 < result["foreground"] < 0.95
    assert result["steps"] == result["plain_steps"] == [27, 25]
    assert result["gap_off"] < 1e-12


def test_bytes_a_pixel_and_step(few):
    assert few["float32"]["bytes_pixel_step"] <= 88
    assert few["float16"]["bytes_pixel_step"] <= 44  # asked for: 48


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tiles_of_decided_pixels_are_skipped_and_would_not_have_changed(few, dtype):
    assert few[dtype]["active"] == 4 and few[dtype]["tiles"] == 9
    assert few[dtype]["state_off"] == 0


@pytest.mark.slow
def test_interpreted_and_plain_masks_of_64_problems():
    for result in interpreted("many").values():
        assert result["masks"] == 64 and result["different_pixels"] == 0
        assert result["steps"] == result["plain_steps"] and len(set(result["steps"])) > 1
        assert result["gap_off"] < 1e-12


class Reads(TorchDispatchMode):
    """Copies between devices, filling with a number aside. What needs a value on the host raises in FakeTensorMode."""

    def __init__(self):
        super().__init__()
        self.copies = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)] if func != torch.ops.aten.fill_.Tensor else []
        if isinstance(out, torch.Tensor) and any(tensor.device != out.device for tensor in tensors):
            self.copies.append(f"{func} {args[0].device} > {out.device}")
        return out


@pytest.fixture
def fake_gpu(monkeypatch):
    """A CUDA device of tensors without values; kernels only count their launches."""
    launches = Counter()

    class Counted:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            assert grid[0] > 0
            return lambda *_, **__: launches.update([self.name])

    for name in KERNELS:
        monkeypatch.setattr(torch_kernels, name, Counted(name))
    processors = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: processors)
    graph = SimpleNamespace(replay=lambda: launches.update(["graph"]))
    monkeypatch.setattr(torch_fused.Level, "_captured_round", lambda level: graph)
    torch_fused._buffers.cache_clear()
    with FakeTensorMode():
        yield launches
    torch_fused._buffers.cache_clear()


def test_launches_of_a_graph(fake_gpu):
    level = torch_fused.Level((4, 64, 64), torch.float32, torch.device("cuda"))
    with Reads() as reads:
        level.round()
    assert fake_gpu == {"primal": CHECK_STEPS, "dual": CHECK_STEPS, "check": 1, "decide": 1, "gather": 1}
    assert fake_gpu.total() <= 60 and not reads.copies


def test_host_reads_of_a_batch(fake_gpu, monkeypatch, side=184, iterations=2):
    """Masks and gaps are read back, and nothing else: all other work of a batch is enqueued without a wait."""
    read = []

    def on_device(values, device):
        return torch.empty(values.shape, dtype=torch.from_numpy(values).dtype, device=device)

    def read_back(values):
        read.append(values)
        return np.zeros(values.shape, np.float64 if values.dtype == torch.float64 else bool)

    monkeypatch.setattr(torch_cut, "_triton_works", lambda: True)
    monkeypatch.setattr(torch_cut, "_on_device", on_device)
    monkeypatch.setattr(torch_cut, "read_back", read_back)
    engine = TorchGrabCut(iterations=iterations, prior_weight=0.5)
    trimaps = np.full((37, side, side), 2, np.uint8)
    trimaps[:, side // 3 :] = 3
    rgb, odds = np.zeros((37, side, side, 3), np.uint8), np.ones((37, side, side), np.float32)
    with Reads() as reads:
        masks, gaps = engine.batch(rgb, trimaps, "cuda", odds=odds)
    assert masks.shape == trimaps.shape and gaps.shape == (37,)
    assert len(read) == 2 and not reads.copies
    assert all(values.device.type == "cuda" for values in read)
    assert fake_gpu["graph"] == iterations * (24 + 3 * 4)


def test_plain_steps_where_triton_or_its_compiler_is_missing(fake_gpu, monkeypatch):
    taken = []
    monkeypatch.setattr(torch_primal_dual, "min_cut", lambda unary, *_: taken.append(unary))
    monkeypatch.setattr(torch_cut, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    unary, weights = torch.zeros((1, 9, 9), device="cuda"), torch.zeros((1, 4, 9, 9), device="cuda")
    TorchGrabCut()._min_cut(unary, weights)
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr(torch_cut, "find_spec", lambda name: None)
    TorchGrabCut()._min_cut(unary, weights)
    assert len(taken) == 2 and not fake_gpu


def test_batches_of_odd_sizes_share_buffers(fake_gpu):
    def cut(images):
        unary, weights = torch.zeros((images, 40, 40), device="cuda"), torch.zeros((images, 4, 40, 40), device="cuda")
        return torch_fused.fused_min_cut(unary, weights, 25, 25, 5e-4, torch.float16)

    assert cut(5).mask.shape == (5, 40, 40) and cut(8).steps.shape == (8,) and cut(7).gap.dtype == torch.float64
    assert torch_fused._buffers.cache_info().misses == 1


@pytest.mark.slow
@pytest.mark.parametrize("state", ["fp32", "fp16"])
def test_kernels_compile_for_a_gpu_without_one(state, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ints = dict.fromkeys(("entries_p", "count_p", "done_p", "taken_p", "active_p", "active_count_p"), "*i32")
    doubles = dict.fromkeys(("sums_p", "stop_gap_p"), "*fp64")
    tiles = {"TILES": 196, "ACROSS": 14, "H": 224, "W": 224, "TILE": 16}
    constants = {
        "primal": tiles | {"RHO": 1.8},
        "dual": tiles | {"HALF": 0.15, "RHO": 1.8},
        "check": tiles | {"THRESHOLD": 0.5},
        "decide": {"TILES": 196, "STEPS": 25, "BLOCK": 256},
        "gather": {"BATCH": 256, "TILES": 196, "IMAGES": 256, "BLOCK": 256},
    }
    for name in KERNELS:
        kernel = getattr(torch_kernels, name)
        types = ints | doubles | ({"w_p": "*fp32", "c_p": "*fp32"} if name == "check" else {})
        signature = {
            argument: "constexpr" if argument in constants[name] else types.get(argument, f"*{state}")
            for argument in kernel.arg_names
        }
        source = ASTSource(kernel, signature, constexprs=constants[name])
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
        assert len(compiled.asm["cubin"]) > 1000
