"""What `auto` stands for on a machine, and whether it has TF32. Imports torch only where GPUs may be used."""

from dataclasses import dataclass

from ..io.machine import cpu_name, has_amx, may_have_gpu


@dataclass(frozen=True)
class AutoPrecision:
    """What `auto` became, and why, in words for provenance and terminal."""

    precision: str  # "fp32", "bf16" or "fp16"
    why: str


def needs_gpu(precision: str) -> str:
    """What is said of fp16 and tf32 where no GPU is."""
    return f"precision {precision} needs a GPU; on a CPU use fp32 or bf16"


def why_no_tf32(with_gpu: bool) -> str | None:
    """Why precision tf32 cannot be had on this machine's first GPU, if `with_gpu`, else on its CPU; None: it can."""
    if with_gpu and may_have_gpu():
        import torch

        if torch.cuda.is_available():
            if torch.cuda.get_device_capability(0) >= (8, 0):
                return None
            return f"precision tf32 needs a GPU with TF32; {torch.cuda.get_device_name(0)} has none: use fp32 or fp16"
    return needs_gpu("tf32")


def why_no_precision(precision: str, with_gpu: bool) -> str | None:
    """Why models cannot run in `precision` on this machine's GPU, if `with_gpu`, else on its CPU; None: they can."""
    if precision == "tf32":
        return why_no_tf32(with_gpu)
    return needs_gpu(precision) if precision == "fp16" and not with_gpu else None


def auto_precision(with_gpu: bool) -> AutoPrecision:
    """bf16 where this machine's CPU has AMX, or with `with_gpu` its GPU has bf16; fp16 on older GPUs; else fp32.

    AVX512-BF16 alone was slower than float32 (docs/performance.md).
    """
    if with_gpu and may_have_gpu():
        import torch

        if torch.cuda.is_available():
            gpu = torch.cuda.get_device_name(0)
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return AutoPrecision("bf16", f"auto: {gpu} has bfloat16")
            return AutoPrecision("fp16", f"auto: {gpu} has float16 and no bfloat16")
    if has_amx():
        return AutoPrecision("bf16", f"auto: this CPU, {cpu_name()}, has AMX")
    return AutoPrecision("fp32", f"auto: this CPU, {cpu_name()}, has no AMX")
