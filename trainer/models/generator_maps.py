"""A run's generator as the source of a build's maps: implements `MapSource` of pipeline/masks/map_source.py.

Schedulers unpickle it, so torch is imported where the weights are loaded.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...pipeline.errors import BuildError, os_error_reason
from .run_tasks import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

    from ...pipeline.backbones.vit import Backbone

GENERATOR = "generator"


@dataclass(frozen=True)
class GeneratorMaps:
    """The best weights of a RUN's generator.

    run          absolute path of its folder
    sha256       of the weights' file
    fingerprint  of the run, `version` the masks that it learned from
    backbone     digest of the weights of its ViT, which is `backbone_name` with `backbone_weights`
    """

    run: str
    sha256: str
    fingerprint: str
    version: str
    backbone: str
    backbone_name: str
    backbone_weights: str | None

    def provenance(self) -> dict[str, Any]:
        return {"run": self.run, "fingerprint": self.fingerprint, "sha256": self.sha256, "version": self.version}

    def check_fits(self, backbone: "Backbone") -> None:
        if backbone.sha256 != self.backbone:
            raise BuildError(
                f"{self.run} was trained on the tokens of other weights ({self.backbone[:12]}) than those of this "
                f"{backbone.name} ({backbone.sha256[:12]}); give the --backbone and --weights of {self.version}"
            )

    def load(self, device: str) -> "Callable[[Tensor], Tensor]":
        return _load(self, device)


def weights_file(run: Path | str) -> Path:
    return Path(run) / GENERATOR / WEIGHTS


def file_sha256(file: Path) -> str:
    """Raises BuildError for a file that cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise BuildError(f"The generator's weights {file} cannot be read: {os_error_reason(error)}") from None


def check_unchanged(run: Path | str, expected: str) -> None:
    """Raises BuildError where a run's weights are not those of the digest."""
    if file_sha256(weights_file(run)) != expected:
        raise BuildError(
            f"{weights_file(run)} are other weights than those these masks began with ({expected[:12]}): the run was "
            f"trained further or anew; put them back, or make all masks with `locloc masks build --from {run}`"
        )


@functools.lru_cache(maxsize=2)  # two builds may share a worker
def _load(maps: GeneratorMaps, device: str) -> "Callable[[Tensor], Tensor]":
    import torch

    from .checkpoint import load_checkpoint

    check_unchanged(maps.run, maps.sha256)
    model, _ = load_checkpoint(weights_file(maps.run))
    model = model.requires_grad_(False).to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def draw(features: "Tensor") -> "Tensor":
        drawn: Tensor = model(features.float().contiguous(memory_format=torch.channels_last))
        return drawn[:, 0].float()

    return draw
