"""A block that has killed its worker, picture by picture in a process of its own.

Dask can only say that a worker died with a block on it. Here the worker starts a process that forks a child, which
tells after each picture what came of it; the one that it dies on becomes status 6, and another child goes on behind it.
So one poison picture costs one more fork, and neither the worker nor the picture's neighbours.
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
from typing import Any, BinaryIO

import numpy as np

from .tasks import Block, BlockResult, Job, attend, refine, write
from ..errors import BuildError
from ..status import Status
from ..store.schema import COLUMNS, content_crc

_PR_SET_PDEATHSIG = 1


def refine_and_write_carefully(block: Block, job: Job, fork):
    """`attend` and `refine_and_write` in one task, for a block that is suspected."""
    packed, attention, result = make_carefully(block, job)
    write(block, job, packed, attention, result, fork)
    return fork, result


def make_carefully(block: Block, job: Job) -> tuple[np.ndarray, np.ndarray, BlockResult]:
    """Packed masks `(n, S, S/8) uint8`, attention `(n, H, h, w) float16` and columns, as the quick way gives them.

    Raises BuildError where a child cannot even start.
    """
    made: dict[int, tuple[np.ndarray, np.ndarray, BlockResult]] = {}
    crashed: dict[int, str] = {}
    for row, answer in _run_nursery(block, job):
        if isinstance(answer, str):
            crashed[row] = answer
        else:
            made[row] = answer
    return _together(block, job, made, crashed)


def _run_nursery(block: Block, job: Job) -> Iterator[tuple[int, Any]]:
    """Each row of the block with what came of it: an answer, or as text what its process died of."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nursery:
        try:
            with suppress(BrokenPipeError):
                _send(nursery.stdin, (block, job))
            for row in range(len(block)):
                if (answer := _receive(nursery.stdout)) is None:
                    raise BuildError(f"A process for one block alone has ended: {_end(nursery.wait())}")
                if isinstance(answer, BaseException):
                    raise answer
                yield row, answer
        finally:
            nursery.kill()
            with suppress(BrokenPipeError):  # what one that died at its start has not read
                nursery.stdin.close()


def _end(code: int, limit_s: float | None = None) -> str:
    if code == -signal.SIGALRM:
        return f"took longer than {limit_s:g} s (--image-limit-s)"
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL; out of memory?)"
    if code >= 0:
        return f"its process ended with {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"it killed its process ({known.get(-code, f'signal {-code}')})"


def _together(block: Block, job: Job, made: dict, crashed: dict[int, str]) -> tuple:
    """Rows made apart, as one block."""
    if made:
        heads = next(iter(made.values()))[1].shape[1:]
    elif job.parent is not None:
        heads = job.parent.attention_shape
    else:
        from ..backbones.vit import load_backbone  # torch: not above, since schedulers import this module too

        backbone = load_backbone(job.backbone, job.device)
        heads = (backbone.heads, *backbone.grid)
    rows, mask_px = len(block), job.recipe.mask_px
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
        if job.reuse == "attention":
            attention[row] = job.parent.read_attention(block.kept[[row]])[0]
        columns["content_crc"][row] = content_crc(packed[[row]], attention[[row]])[0]
    return packed, attention, result


def _main() -> None:
    """The nursery: imports and model once, then a forked child for the rows until one dies, and the next child.

    On CUDA each child loads the model itself: a device does not outlive a fork.
    """
    from ..backbones.vit import load_backbone
    from .worker_init import prepare_process
    from ..masks.grabcut import kernels_of

    _end_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, it does not print into the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    block, job = _receive(sys.stdin.buffer)
    job = replace(job, decode_threads=1)
    prepare_process()
    for module in kernels_of(job.recipe.refine):  # once, before children with a time limit a picture
        importlib.import_module(module)
    if job.backbone is not None and job.device == "cpu":
        load_backbone(job.backbone, job.device)
    row = 0
    while row < len(block):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reading)
            _child(block, job, range(row, len(block)), os.fdopen(writing, "wb"))
        os.close(writing)
        with os.fdopen(reading, "rb") as answers:
            while row < len(block) and (answer := _receive(answers)) is not None:
                _send(out, answer)
                row += 1
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if row < len(block):
            _send(out, _end(code, job.image_limit_s))
            row += 1


def _child(block: Block, job: Job, rows: range, out: BinaryIO) -> None:
    """Answers for rows, one after the other. Never returns: what the nursery has, it leaves alone."""
    try:
        _end_with_parent()
        for row in rows:
            try:
                attended = attend(block.row(row), job)
                packed, result = refine(attended, job)
                answer: Any = (packed, attended.attention, result)
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
