"""A reader of its own: opens `STORE@latest` over and over, and writes down what it saw, until its input closes."""

import json
import select
import sys

from locloc.pipeline.errors import StoreError
from locloc.pipeline.store import open_version

store, out = sys.argv[1:]
with open(out, "w") as file:
    while not select.select([sys.stdin], [], [], 0.15)[0]:
        try:
            version = open_version(f"{store}@latest")
            counts = version.provenance["counts"]
            seen = [version.tag, counts["pending"], counts["blocks_done"], int((version.status == 0).sum())]
        except StoreError as error:
            seen = str(error)
        print(json.dumps(seen), file=file, flush=True)
