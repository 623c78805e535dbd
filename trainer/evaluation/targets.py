"""What `locloc eval` is asked to evaluate: checked before torch is imported, which takes seconds."""

from pathlib import Path

from ...pipeline.catalogs.registry import CATALOGS
from ...pipeline.errors import TrainError, check_known
from ..models.hub_runs import is_hub_run
from ..models.run_tasks import find_tasks


def split_targets(
    targets: list[str], images: str | None, catalog: str | None, models: str
) -> tuple[list[str], list[str]]:
    """Returns the runs and the STORE@VERSIONs among `targets`; the other arguments are those of `resolve_targets`.

    Raises TrainError where there is no target, where a run holds no weights, or where the arguments exclude each other.
    """
    if not targets:
        raise TrainError("Nothing to evaluate: name runs or STORE@VERSIONs, or --score-maps and --metadata")
    runs = [target for target in targets if is_hub_run(target) or "@" not in Path(target).name]
    versions = [target for target in targets if target not in runs]
    if catalog is not None:
        check_known(TrainError, "--catalog", catalog, CATALOGS)
        if images is None:
            raise TrainError("--catalog needs --images, the images' folder or list")
        if versions:
            raise TrainError(f"{versions[0]} has images of its own; leave --catalog out")
    for run in runs:
        find_tasks(Path(run), models)
    return runs, versions
