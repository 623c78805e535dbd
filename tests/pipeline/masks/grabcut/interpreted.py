"""Runs the fused kernels in Triton's interpreter, beside the plain steps: few or many problems, JSON lines.

    TRITON_INTERPRET=1 python interpreted.py few|many

A process of its own: the variable is read when Triton is imported. The interpreter takes some 20 ms a program,
however large its tile, so that problems are small or laid out side by side in one image, where no edge joins them.
"""

import json
import sys

import torch
from test_torch_cut import grabcut_problem, images
from triton.runtime.interpreter import InterpreterBuilder

from locloc.pipeline.masks.grabcut.torch_fused import Fused, Level
from locloc.pipeline.masks.grabcut.torch_primal_dual import Plain, Problem, _step, min_cut

CPU = torch.device("cpu")


def problems(count, side):
    parts = [grabcut_problem(*pair) for pair in zip(*images(count, side), strict=True)]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def compared(unary, weights, dtype, tile_px, steps=(100, 600), stop_gap=5e-4):
    """The fused cut in a batch with a free slot, and the plain one."""
    fused = min_cut(unary, weights, *steps, stop_gap, dtype, Fused(len(unary) + 1, dtype, CPU, tile_px))
    plain = min_cut(unary, weights, *steps, stop_gap, dtype, Plain(dtype))
    return {
        "masks": len(unary),
        "different_pixels": int((fused.mask != plain.mask).sum()),
        "foreground": float(plain.mask.float().mean()),
        "steps": fused.steps.tolist(),
        "plain_steps": plain.steps.tolist(),
        "gap_off": float((fused.gap - plain.gap).abs().max()),
    }


class Traffic:
    """The distinct addresses that loads and stores touch, in bytes."""

    def __enter__(self):
        self.loaded, self.stored = {}, {}
        self.originals = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
        load, store = self.originals

        def counted_load(builder, ptrs, mask, *rest):
            found = load(builder, ptrs, mask, *rest)
            self.loaded.update(dict.fromkeys(ptrs.data[mask.data].tolist(), found.data.itemsize))
            return found

        def counted_store(builder, ptrs, value, mask, *rest):
            self.stored.update(dict.fromkeys(ptrs.data[mask.data].tolist(), value.data.itemsize))
            return store(builder, ptrs, value, mask, *rest)

        InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = counted_load, counted_store
        return self

    def __exit__(self, *_):
        InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = self.originals

    @property
    def bytes(self):
        return sum(self.loaded.values()) + sum(self.stored.values())


def loaded_level(unary, weights, dtype, tile_px):
    """A level at the start, with its u and q and the constants of a plain step."""
    problem = Problem(unary, weights)
    u, q = problem.start(dtype)
    level = Level(tuple(unary.shape), dtype, CPU, tile_px)
    level.load(u, q, problem, 5e-4)
    return level, u, q, problem.constants(dtype)


def traffic(dtype, tile_px=64):
    """Bytes a pixel and step, of an image without decided tiles."""
    unary, weights = problems(1, tile_px)
    level, *_ = loaded_level(unary.clamp(-9, 9), weights, dtype, tile_px)
    total = 0
    for kernel in (level.primal, level.dual):
        with Traffic() as moved:
            kernel()
        total += moved.bytes
    return {"bytes_pixel_step": total / unary[0].numel()}


def skipped(dtype):
    """Three steps of 16-pixel tiles, most of which are decided, and of the plain form."""
    unary, weights = problems(1, 48)
    unary = unary.clone()
    unary[:, 20:], unary[:, :, 20:] = 450.0, 450.0
    level, u, q, work = loaded_level(unary, weights, dtype, 16)
    for _ in range(3):
        level.step()
        u, q = _step(u, q, *work)
    return {
        "tiles": level.tiles,
        "active": int(level.count),
        "state_off": float(max((level.u - u).abs().max(), (level.q - q).abs().max())),
    }


def mosaics(count=4, across=4, side=32):
    """Batches of `count` images of `across * across` problems each; edges between problems have no weight."""
    unary, weights = problems(count * across**2, side)
    grid = (count, across, across)
    unary = unary.unflatten(0, grid).permute(0, 1, 3, 2, 4).reshape(count, across * side, across * side)
    weights = weights.unflatten(0, grid).permute(0, 3, 1, 4, 2, 5).reshape(count, 4, across * side, across * side)
    return unary, weights


def main(what):
    with torch.inference_mode():
        for name, dtype in (("float32", torch.float32), ("float16", torch.float16)):
            if what == "many":
                results = compared(*mosaics(), dtype, 128)
                results["masks"] *= 16
            else:
                results = traffic(dtype) | skipped(dtype)
                if dtype == torch.float32:
                    results |= compared(*problems(2, 24), dtype, 32, (0, 27), 0.003)
            print(json.dumps({"dtype": name, **results}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
