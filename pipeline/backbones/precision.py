"""Which precision `auto` stands for on a machine. Imports torch only where GPUs may be used."""

from dataclasses import dataclass

from ..io.machine import bf16_unit, cpu_name


@dataclass(frozen=True)
class AutoPrecision:
    """What `auto` became, and why, in words for provenance and terminal."""

    precision: str  # "fp32", "bf16" or "fp16"
    why: str


def auto_precision(with_gpu: bool) -> AutoPrecision:
    """bf16 where this machine's CPU, or with `with_gpu` its GPU, has units for it; fp16 on older GPUs; else fp32."""
    if with_gpu:
        import torch

        if torch.cuda.is_available():
            gpu = torch.cuda.get_device_name(0)
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return AutoPrecision("bf16", f"auto: {gpu} has bfloat16")
            return AutoPrecision("fp16", f"auto: {gpu} has float16 and no bfloat16")
    if (unit := bf16_unit()) is not None:
        return AutoPrecision("bf16", f"auto: this CPU, {cpu_name()}, has {unit}")
    return AutoPrecision("fp32", f"auto: this CPU, {cpu_name()}, has neither AMX nor AVX512-BF16")
