"""What `locloc bench` is asked of systems. Imports no torch, so that a mistake is told at once."""

from dataclasses import dataclass
from pathlib import Path

from ...pipeline.backbones.precision import needs_gpu
from ...pipeline.errors import BenchError, check_known
from . import KEEP_TOKENS, SHARED_BLOCKS


@dataclass(frozen=True)
class BenchRequest:
    """The settings of a benchmark."""

    compare_ppd: bool = False
    device: str = "cpu"
    batch: int = 32
    classes: int = 200
    images: Path | None = None
    precision: str = "fp32"
    threads: int = 0  # of the CPU; 0: torch's default
    keep_tokens: float = KEEP_TOKENS
    shared_blocks: float = SHARED_BLOCKS
    backbone: str = "vit_small_patch16_224"
    rounds: int = 0  # 0: depends on the device
    quick: bool = False  # one round of everything, to test that it runs
    compiles: bool = True  # on a GPU, whether torch.compile is tried

    def check(self) -> None:
        """Raises BenchError for what no machine supports."""
        check_known(BenchError, "--device", self.device, ("cpu", "cuda"))
        check_known(BenchError, "--precision", self.precision, ("fp32", "tf32", "bf16", "fp16"))
        if self.device == "cpu" and self.precision in ("fp16", "tf32"):
            raise BenchError("--" + needs_gpu(self.precision))
        if not 0 <= self.shared_blocks < 1:
            raise BenchError(
                f"--shared-blocks {self.shared_blocks:g} is no share: 0.33 shares a third of the blocks, 0 none"
            )
        if not 0 <= self.keep_tokens <= 1:
            raise BenchError(f"--keep-tokens {self.keep_tokens:g} is no share: 0.5 keeps half of the tokens, 1 all")
