"""The kinds of faults, how often each comes, and how a coordinator may end by it."""

import signal

from .hook.sitecustomize import HANG, POISON

WORKER, SCHEDULER, COORDINATOR, TERMINATED = (
    "worker killed", "scheduler killed", "coordinator killed", "coordinator terminated"
)  # fmt: skip
FULL, READ_ONLY, POISONED, HANGING = "disk full", "store read-only", "poison image", "hanging image"
INODES, READ_ONLY_LATER = "inodes used up", "store made read-only at work"
WORKER_STOPPED, COORDINATOR_STOPPED, CUT = "worker suspended", "coordinator suspended", "network cut"
CLOCK, TWICE = "clock jump", "two coordinators at once"

IN_IMAGES = {POISONED: POISON, HANGING: HANG}
ON_SMALL_DISK = {FULL, READ_ONLY, INODES, READ_ONLY_LATER}
MAY_BE_LATE = {COORDINATOR, COORDINATOR_STOPPED, TERMINATED, FULL, READ_ONLY_LATER}
WEIGHTS = {
    WORKER: 4, SCHEDULER: 2, COORDINATOR: 4, TERMINATED: 4, FULL: 2, READ_ONLY: 1, POISONED: 1, HANGING: 1, INODES: 2,
    READ_ONLY_LATER: 2, WORKER_STOPPED: 2, COORDINATOR_STOPPED: 2, CUT: 3, CLOCK: 2, TWICE: 2,
}  # fmt: skip

# How a coordinator may end, by fault: exit codes, each with a pattern of its error line. 0: the fault came too late, or
# the build goes on in spite of it.
ENDS = {
    WORKER: {0: "", 1: r"Workers at .* die while they load|was on workers that died again|A worker at .* does not"},
    SCHEDULER: {0: "", 1: r"The scheduler at .* was lost|No connection to the Dask scheduler|has no workers"},
    COORDINATOR: {0: "", -signal.SIGKILL: ""},
    TERMINATED: {0: "", 130: "interrupted; finished blocks are kept", -signal.SIGTERM: ""},
    FULL: {0: "", 1: r"(?i)no space left on device"},
    READ_ONLY: {1: r"(?i)read-only file system"},
    INODES: {0: "", 1: r"(?i)no space left on device"},
    READ_ONLY_LATER: {0: "", 1: r"(?i)read-only file system"},
    TWICE: {0: "", 1: "is being written to by process"},
}
ENDS |= dict.fromkeys((WORKER_STOPPED, COORDINATOR_STOPPED, CUT, CLOCK), ENDS[WORKER])
