"""Files that `locloc masks view` cannot write are told before any work."""

import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.inspect.visualize.output import check_view_file


@pytest.mark.parametrize("name", ["view", "view.gif", "view.", "no/view.png"])
def test_a_file_that_cannot_be_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(StoreError, match=r"the suffix is the format: \.png, \.pdf, \.svg|No folder"):
        check_view_file(tmp_path / name)
