"""Does training by quality help where masks are wrong? A version in which a share of the masks are other rows' masks.

    locloc data synth SCENES --images 1200 --seed 5
    locloc masks build SCENES --catalog synthetic --backbone pocket --store scenes.store
    python scripts/measure_weighting.py scenes.store@v1 wrong.store [--share 0.2] [--seed 0]
    locloc train wrong.store@v1 --stage generator --out plain
    locloc train wrong.store@v1 --stage generator --out weighted --set data.weighting=quality

Of the training images with a mask, `--share` have each other's masks, moved round by one. Their qualities are those of
the wrong masks, computed as a build computes them. Everything else is as in the version given. Printed: the AUROC of
quality for "the mask is another row's", and mean qualities.
"""

import argparse
import pickle
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np

from locloc.pipeline.catalogs.paths import parse_location, resolve
from locloc.pipeline.catalogs.split_words import SPLITS
from locloc.pipeline.geometry.boxes import largest_box, mask_iou
from locloc.pipeline.io.images import decode_reduced, read_image_bytes
from locloc.pipeline.masks.pseudo_mask import make_mask, rate_mask, working_geometry
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import HAS_MASK
from locloc.pipeline.store import Version, open_version
from locloc.pipeline.store.schema import BLOCK_ROWS, content_crc, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter, timestamp

COPIED = ("box", "stats", "quality", "quality_parts", "seen", "status", "size", "orientation", "input_digest")


def chosen_rows(version: Version, share: float, seed: int) -> np.ndarray:
    """`(k,)` rows whose masks are exchanged: training rows with a mask that is not empty."""
    train = version.catalog.table["split"].to_numpy() == SPLITS.index("train")
    masked = np.isin(version.status, list(HAS_MASK)) & (version.read_column("stats")[:, 0] > 0)
    rows = np.flatnonzero(train & masked)
    return np.sort(np.random.default_rng(seed).choice(rows, round(share * len(rows)), replace=False))


def write_wrong(version: Version, store: Path, wrong: dict[int, int]) -> Version:
    """wrong: row > the row whose mask it gets. Publishes the version in a store of its own."""
    recipe = Recipe.model_validate(version.provenance["recipe"])
    root = parse_location(version.provenance["catalog"]["root"])
    kept = ("schema", "counts", "sequence", "published_at", "resumed", "name")
    build = uuid.uuid4().hex
    metadata = {key: value for key, value in version.provenance.items() if key not in kept} | {
        "build_id": build, "fingerprint": build, "parent": None, "created_at": timestamp(),
        "operation": {"kind": "exchange masks", "of": version.name, "rows": len(wrong)},
    }  # fmt: skip
    with StoreWriter(store) as writer:
        writer.begin(metadata, version.catalog, version.attention_shape, version.mask_px)
        for block, start in enumerate(range(0, len(version), BLOCK_ROWS)):
            rows = list(range(start, min(start + BLOCK_ROWS, len(version))))
            columns = {name: version.read_column(name, rows) for name in COPIED}
            masks, attention = version.read_masks(rows), version.read_attention(rows)
            for place, row in enumerate(rows):
                if row not in wrong:
                    continue
                masks[place] = version.read_masks([wrong[row]])[0]
                data = read_image_bytes(resolve(root, version.table["path"][row].as_py()))
                image = decode_reduced(data, recipe.covers_px(), recipe.images.max_pixels)
                geometry = working_geometry(columns["size"][place], recipe, recipe.mask_px)
                rgb = geometry.image(image.rgb, shown=image.window)
                made = make_mask(attention[place], rgb, recipe, version.ids[row])
                iou = mask_iou(masks[place], made.saliency >= recipe.saliency.threshold)
                made = replace(made, mask=masks[place], stats=(float(masks[place].mean()), made.stats[1], iou))
                quality, parts = rate_mask(made, attention[place], rgb, recipe)
                columns["quality"][place], columns["quality_parts"][place] = quality, parts
                columns["stats"][place], columns["box"][place] = (
                    made.stats,
                    geometry.boxes_back(largest_box(made.mask)),
                )
            packed = pack_masks(masks)
            columns["content_crc"] = content_crc(packed, attention)
            fork = pickle.loads(pickle.dumps(writer.fork))
            write_block(fork.store, start, packed, attention)
            writer.merge(fork, block, columns)
        return open_version(f"{store}@{writer.publish()}")


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Of `scores` being higher where `positive`; ties count one half."""
    better = scores[positive][:, None] - scores[~positive][None]
    return float((better > 0).mean() + (better == 0).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", metavar="STORE@V")
    parser.add_argument("out", type=Path, metavar="NEW.store")
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    version = open_version(asked.version)
    rows = chosen_rows(version, asked.share, asked.seed)
    wrong = dict(zip(rows.tolist(), np.roll(rows, 1).tolist(), strict=True))
    made = write_wrong(version, asked.out, wrong)
    train = np.flatnonzero(
        (made.catalog.table["split"].to_numpy() == SPLITS.index("train")) & (made.read_column("quality") > 0)
    )
    quality, is_wrong = made.read_column("quality")[train], np.isin(train, rows)
    print(f"{made.name}: {len(rows)} of {len(train)} training masks are other rows'")
    print(
        f"quality: AUROC {auroc(1 - quality, is_wrong):.3f}; mean {quality[is_wrong].mean():.2f} of those, "
        f"{quality[~is_wrong].mean():.2f} of the others"
    )


if __name__ == "__main__":
    main()
