"""What a second round of masks takes from a run: its generator, and which images that has seen (`--from RUN`).

RUN/seen.npz holds the digests of the files that the run was trained on, and of those that its weights were chosen on.
It is written when a run begins; of a run of an older release the version of its masks is read instead.
"""

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...pipeline.backbones.spec import recorded_weights
from ...pipeline.errors import LocLocError, TrainError, os_error_reason
from ...pipeline.io.atomic import replacing
from ...pipeline.io.local_paths import check_local
from ...pipeline.masks.map_source import SecondRound
from ...pipeline.status import Seen
from ...pipeline.store import Version, open_version
from ..data.splits import TrainingRows, load_training_rows, recorded_filter
from ..models.generator_maps import GeneratorMaps, check_unchanged, file_sha256, weights_file
from .plan import task_rows

SEEN = "seen.npz"


def open_run(run: Path | str, sha256: str | None = None) -> SecondRound:
    """The generator of a RUN of `locloc train`, as the source of a build's maps.

    sha256  digest that its weights must have; None: any

    Raises TrainError for a folder without a trained generator, BuildError for other weights, StoreError where it is not
    known which images the run has seen.
    """
    check_local(run, "RUN", TrainError)
    run = Path(run).absolute()  # workers may have another working directory
    file = weights_file(run)
    if sha256 is not None and not run.exists():
        raise TrainError(f"The run {run} that these masks began with is not there; if it was moved, make a link to it")
    if not file.is_file():
        raise TrainError(
            f"{run} has no trained generator; `locloc train STORE@V --out RUN --stage generator` makes one"
        )
    if sha256 is not None:
        check_unchanged(run, sha256)
    metadata = _metadata(run)
    backbone = metadata["backbone"]
    source = GeneratorMaps(
        str(run), sha256 or file_sha256(file), metadata["fingerprint"], metadata["version"],
        backbone["sha256"], backbone["name"], recorded_weights(backbone),
    )  # fmt: skip
    return SecondRound(source, _read_seen(run, metadata))


def write_seen(out: Path, version: Version, rows: TrainingRows) -> None:
    """Writes RUN/seen.npz, for the rows that masks are learned from."""
    digests, codes = _digests_and_codes(version, rows)
    with replacing(out / SEEN) as part, part.open("wb") as file:
        np.savez(file, digest=digests, seen=codes)


def _digests_and_codes(version: Version, rows: TrainingRows) -> tuple[np.ndarray, np.ndarray]:
    """`(n, 16) uint8` and `(n,) uint8`."""
    train, val = task_rows("generator", rows)
    digests = version.read_column("input_digest")
    codes = np.concatenate([np.full(len(train), Seen.TRAINED_ON), np.full(len(val), Seen.CHOSEN_ON)])
    return digests[np.concatenate([train, val])], codes.astype(np.uint8)


def _metadata(run: Path) -> dict[str, Any]:
    file = run / "run.json"
    try:
        metadata: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        metadata["fingerprint"], metadata["version"], metadata["backbone"]["sha256"], metadata["backbone"]["name"]
    except OSError as error:
        reason = os_error_reason(error)
        raise TrainError(f"{file} cannot be read: {reason}; --from needs the whole folder of a run") from None
    except (ValueError, KeyError, TypeError):
        raise TrainError(f"{file} is damaged, or was not written by `locloc train`; --from needs such a run") from None
    return metadata


def _read_seen(run: Path, metadata: dict[str, Any]) -> dict[bytes, int]:
    file = run / SEEN
    if file.is_file():
        try:
            with np.load(file) as content:
                digests, codes = content["digest"], content["seen"]
        except (OSError, ValueError, KeyError, BadZipFile):
            raise TrainError(f"{file} is damaged: delete it, and it is made again from {metadata['version']}") from None
    else:
        digests, codes = _seen_of_version(run, metadata)
    # Of two files with the same bytes, the one that was trained on counts.
    order = np.argsort(codes, kind="stable")
    seen = zip(digests[order], codes[order].tolist(), strict=True)
    return {digest.tobytes(): code for digest, code in seen if digest.any()}


def _seen_of_version(run: Path, metadata: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """From the masks of a run of an older release."""
    try:
        version = open_version(metadata["version"])
        settings = metadata["recipe"]
        rows = load_training_rows(
            version, None, settings["seed"], settings["val_share"], only=recorded_filter(metadata, run)
        )
    except LocLocError as error:
        raise TrainError(
            f"{run} does not say which images it was trained on, and its masks {metadata['version']} cannot be read: "
            f"{error}"
        ) from None
    return _digests_and_codes(version, rows)
