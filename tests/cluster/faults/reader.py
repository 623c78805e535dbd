"""A reader of its own: `reader.py STORE OUT STOP` opens `STORE@latest` over and over until the file STOP is there.

Each thing that it sees for the first time is a line of OUT, JSON: an error as text; for a version its tag, rows that
are pending, blocks that are not done, and rows whose mask and attention are not what their CRC says.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from locloc.pipeline.errors import StoreError
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import content_crc

store, out, stop = sys.argv[1:]
seen, looks = set(), 0
with open(out, "w") as file:
    while not Path(stop).exists():
        start = time.monotonic()
        try:
            version = open_version(f"{store}@latest")
            counts = version.provenance["counts"]
            crc = content_crc(version.read_column("mask"), version.read_attention())
            wrong = int(np.count_nonzero(crc != version.read_column("content_crc")))
            view = [version.tag, counts["pending"] + int((version.status == 0).sum()),
                    counts["blocks"] - counts["blocks_done"], wrong]  # fmt: skip
        except StoreError as error:
            view = str(error)
        looks += 1
        if str(view) not in seen:
            seen.add(str(view))
            print(json.dumps(view), file=file, flush=True)
        time.sleep(0.05 + 4 * (time.monotonic() - start))  # the builders need the processor too
    print(json.dumps({"looks": looks}), file=file)
