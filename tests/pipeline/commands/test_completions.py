"""Shell completion: the names are those of the registries, and come without importing them."""

import os
import subprocess
import sys

import pytest

from locloc.pipeline.catalogs.registry import CATALOGS
from locloc.pipeline.commands import completions
from locloc.pipeline.export import EXPORTERS
from locloc.pipeline.inspect.ground_truth.masks import FORMATS as MASK_FORMATS
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.status import Status
from locloc.trainer.evaluation.protocols import PROTOCOLS
from locloc.trainer.inference.formats import FORMATS
from locloc.trainer.training.request import TASK_GROUPS
from locloc.trainer.training.run import PRECISIONS

NOT_RETRIED = (Status.PENDING, Status.REJECTED)  # `masks retry --status` has nothing to try again there


def test_names_are_those_of_the_registries():
    assert set(completions.CATALOGS) == set(CATALOGS)
    assert set(completions.EXPORTS) == set(EXPORTERS)
    assert set(completions.MASK_FORMATS) == set(MASK_FORMATS)
    assert set(completions.STATUSES) == {status.label for status in Status if status not in NOT_RETRIED}
    assert set(completions.PROTOCOLS) == {"all", *PROTOCOLS}
    assert set(completions.FORMATS) == set(FORMATS)
    assert set(completions.STAGES) == set(TASK_GROUPS)
    assert set(completions.PRECISIONS) == set(PRECISIONS)
    assert {"locloc", "official", "pocket", "ppd"} <= set(completions.RECIPES)
    assert all(load_recipe(name) for name in completions.RECIPES)
    assert {"locloc", "guided", "official", "ppd"} <= set(completions.TRAIN_RECIPES)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("locloc masks build photos --recipe p", {"pocket", "ppd"}),
        ("locloc eval run --catalog s", {"synthetic"}),
        ("locloc masks re", {"recipe", "refine", "report", "resume", "retry"}),
    ],
)
def test_a_shell_is_answered_without_torch(typed, offered):
    ask = {"_LOCLOC_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    code = (
        "import sys; from locloc.cli import app\n"
        "try: app(prog_name='locloc')\n"
        "finally: assert not {'torch', 'zarr', 'dask', 'pyarrow'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | ask, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == offered
