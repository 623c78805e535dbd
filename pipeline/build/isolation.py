"""Isolates a block that has killed its worker: makes it image by image in child processes.

Dask reports only that a worker died with a block on it. Here the worker starts a supervisor process. The supervisor
forks a child, which sends the result of each image. The image that a child dies on becomes status 6, and another child
continues with the next image. So an image that crashes costs one fork, and neither the worker nor other images.
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
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import BuildError
from ..status import Status
from ..store.schema import COLUMNS, content_crc
from .block import Block, BlockResult, TaskContext
from .tasks import attend, refine, write

if TYPE_CHECKING:
    from icechunk import ForkSession

_PR_SET_PDEATHSIG = 1

RowResult = tuple[np.ndarray, np.ndarray, BlockResult]  # packed mask, attention and columns of one row


def refine_isolated_and_write(
    block: Block, context: TaskContext, fork: "ForkSession"
) -> tuple["ForkSession", BlockResult]:
    """`attend` and `refine_and_write` in one task, for a block that has killed a worker."""
    packed, attention, result = make_isolated(block, context)
    write(block, context, packed, attention, result, fork)
    return fork, result


def make_isolated(block: Block, context: TaskContext) -> tuple[np.ndarray, np.ndarray, BlockResult]:
    """Packed masks `(n, S, S/8) uint8`, attention `(n, H, h, w) float16` and columns, as `attend` and `refine` do.

    Raises BuildError where the supervisor cannot start.
    """
    made: dict[int, RowResult] = {}
    crashed: dict[int, str] = {}
    for row, answer in _run_supervisor(block, context):
        if isinstance(answer, str):
            crashed[row] = answer
        else:
            made[row] = answer
    return _join_rows(block, context, made, crashed)


def _run_supervisor(block: Block, context: TaskContext) -> Iterator[tuple[int, Any]]:
    """Yields each row of the block with its RowResult, or with the cause of its child's death as text."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdin is not None and supervisor.stdout is not None
        try:
            with suppress(BrokenPipeError):
                _send(supervisor.stdin, (block, context))
            for row in range(len(block)):
                if (answer := _receive(supervisor.stdout)) is None:
                    raise BuildError(f"The process of an isolated block ended: {_cause_of_death(supervisor.wait())}")
                if isinstance(answer, BaseException):
                    raise answer
                yield row, answer
        finally:
            supervisor.kill()
            with suppress(BrokenPipeError):  # of data that a supervisor that died has not read
                supervisor.stdin.close()


def _cause_of_death(code: int, limit_s: float | None = None) -> str:
    """Why a process ended, from its exit code."""
    if code == -signal.SIGALRM:
        return f"took longer than {limit_s:g} s (--image-limit-s)"
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL; out of memory?)"
    if code >= 0:
        return f"its process ended with {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"it killed its process ({names.get(-code, f'signal {-code}')})"


def _join_rows(
    block: Block, context: TaskContext, made: dict[int, RowResult], crashed: dict[int, str]
) -> tuple[np.ndarray, np.ndarray, BlockResult]:
    """Joins the results of single rows into those of a block."""
    attention_shape: tuple[int, ...]
    if made:
        attention_shape = next(iter(made.values()))[1].shape[1:]
    elif context.parent is not None:
        attention_shape = context.parent.attention_shape
    else:
        from ..backbones.vit import load_backbone  # torch: not above, since schedulers import this module too

        assert context.backbone is not None
        backbone = load_backbone(context.backbone, context.device)
        attention_shape = (context.map_count(backbone.heads), *backbone.grid)
    rows, mask_px = len(block), context.recipe.mask_px
    packed = np.zeros((rows, mask_px, mask_px // 8), np.uint8)
    attention = np.zeros((rows, *attention_shape), np.float16)
    columns = {name: np.zeros((rows, *tail), dtype) for name, (dtype, tail) in COLUMNS.items()}
    result = BlockResult(block.index, columns, dict(crashed), Counter())
    for row, (row_packed, row_attention, row_result) in made.items():
        packed[row], attention[row] = row_packed[0], row_attention[0]
        for name, values in row_result.columns.items():
            columns[name][row] = values[0]
        if row_result.errors:
            result.errors[row] = row_result.errors[0]
        result.seconds.update(row_result.seconds)
    for row in crashed:
        columns["status"][row] = Status.CRASHED
        if context.reuse == "attention":
            assert context.parent is not None and block.parent_rows is not None
            attention[row] = context.parent.read_attention(block.parent_rows[[row]])[0]
        columns["content_crc"][row] = content_crc(packed[[row]], attention[[row]])[0]
    return packed, attention, result


def _main() -> None:
    """The supervisor: imports everything and loads the model once, then forks a child for the rows that are left.

    On CUDA each child loads the model itself, since a CUDA context does not survive a fork.
    """
    from ..backbones.vit import load_backbone
    from .worker_init import prepare_process

    _die_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing is printed between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    block, context = _receive(sys.stdin.buffer)
    context = replace(context, decode_threads=1)
    prepare_process()
    for module in context.kernels:
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
            _send(out, _cause_of_death(code, context.image_limit_s))
            row += 1


def _child(block: Block, context: TaskContext, rows: range, out: IO[bytes]) -> None:
    """Sends a result for each row. Never returns, so that no exit handler of the supervisor runs."""
    try:
        _die_with_parent()
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


def _die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends. Linux alone has that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """The next value, or None where the other process has ended."""
    head = pipe.read(8)
    data = pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
    return pickle.loads(data) if len(head) == 8 and len(data) == int.from_bytes(head, "little") else None


if __name__ == "__main__":
    _main()
