"""The training loop of one task: `fit`.

A run on a CPU that was resumed at any step ends in the same weights, bit for bit: batches depend on seed, epoch and
row, random draws of the model on seed and step, and everything else is in the saved state.

On a GPU the loss of a step is read while the next one runs (step_loss.py): a loss that is not finite is told a step
later, and before anything is saved.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]  # re-exported without __all__
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from ...pipeline.errors import LocLocError
from ...pipeline.io.interrupts import raise_if_interrupted, signals_held_back
from ...pipeline.io.signal_watch import heard_signal
from ..data.batches import Batch, move_batch, split_batch
from ..data.loader import EpochLoader, derive_seed
from ..recipe import FitSettings
from .distributed import RankGone, count_images, raise_on_all_ranks, sync_batch_norms
from .run_dir import SCHEMA, TaskDir
from .step_loss import StepLoss
from .training_tasks import TrainingTask
from .validation_metrics import ClassMetrics, MaskMetrics, sum_over_ranks


@dataclass(frozen=True)
class TrainingProgress:
    """A snapshot of a training run, for callbacks."""

    task: str
    epoch: int  # from 1; 0 while tokens are cached
    epochs: int
    step: int  # of the epoch, from 1; or the image whose tokens are cached
    steps: int
    loss: float  # NaN before the first step
    lr: float
    images_per_s: float
    eta_s: float
    message: str = ""


@dataclass
class State:
    """Counters after a step. A resumed run needs them, the weights and the optimizer's state."""

    epoch: int = 0
    in_epoch: int = 0  # steps done of this epoch
    step: int = 0  # steps done of all epochs
    loss_sum: float = 0.0  # over the images of this epoch
    images: int = 0  # of this epoch
    best: dict[str, Any] = field(default_factory=dict)  # epoch and metrics of the best weights


def fit(
    fabric: Fabric,
    task: TrainingTask,
    seed: int,
    train: EpochLoader,
    val: EpochLoader,
    task_dir: TaskDir,
    checkpoint_s: float,
    on_progress: Callable[[TrainingProgress], None],
) -> dict[str, Any]:
    """Trains to the last epoch; returns the epoch and validation metrics of the best weights.

    Resumes from the state in `task_dir`, if there is one. Raises TrainError for a loss that is not finite.
    """
    settings, steps = task.fit, len(train)
    model = sync_batch_norms(task.model, fabric)
    optimizer = create_optimizer_v2(model, settings.optimizer, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = _schedule(optimizer, settings, steps)
    compiled: Any = torch.compile(model) if settings.compile else model
    net, optimizer = fabric.setup(compiled, optimizer)
    ema = ModelEmaV3(model, settings.ema_decay, use_warmup=True) if settings.ema_decay else None
    state = _load_state(fabric, task_dir, model, ema, optimizer)
    clock = _Clock(settings.epochs * steps - state.step)
    saved_at = time.monotonic()
    launched: deque[_Launched] = deque()  # steps whose loss is not read yet
    late, loss = reads_late(fabric.device), math.nan

    def settle(keep: int = 0) -> None:
        """Reads and logs the losses of all but the last `keep` steps. Raises TrainError for one that is not finite."""
        nonlocal loss
        while len(launched) > keep:
            step = launched.popleft()
            loss = step.read(task)
            state.loss_sum, state.images = state.loss_sum + loss * step.images, state.images + step.images
            task_dir.log(step.number, epoch=state.epoch, loss=loss, lr=step.lr)

    def save() -> None:
        settle()
        task_dir.save_state(_state_content(fabric, state, model, ema, optimizer))

    last = TrainingProgress(task.name, state.epoch, settings.epochs, 0, steps, math.nan, settings.lr, 0.0, 0.0)
    try:
        while state.epoch < settings.epochs:
            net.train()
            for batch in clock.waiting(train.epoch(state.epoch, state.in_epoch)):
                raise_if_interrupted()
                try:
                    images = count_images(fabric, batch)
                except RankGone:  # between steps, so the state is consistent
                    save()
                    raise
                assert not isinstance(batch, LocLocError)  # it was raised
                # Other ranks would wait for one that gives a step up.
                with signals_held_back() if fabric.world_size > 1 else _given_up_if_interrupted(model, state):
                    schedule.step_update(state.step)
                    torch.manual_seed(derive_seed(seed, state.step, fabric.global_rank))  # for dropout and the like
                    step_loss = compute_gradients(fabric, task, net, batch, images)
                    read = None if late else step_loss.start_reading(fabric)
                    if read is not None:
                        read(task)  # raises before the weights change
                    with signals_held_back():
                        norm = update_weights(fabric, task, net, optimizer, check=not late)
                        if ema is not None:
                            ema.update(model, step=state.step)
                        read = read or step_loss.start_reading(fabric, norm)
                        state.step, state.in_epoch = state.step + 1, state.in_epoch + 1
                        lr = optimizer.param_groups[0]["lr"]
                        launched.append(_Launched(state.step, images, lr, read))
                        clock.tick(images)
                        settle(keep=int(late))
                        if time.monotonic() >= saved_at + checkpoint_s:
                            save()
                            saved_at = time.monotonic()
                last = TrainingProgress(
                    task.name, state.epoch + 1, settings.epochs, state.in_epoch, steps, loss, lr,
                    clock.images_per_s, clock.eta_s,
                )  # fmt: skip
                on_progress(last)

            with signals_held_back():
                settle()
            evaluated = ema.module if ema is not None else model
            validated = evaluate(fabric, task, evaluated, val)
            metrics = validated.values()
            with signals_held_back():
                task_dir.log(
                    state.step, epoch=state.epoch, train_loss=state.loss_sum / max(state.images, 1),
                    images_per_s=clock.images_per_s, waiting=clock.waiting_share, seconds=clock.training_s,
                    **{f"val_{name}": value for name, value in metrics.items()},
                )  # fmt: skip
                header = {"epoch": state.epoch + 1, "step": state.step, "figures": metrics, "ema": ema is not None}
                if not state.best or _score(task, metrics) > _score(task, state.best["figures"]):
                    state.best = header
                    task_dir.save_validation(validated.per_image())
                    task_dir.save_weights("best", evaluated, header)
                task_dir.save_weights("last", evaluated, header)
                state.epoch, state.in_epoch, state.loss_sum, state.images = state.epoch + 1, 0, 0.0, 0
                save()
            fabric.barrier()
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float))
            on_progress(replace(last, message=f"{task.name}, epoch {state.epoch}: {shown}"))
    except KeyboardInterrupt:  # it came before or after a step, or the step was given up: the state is consistent
        heard_signal()
        save()
        raise
    return state.best


def _score(task: TrainingTask, metrics: dict[str, float]) -> tuple[float, float]:
    """Higher is better. The lower loss decides between equal metrics, which few validation images often give."""
    return metrics[task.best], -metrics["loss"]


@contextmanager
def _given_up_if_interrupted(model: nn.Module, state: State) -> Iterator[None]:
    """A step of a large batch takes minutes on a CPU: a signal ends it before the weights change, as if not begun."""
    step, before = state.step, [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except KeyboardInterrupt:
        if state.step == step:
            for buffer, value in zip(model.buffers(), before, strict=True):  # statistics of batch norms
                buffer.copy_(value)
        raise


@dataclass(frozen=True)
class _Launched:
    """A step whose loss is not read yet."""

    number: int
    images: int
    lr: float
    read: Callable[[TrainingTask], float]


def reads_late(device: torch.device) -> bool:
    """Whether the loss of a step is read after the next one was launched."""
    return device.type == "cuda"


def compute_gradients(fabric: Fabric, task: TrainingTask, net: Any, batch: Batch, images: int) -> StepLoss:
    """Adds the gradients of a rank's share of a batch. images: of all ranks. Nothing waits for the device."""
    settings = task.fit
    parts = max(1, min(settings.accumulate, images // (2 * fabric.world_size)))  # batch norm needs two images
    weights = None if task.weights is None else task.weights[batch.row].tensor_split(parts)
    total, finite = torch.zeros((), device=fabric.device), []
    for number, part in enumerate(split_batch(move_batch(batch, fabric.device), parts)):
        with fabric.no_backward_sync(net, enabled=number + 1 < parts):
            with fabric.autocast():
                inputs = task.inputs(part)
            losses = task.losses(net(*inputs), part.target)  # (b,)
            finite.append(losses.detach().isfinite())
            if weights is not None:
                losses = losses * weights[number].to(losses.device, non_blocking=True)
            # DDP averages gradients over ranks: these weights make that the mean over images.
            fabric.backward(losses.sum() * (fabric.world_size / images))
        total += losses.detach().sum()
    return StepLoss(total, torch.cat(finite), batch.row, images)


def update_weights(
    fabric: Fabric, task: TrainingTask, net: Any, optimizer: torch.optim.Optimizer, check: bool = True
) -> Tensor | None:
    """Updates the weights by their gradients, and clears these. Returns the gradients' norm where it is limited.

    check  raise RuntimeError for a norm that is not finite, for which the device is waited for
    """
    norm = None
    if task.fit.clip_norm:
        norm = fabric.clip_gradients(net, optimizer, max_norm=task.fit.clip_norm, error_if_nonfinite=check)
    optimizer.step()
    optimizer.zero_grad()
    return norm


@torch.no_grad()
def evaluate(fabric: Fabric, task: TrainingTask, model: nn.Module, images: EpochLoader) -> MaskMetrics | ClassMetrics:
    """The task's metrics over all images of a loader without augmentation."""
    metrics, error = task.metrics(images.rows), None
    training = model.training
    model.eval()
    for batch in images.epoch():
        if isinstance(batch, LocLocError):
            error = batch
            break
        batch = move_batch(batch, fabric.device)
        with fabric.autocast():
            output = model(*task.inputs(batch))
        metrics.add(task.losses(output, batch.target), output, batch.target, batch.row)
    model.train(training)
    raise_on_all_ranks(fabric, error)
    sum_over_ranks(metrics, fabric)
    return metrics


def _schedule(optimizer: torch.optim.Optimizer, settings: FitSettings, steps: int) -> Scheduler:
    """timm's schedule, updated by step. The learning rate depends on the step alone, so it has no state to save."""
    kinds: dict[str, dict[str, Any]] = {
        "constant": {"sched": "multistep", "decay_milestones": [settings.epochs + 1]},
        "cosine": {"sched": "cosine"},
        "multistep": {"sched": "multistep", "decay_milestones": list(settings.milestones), "decay_rate": 0.1},
    }
    schedule, _ = create_scheduler_v2(
        optimizer,
        num_epochs=settings.epochs,
        min_lr=settings.min_lr,
        warmup_epochs=settings.warmup_epochs,  # type: ignore[arg-type]  # timm takes fractions too
        warmup_lr=settings.warmup_lr,
        step_on_epochs=False,
        updates_per_epoch=steps,
        **kinds[settings.schedule],
    )
    return schedule


def _state_content(
    fabric: Fabric, state: State, model: nn.Module, ema: ModelEmaV3 | None, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **asdict(state),
        "model": model.state_dict(),
        "ema": ema.module.state_dict() if ema is not None else None,
        "optimizer": optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),  # the loss scale of float16
    }


def _load_state(
    fabric: Fabric, task_dir: TaskDir, model: nn.Module, ema: ModelEmaV3 | None, optimizer: torch.optim.Optimizer
) -> State:
    content = task_dir.load_state()
    if content is None:
        task_dir.forget_after(0)
        return State()
    model.load_state_dict(content["model"])
    if ema is not None:
        ema.module.load_state_dict(content["ema"])
    optimizer.load_state_dict(content["optimizer"])
    fabric.strategy.precision.load_state_dict(content["precision"])
    state = State(**{name: content[name] for name in State.__dataclass_fields__})
    if state.best:
        task_dir.check_best()
    task_dir.forget_after(state.step)
    return state


class _Clock:
    """Measures images per second, time left, and the time spent waiting for data."""

    def __init__(self, steps_left: int):
        self._left, self._steps, self._images = steps_left, 0, 0
        self._begin = time.perf_counter()
        self._epoch_waited = self.training_s = 0.0

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields the batches, and measures the wait for each."""
        epoch_begin = begin = time.perf_counter()
        self._epoch_waited = 0.0
        while (batch := next(batches, None)) is not None:
            self._epoch_waited += time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()
        self.training_s = time.perf_counter() - epoch_begin

    def tick(self, images: int) -> None:
        self._steps, self._images = self._steps + 1, self._images + images

    @property
    def images_per_s(self) -> float:
        return self._images / max(time.perf_counter() - self._begin, 1e-9)

    @property
    def eta_s(self) -> float:
        return (time.perf_counter() - self._begin) / max(self._steps, 1) * (self._left - self._steps)

    @property
    def waiting_share(self) -> float:
        """The share of the last epoch's training time spent waiting for data."""
        return self._epoch_waited / max(self.training_s, 1e-9)
