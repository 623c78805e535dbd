"""Isolates a block that has killed its worker: makes it image by image in child processes.

Dask only reports that a worker died with a block on it. Here the worker starts a supervisor process. The supervisor
forks a child, which reports each image's result; the image that the child dies on becomes status 6, and another child
continues behind it. So one poison image costs one fork, not the worker and not its neighbours.
"""

import ctypes
import importlib
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import BuildError
from ..status import Status
from ..store.schema import COLUMNS, content_crc
from .tasks import Block, BlockResult, TaskContext, attend, refine, write

if TYPE_CHECKING:
    from icechunk import ForkSession

_PR_SET_PDEATHSIG = 1


def refine_isolated_and_write(
    block: Block, context: TaskContext, fork: "ForkSession"
) -> tuple["ForkSession", BlockResult]:
    """`attend` and `refine_and_write` in one task, for a block that has killed a worker."""
    packed, attention, result = make_isolated(block, context)
    write(block, context, packed, attention, result, fork)
    return fork, result


def make_isolated(block: Block, context: TaskContext) -> tuple[np.ndarray, np.ndarray, BlockResult]:
    """Packed masks `(n, S, S/8) uint8`, attention `(n, H, h, w) float16` and columns, as `attend` and `refine` do.

    Raises BuildError where a child cannot even start.
    """
    made: dict[int, tuple[np.ndarray, np.ndarray, BlockResult]] = {}
    crashed: dict[int, str] = {}
    for row, answer in _run_supervisor(block, context):
        if isinstance(answer, str):
            crashed[row] = answer
        else:
            made[row] = answer
    return _join_rows(block, context, made, crashed)


def _run_supervisor(block: Block, context: TaskContext) -> Iterator[tuple[int, Any]]:
    """Each row of the block with what came of it: an answer, or as text what its process died of."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as supervisor:
        try:
            with suppress(BrokenPipeError):
                _send(supervisor.stdin, (block, context))
            for row in range(len(block)):
                if (answer := _receive(supervisor.stdout)) is None:
                    raise BuildError(f"A process for one block alone has ended: {_end(supervisor.wait())}")
                if isinstance(answer, BaseException):
                    raise answer
                yield row, answer
        finally:
            supervisor.kill()
            with suppress(BrokenPipeError):  # what one that died at its start has not read
                supervisor.stdin.close()


def _end(code: int, limit_s: float | None = None) -> str:
    if code == -signal.SIGALRM:
        return f"took longer than {limit_s:g} s (--image-limit-s)"
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL; out of memory?)"
    if code >= 0:
        return f"its process ended with {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"it killed its process ({known.get(-code, f'signal {-code}')})"


def _join_rows(block: Block, context: TaskContext, made: dict, crashed: dict[int, str]) -> tuple:
    """Joins rows that were made one by one into one block."""
    if made:
        heads = next(iter(made.values()))[1].shape[1:]
    elif context.parent is not None:
        heads = context.parent.attention_shape
    else:
        from ..backbones.vit import load_backbone  # torch: not above, since schedulers import this module too

        backbone = load_backbone(context.backbone, context.device)
        heads = (backbone.heads, *backbone.grid)
    rows, mask_px = len(block), context.recipe.mask_px
    packed, attention = np.zeros((rows, mask_px, mask_px // 8), np.uint8), np.zeros((rows, *heads), np.float16)
    columns = {name: np.zeros((rows, *tail), dtype) for name, (dtype, tail) in COLUMNS.items()}
    result = BlockResult(block.index, columns, dict(crashed), Counter())
    for row, (mask, maps, part) in made.items():
        packed[row], attention[row] = mask[0], maps[0]
        for name, values in part.columns.items():
            columns[name][row] = values[0]
        if part.errors:
            result.errors[row] = part.errors[0]
        result.seconds.update(part.seconds)
    for row in crashed:
        columns["status"][row] = Status.CRASHED
        if context.reuse == "attention":
            attention[row] = context.parent.read_attention(block.parent_rows[[row]])[0]
        columns["content_crc"][row] = content_crc(packed[[row]], attention[[row]])[0]
    return packed, attention, result


def _main() -> None:
    """The supervisor: imports and model once, then a forked child for the rows until one dies, and the next child.

    On CUDA each child loads the model itself: a device does not outlive a fork.
    """
    from ..backbones.vit import load_backbone
    from ..masks.grabcut import kernels_of
    from .worker_init import prepare_process

    _end_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, it does not print into the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    block, context = _receive(sys.stdin.buffer)
    context = replace(context, decode_threads=1)
    prepare_process()
    for module in kernels_of(context.recipe.refine):  # once, before children with a time limit an image
        importlib.import_module(module)
    if context.backbone is not None and context.device == "cpu":
        load_backbone(context.backbone, context.device)
    row = 0
    while row < len(block):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reading)
            _child(block, context, range(row, len(block)), os.fdopen(writing, "wb"))
        os.close(writing)
        with os.fdopen(reading, "rb") as answers:
            while row < len(block) and (answer := _receive(answers)) is not None:
                _send(out, answer)
                row += 1
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if row < len(block):
            _send(out, _end(code, context.image_limit_s))
            row += 1


def _child(block: Block, context: TaskContext, rows: range, out: BinaryIO) -> None:
    """Sends a result for each row. Never returns, so that it runs none of the supervisor's exit handlers."""
    try:
        _end_with_parent()
        for row in rows:
            try:
                batch = attend(block.row(row), context)
                packed, result = refine(batch, context)
                answer: Any = (packed, batch.attention, result)
            except Exception as error:
                answer = error
            _send(out, answer)
    finally:
        os._exit(0)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _send(pipe: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> Any:
    """The next value, or None where the other side has gone."""
    head = pipe.read(8)
    data = pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
    return pickle.loads(data) if len(head) == 8 and len(data) == int.from_bytes(head, "little") else None


if __name__ == "__main__":
    _main()
