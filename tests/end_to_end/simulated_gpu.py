"""`locloc` with a GPU worker that computes on its CPU: `python simulated_gpu.py masks build ...`.

Tasks go where they would go on a machine with one GPU, and computations are those of a CPU build.
"""

import signal

from locloc.pipeline.build import cluster as cluster_room
from locloc.pipeline.build import needs_gpu
from locloc.pipeline.build.cluster import cluster

REPLACED = (
    (cluster_room, "usable_gpus", lambda wanted: 1),
    (needs_gpu, "may_have_gpu", lambda: True),
    (cluster, "_task_resources", lambda _: ("cpu", "GPU", "CPU")),
)


if __name__ == "__main__":
    from locloc.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for module, name, value in REPLACED:
        setattr(module, name, value)
    main()
