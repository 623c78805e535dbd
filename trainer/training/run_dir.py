"""The files of a run.

RUN/recipe.toml        every setting, resolved
RUN/run.json           the store's version, fingerprints, weights, device, versions of packages
RUN/index.html         a page of the run, once it has ended
RUN/cache/             masks-*.npy, and tokens-*.npy with --cache-tokens; may be deleted after training
RUN/locloc.lock, locloc.lease/  the lock that gives a run one writer at a time (`run_lock.py`)
RUN/STAGE/
  metrics.jsonl        a line a step (loss, lr) and a line an epoch (val_..., images_per_s, waiting)
  events.out.*         the same, for TensorBoard
  best.safetensors     the weights with the best metric on validation images, and a JSON header
  validation.npz       of each validation image, with these weights: its row of the version, and IoU or class
  maps-*.webp, .json   the best and worst of their maps, for the page
  last.safetensors     the weights of the last epoch
  state.pt             the state that `--resume` needs
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import safetensors
import torch
from tensorboardX import SummaryWriter
from torch import nn

from ...pipeline.errors import TrainError
from ...pipeline.io.atomic import replacing, write_atomic
from ..models.checkpoint import save_checkpoint
from ..models.run_tasks import WEIGHTS

SCHEMA = 1
"""Of state.pt."""

VALIDATION = "validation.npz"


class TaskDir:
    """The folder of a task, RUN/STAGE.

    kind      the task's name
    metadata  of the run, for the header of each checkpoint
    writes    False on ranks other than 0, which write nothing
    check     called before each write; raises StoreLockedError if the run has another writer by now
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        metadata: dict[str, Any],
        writes: bool = True,
        check: Callable[[], None] | None = None,
    ):
        self.folder, self.kind, self.metadata, self.writes, self._check = folder, kind, metadata, writes, check
        self._lines: TextIO | None = None
        self._events: SummaryWriter | None = None

    def __enter__(self) -> "TaskDir":
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._lines, self._events):
            if stream is not None:
                stream.close()

    def _may_write(self) -> bool:
        if self.writes and self._check is not None:
            self._check()
        return self.writes

    def log(self, step: int, **facts: float) -> None:
        """Writes a line of metrics.jsonl, and the same for TensorBoard."""
        if not self._may_write():
            return
        if self._lines is None or self._events is None:
            self._lines = (self.folder / "metrics.jsonl").open("a")
            self._events = SummaryWriter(str(self.folder), purge_step=step)
        self._lines.write(json.dumps({"step": step, **facts}) + "\n")
        self._lines.flush()
        for name, value in facts.items():
            self._events.add_scalar(f"{self.kind}/{name}", value, step)

    def forget_after(self, step: int) -> None:
        """Deletes the lines of steps after `step` from metrics.jsonl: a resumed run repeats these steps."""
        file = self.folder / "metrics.jsonl"
        if not self._may_write() or not file.exists():
            return
        lines = []
        for line in file.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    lines.append(line)
            except ValueError:  # an incomplete last line, of a run that was killed
                break
        write_atomic(file, "".join(f"{line}\n" for line in lines))

    def save_weights(self, name: str, model: nn.Module, header: dict[str, Any]) -> None:
        """Writes NAME.safetensors."""
        if self._may_write():
            save_checkpoint(self.folder / f"{name}.safetensors", model, self.kind, self.metadata | header)

    def check_best(self) -> None:
        """Raises TrainError where a state is saved, but not the best weights that go with it."""
        file = self.folder / WEIGHTS
        try:
            with safetensors.safe_open(file, "pt"):
                return
        except FileNotFoundError:
            what = "is missing"
        except (OSError, safetensors.SafetensorError):
            what = "is damaged"
        raise TrainError(f"{file} {what}; delete {self.folder}, and --resume trains the {self.kind} again")

    def save_validation(self, per_image: dict[str, np.ndarray]) -> None:
        """Writes validation.npz."""
        if not self._may_write():
            return
        with replacing(self.folder / VALIDATION) as part, part.open("wb") as stream:
            np.savez_compressed(stream, **per_image)  # type: ignore[arg-type]  # numpy's stubs take one keyword for its own

    def save_state(self, content: dict[str, Any]) -> None:
        if not self._may_write():
            return
        with replacing(self.folder / "state.pt") as part:
            torch.save(content, part)

    def load_state(self) -> dict[str, Any] | None:
        """The saved state on the CPU, or None. Raises TrainError for a damaged state, or one of another schema.

        Models and optimizers move what they load to the device of their weights, but for Adam's counts of steps, which
        belong on the CPU: on a GPU each of them would be read back in every step.
        """
        file = self.folder / "state.pt"
        if not file.exists():
            return None
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise TrainError(f"{file} is damaged; begin anew with another --out") from None
        if content["schema"] != SCHEMA:
            raise TrainError(
                f"{file} has schema {content['schema']}, this release resumes {SCHEMA}; begin anew with another --out"
            )
        return content
