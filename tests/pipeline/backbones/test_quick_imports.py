"""In processes of their own: what is imported once stays imported."""

import subprocess
import sys

import pytest

QUICK = """
import sys
from locloc.pipeline.backbones.quick_imports import import_timm

import_timm()
import torch, torchvision, timm
from locloc.pipeline.backbones import vit
assert "torch._dynamo" not in sys.modules and "torch._dynamo.utils" not in sys.modules
assert torch.compiler.disable.__module__ == "torch.compiler"

from torchvision.ops import roi_align
assert roi_align(torch.ones(1, 1, 4, 4), [torch.tensor([[0.0, 0.0, 2.0, 2.0]])], 2).shape == (1, 1, 2, 2)
quick = sys.modules["torchvision.ops.roi_align"].is_compile_supported
from torch._dynamo.utils import is_compile_supported
assert quick is not is_compile_supported and quick("cpu") == is_compile_supported("cpu")
"""

DECORATED = """
import sys
from locloc.pipeline.backbones.quick_imports import import_timm

import_timm()
import torch
from timm.layers import disable_compiler

@disable_compiler
def double(values):
    "Twice."
    return 2 * values

def triple(values):
    return values + double(values)

def compiled_functions(values):
    torch._dynamo.reset()
    compiled = torch._dynamo.testing.CompileCounter()
    assert torch.compile(triple, backend=compiled)(values).tolist() == [3.0]
    return compiled.op_count

assert double.__doc__ == "Twice." and "torch._dynamo" not in sys.modules
import torch._dynamo.testing
late = compiled_functions(torch.ones(1))
double = torch.compiler.disable(double.__wrapped__)
assert compiled_functions(torch.ones(1)) == late == 1, late
assert "torch._dynamo" in sys.modules
"""

OTHERS = """
import sys
from locloc.pipeline.backbones import quick_imports

stand_in = sys.modules[quick_imports._UTILS] = quick_imports._LateUtils(quick_imports._UTILS)
from torch._dynamo.utils import counters
import torch._dynamo.utils
assert torch._dynamo.utils is not stand_in and torch._dynamo.utils.counters is counters
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [QUICK, DECORATED, OTHERS], ids=["quick", "decorated", "others"])
def test_imports_without_the_compiler(script):
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
