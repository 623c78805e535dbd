"""Train `pocket`, a small ViT whose CLS attention finds the object, on procedural scenes only.

    python scripts/pocket/make_pool.py 1000 0 12 && python scripts/pocket/train.py    # resumes if it was stopped

B batch, N patch tokens (7x7 at 112 px, 10x10 at 160, 14x14 at 224), D width 192, K classes.

What teaches it, per scene (there is no self-supervision in it, the model card says so):
1. class: cross-entropy of a linear head on the CLS token. Alone it is too weak a signal for two CPU cores from scratch.
2. attention: the last block's CLS attention, mean over heads, drawn to the known mask (cross-entropy between
   distributions over patches). Its optimum is uniform over the object, so one low threshold separates it.
3. patches: a linear head tells every patch's class, or background, from the tokens that enter the last block. 196
   answers an image instead of one: it is what makes an hour on a CPU enough. Both heads are thrown away at the end.

Schedule: by steps, never by the clock, so that a stopped process (SIGSTOP) loses nothing. Coarse first: 112 px costs a
quarter of 224. Position embeddings are kept at 14x14 and area-averaged for the coarser grids.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from locloc.pipeline.backbones.pocket import MEAN, STD, create_pocket

HERE = Path("pocket-training")  # below where it is started
CLASSES, DEPTH, HEADS, WIDTH = 84, 6, 3, 192  # the last three are create_pocket's


class Stage(NamedTuple):
    """One resolution of the schedule: warm-up, then a cosine over `horizon` steps, of which `steps` are taken."""

    side: int
    batch: int
    steps: int
    horizon: int
    warm: int
    peak: float

    def rate(self, step: int) -> float:
        """Learning rate of a step of this stage; at the horizon a twentieth of the peak."""
        if step < self.warm:
            return self.peak * (step + 1) / self.warm
        return self.peak * (0.05 + 0.475 * (1 + math.cos(math.pi * (step - self.warm) / (self.horizon - self.warm))))


# coarse to fine; the first stage was cut short of its horizon for want of time (docs/pocket.md)
STAGES = (Stage(112, 64, 2200, 3600, 200, 1e-3), Stage(224, 32, 1400, 1400, 50, 4e-4))
SEED = 1000


def normalise(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 255] to the float32 input of the model."""
    shape = (1, 3, 1, 1)
    return (rgb.float() / 255 - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)


def embed(model: VisionTransformer, image: Tensor) -> Tensor:
    """(B, 3, S, S) to tokens (B, 1 + N, D), positions averaged down to the image's grid."""
    tokens = model.patch_embed.proj(image)
    grid = tokens.shape[-2:]
    position = model.pos_embed[:, 1:].transpose(1, 2).reshape(1, WIDTH, 14, 14)
    tokens = (tokens + F.adaptive_avg_pool2d(position, grid)).flatten(2).transpose(1, 2)
    cls = (model.cls_token + model.pos_embed[:, :1]).expand(len(image), -1, -1)
    return torch.cat([cls, tokens], 1)


def last_block(model: VisionTransformer, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """CLS row of the last block only: its attention over patches (B, heads, N) and the CLS token after it (B, D)."""
    block = model.blocks[-1]
    batch, count, _ = tokens.shape
    qkv = block.attn.qkv(block.norm1(tokens)).reshape(batch, count, 3, HEADS, WIDTH // HEADS)
    q, k, v = qkv[:, :1, 0], qkv[:, :, 1], qkv[:, :, 2]
    weights = torch.einsum("bqhd,bkhd->bhk", q, k).mul((WIDTH // HEADS) ** -0.5).softmax(-1)
    cls = tokens[:, 0] + block.attn.proj(torch.einsum("bhk,bkhd->bhd", weights, v).flatten(1))
    return weights[..., 1:], cls + block.mlp(block.norm2(cls))


def cls_attention(model: VisionTransformer, image: Tensor) -> Tensor:
    """The last block's CLS attention over patches, (B, heads, N), of a normalised image (B, 3, S, S)."""
    tokens = embed(model, image)
    for block in model.blocks[:-1]:
        tokens = block(tokens)
    return last_block(model, tokens)[0]


class Teacher(nn.Module):
    """The ViT and the two heads that teach it."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = create_pocket()
        self.classify = nn.Linear(WIDTH, CLASSES)
        self.describe = nn.Linear(WIDTH, CLASSES + 1)  # the last one is background

    def losses(self, image: Tensor, mask: Tensor, label: Tensor) -> dict[str, Tensor]:
        """The three losses; image (B, 3, S, S) normalised, mask (B, g, g) in [0, 1] on the token grid, label (B,)."""
        tokens = embed(self.vit, image)
        for block in self.vit.blocks[:-1]:
            tokens = block(tokens)
        attention, cls = last_block(self.vit, tokens)
        share = mask.flatten(1)  # (B, N)
        target = share / share.sum(1, keepdim=True)
        drawn = -(target * (attention.mean(1) + 1e-6).log()).sum(1) - torch.special.entr(target).sum(1)
        heads = -(target[:, None] * (attention + 1e-6).log()).sum(2).mean(1) - torch.special.entr(target).sum(1)
        log_patch = self.describe(tokens[:, 1:]).log_softmax(-1)  # (B, N, K + 1)
        mine = log_patch.gather(2, label[:, None, None].expand(-1, share.shape[1], 1))[..., 0]
        patches = -(share * mine + (1 - share) * log_patch[..., -1])
        classes = F.cross_entropy(self.classify(self.vit.norm(cls)), label, label_smoothing=0.05)
        return {
            "class": classes, "attention": drawn.mean() + 0.3 * heads.mean(), "patches": patches.mean(),
        }  # fmt: skip


def jitter(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Colour changes that real photographs differ by: gain, contrast, hue (a turn about grey), grey, blur."""
    image = rgb.astype(np.float32)
    grey = image.mean(2, keepdims=True)
    kind = rng.random()
    if kind < 0.1:
        image = np.repeat(grey, 3, 2)
    elif kind < 0.6:
        # YIQ-like turn of hue and scale of saturation, as one 3x3 matrix
        turn, saturation = rng.normal(0, 0.5), rng.uniform(0.3, 1.4)
        axis = np.full((3, 3), 1 / 3)
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        about_grey = axis + saturation * (math.cos(turn) * (np.eye(3) - axis) + math.sin(turn) * cross)
        image = cv2.transform(image, about_grey.astype(np.float32))
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-25, 25)
    image = (image - 128) * gain + 128 + offset
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2) * len(image) / 112)
    return image.clip(0, 255)


class Pool:
    """The pre-rendered scenes, memory-mapped."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rgb, self.mask, self.label = (
            [np.load(p, mmap_mode="r") for p in sorted(folder.glob(f"{seed}-*-{kind}.npy"))]
            for kind in ("rgb", "mask", "label")
        )
        self.shard = len(self.label[0])
        self.size = self.shard * len(self.label)

    def sample(self, side: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, int]:
        """A random crop, flip and jitter of a random scene: rgb (side, side, 3), mask (side/16, side/16), label."""
        while True:
            shard, i = divmod(int(rng.integers(self.size)), self.shard)
            crop = int(256 * rng.uniform(0.6, 1.0)) // 4 * 4 if rng.random() < 0.7 else 256
            x, y = (int(v) * 4 for v in rng.integers(0, (256 - crop) // 4 + 1, 2))
            patch = self.mask[shard][i, y // 4 : (y + crop) // 4, x // 4 : (x + crop) // 4]
            grid = cv2.resize(patch, (side // 16, side // 16), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            if grid.mean() < 0.03:  # the crop missed the object
                continue
            rgb = cv2.resize(self.rgb[shard][i, y : y + crop, x : x + crop], (side, side), interpolation=cv2.INTER_AREA)
            if rng.random() < 0.5:
                rgb, grid = rgb[:, ::-1], grid[:, ::-1]
            return jitter(np.ascontiguousarray(rgb), rng), grid.copy(), int(self.label[shard][i])

    def batch(self, size: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        rgb, mask, label = zip(*(self.sample(side, rng) for _ in range(size)), strict=True)
        image = normalise(torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2))
        return image, torch.from_numpy(np.stack(mask)), torch.tensor(label)


def export(model: VisionTransformer, path: Path, steps: int) -> None:
    """Write the ViT alone in float16 under timm's names, with where it comes from in the header."""
    header = {
        "name": "pocket",
        "architecture": f"timm VisionTransformer: patch 16, 224 px, width {WIDTH}, depth {DEPTH}, {HEADS} heads",
        "command": "python scripts/pocket/make_pool.py 1000 0 12 && python scripts/pocket/train.py",
        "seeds": f"scenes and training {SEED}",
        "signal": "procedural scenes: class, CLS attention drawn to the known mask, class of each patch",
        "steps": str(steps), "mean": json.dumps(MEAN), "std": json.dumps(STD),
    }  # fmt: skip
    weights = {name: weight.detach().half().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, path.with_suffix(".part"), metadata=header)
    path.with_suffix(".part").rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    cv2.setNumThreads(1)
    torch.manual_seed(SEED)
    teacher, pool, done = Teacher(), Pool(HERE / "pool", SEED), 0
    no_decay = [p for p in teacher.parameters() if p.ndim == 1 or p.shape[0] == 1]
    decay = [p for p in teacher.parameters() if p.ndim > 1 and p.shape[0] != 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    last = HERE / "last.pt"
    if last.exists():
        state = torch.load(last)
        teacher.load_state_dict(state["teacher"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["done"]
    first, begun = done, time.time()
    for number, stage in enumerate(STAGES):
        offset = sum(s.steps for s in STAGES[:number])
        for step in range(max(0, done - offset), stage.steps):
            image, mask, label = pool.batch(stage.batch, stage.side, np.random.default_rng([SEED, done]))
            for group in optimiser.param_groups:
                group["lr"] = stage.rate(step)
            with torch.autocast("cpu", torch.bfloat16):
                losses = teacher.losses(image, mask, label)
            loss = losses["class"] * 0.5 + losses["attention"] + 2 * losses["patches"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
            optimiser.step()
            done += 1
            if done % 25 == 0:
                pace = (time.time() - begun) / (done - first)
                told = " ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                print(f"step {done} side {stage.side} {told} rate {stage.rate(step):.1e} {pace:.3f} s/step", flush=True)
            if done % 50 == 0 or step == stage.steps - 1:
                state = {"teacher": teacher.state_dict(), "optimiser": optimiser.state_dict(), "done": done}
                torch.save(state, last.with_suffix(".part"))
                last.with_suffix(".part").rename(last)
                export(teacher.vit, HERE / "weights.safetensors", done)


if __name__ == "__main__":
    main()
