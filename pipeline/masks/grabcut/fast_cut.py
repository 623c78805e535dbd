"""An exact minimum cut on a pixel grid, by the algorithm of Boykov and Kolmogorov (PAMI 2004).

Only free pixels are nodes. A node is a record of 16 int32, one cache line: 8 residual capacities to its neighbours,
its excess (the residual capacity of its terminal arc: > 0 from the source, < 0 to the sink), and its place in a search
tree. Records lie in raster order with a rim of one pixel, so that a neighbour's record is at a fixed offset; the record
of a pixel that is not a node is zero, and no search enters it. A node is denoted by the index of its record's start.

Directions come in pairs, d and d ^ 1, the four straight ones first: 4 neighbours are the first half of 8.
"""

import numpy as np

from ..numba_kernels import kernel

RECORD = 16
EXCESS, TREE, PARENT, STAMP, DISTANCE, QUEUED, UP = 8, 9, 10, 11, 12, 13, 14

FREE, SOURCE, SINK = 0, 1, 2  # TREE
TERMINAL, ORPHAN = 8, 9  # values of PARENT besides the directions; UP is the parent's index, and 0 below a terminal

BLOCK = 15  # side of a block in nodes, minus 1: a bit mask
FAR = 1 << 30
HEAD, TAIL, TIME = 0, 1, 2  # indices into the search's state
# A mask that shows Numba that an index is not negative. Without it Numba tests every index: a third of the time.
INDEX = 0x7FFFFFFF


@kernel()
def _offsets(stride):
    """Offset from a node to its neighbour, by direction; `stride` records a row."""
    offset = np.empty(8, np.int64)
    offset[0], offset[1] = RECORD, -RECORD
    offset[2], offset[3] = RECORD * stride, -RECORD * stride
    offset[4], offset[5] = RECORD * (stride + 1), -RECORD * (stride + 1)
    offset[6], offset[7] = RECORD * (stride - 1), -RECORD * (stride - 1)
    return offset


@kernel()
def _activate(record, node, active, state):
    """Appends a node to the ring buffer of active nodes, whose neighbours are still to be examined."""
    if record[node + QUEUED] == 0:
        record[node + QUEUED] = 1
        tail = state[TAIL] & INDEX
        active[tail] = node
        state[TAIL] = tail + 1 if tail + 1 < active.size else 0


@kernel()
def _gather(record, nodes, offset, stride):
    """Pushes excess inside blocks of 16 x 16 to their last column, then down it, as far as capacities allow.

    A push along arcs does not change the minimum cut. It leaves fewer roots, and each augmenting path carries more.
    """
    for d in (0, 2):
        for i in range(nodes.size):
            node = nodes[i] & INDEX
            excess, place = record[node + EXCESS], node // RECORD
            if excess == 0 or (place % stride if d == 0 else place // stride) & BLOCK == BLOCK:
                continue
            other = (node + offset[d]) & INDEX
            flow = min(excess, record[node + d]) if excess > 0 else -min(-excess, record[other + (d ^ 1)])
            record[node + d] -= flow
            record[other + (d ^ 1)] += flow
            record[node + EXCESS] -= flow
            record[other + EXCESS] += flow


@kernel()
def _plant(record, nodes, active, state):
    """Starts both trees: every node with excess is an active root."""
    for i in range(nodes.size):
        node = nodes[i] & INDEX
        excess = record[node + EXCESS]
        record[node + TREE] = SOURCE if excess > 0 else SINK if excess < 0 else FREE
        record[node + PARENT] = TERMINAL
        record[node + STAMP] = 0
        record[node + DISTANCE] = 1
        record[node + QUEUED] = 0
        record[node + UP] = 0
        if excess != 0:
            _activate(record, node, active, state)


@kernel()
def _augment(record, offset, orphans, start, direction):
    """Augments along the path through the arc from `start`; returns how many nodes became orphans."""
    end = (start + offset[direction]) & INDEX
    flow = record[start + direction]
    node, above = start, record[start + UP] & INDEX
    while above:
        flow = min(flow, record[above + ((record[node + PARENT] & 7) ^ 1)])
        node, above = above, record[above + UP] & INDEX
    flow = min(flow, record[node + EXCESS])
    node, above = end, record[end + UP] & INDEX
    while above:
        flow = min(flow, record[node + (record[node + PARENT] & 7)])
        node, above = above, record[above + UP] & INDEX
    flow = min(flow, -record[node + EXCESS])

    count = 0
    record[start + direction] -= flow
    record[end + (direction ^ 1)] += flow
    node, above = start, record[start + UP] & INDEX
    while above:
        parent = record[node + PARENT] & 7
        record[node + parent] += flow
        left = record[above + (parent ^ 1)] - flow
        record[above + (parent ^ 1)] = left
        if left == 0:
            record[node + PARENT] = ORPHAN
            orphans[count] = node
            count += 1
        node, above = above, record[above + UP] & INDEX
    record[node + EXCESS] -= flow
    if record[node + EXCESS] == 0:
        record[node + PARENT] = ORPHAN
        orphans[count] = node
        count += 1
    node, above = end, record[end + UP] & INDEX
    while above:
        parent = record[node + PARENT] & 7
        record[above + (parent ^ 1)] += flow
        left = record[node + parent] - flow
        record[node + parent] = left
        if left == 0:
            record[node + PARENT] = ORPHAN
            orphans[count] = node
            count += 1
        node, above = above, record[above + UP] & INDEX
    record[node + EXCESS] += flow
    if record[node + EXCESS] == 0:
        record[node + PARENT] = ORPHAN
        orphans[count] = node
        count += 1
    return count


@kernel()
def _steps_to_terminal(record, start, time):
    """Arcs from `start` up its tree to the terminal, or FAR if an orphan is on the path. Stamps a valid path."""
    if record[start + STAMP] == time:
        return record[start + DISTANCE]
    steps, node = 0, start
    while record[node + STAMP] != time:
        parent = record[node + PARENT]
        if parent == ORPHAN:
            return np.int32(FAR)
        if parent == TERMINAL:
            record[node + STAMP] = time
            record[node + DISTANCE] = 1
            break
        steps += 1
        node = record[node + UP] & INDEX
    steps += record[node + DISTANCE]
    node, distance = start, steps
    while record[node + STAMP] != time:
        record[node + STAMP] = time
        record[node + DISTANCE] = distance
        distance -= 1
        node = record[node + UP] & INDEX
    return np.int32(steps)


@kernel()
def _adopt(record, offset, directions, orphans, count, active, state):
    """Gives each orphan the parent in its tree nearest to the terminal, else frees it and orphans its children."""
    time = np.int32(state[TIME])
    done = 0
    while done < count:
        node = orphans[done] & INDEX
        done += 1
        tree = record[node + TREE]
        best, nearest = -1, np.int32(FAR)
        for d in range(directions):
            other = (node + offset[d]) & INDEX
            if record[other + TREE] != tree:
                continue
            if (record[other + (d ^ 1)] if tree == SOURCE else record[node + d]) == 0:
                continue
            steps = _steps_to_terminal(record, other, time)
            if steps < nearest:
                best, nearest = d, steps
        if best >= 0:
            record[node + PARENT] = best
            record[node + UP] = node + offset[best]
            record[node + STAMP] = time
            record[node + DISTANCE] = nearest + 1
            continue
        for d in range(directions):
            other = (node + offset[d]) & INDEX
            if record[other + TREE] != tree:
                continue
            if (record[other + (d ^ 1)] if tree == SOURCE else record[node + d]) != 0:
                _activate(record, other, active, state)
            if record[other + PARENT] == d ^ 1:
                record[other + PARENT] = ORPHAN
                orphans[count] = other
                count += 1
        record[node + TREE] = FREE


@kernel("void(int32[::1], int32[::1], int64, int64)")
def cut(record, nodes, stride, directions):
    """Pushes flow until no augmenting path is left; then the nodes with TREE == SOURCE are the source's side.

    record  `(n,) int32`, changed in place; may be the result of an earlier cut, with changed excess
    nodes   `(m,) int32`, index of each node's record
    stride  records a row; `directions` 4 or 8
    """
    offset = _offsets(stride)
    active = np.empty(nodes.size + 1, np.int32)
    orphans = np.empty(nodes.size + 1, np.int32)
    state = np.zeros(3, np.int64)
    _gather(record, nodes, offset, stride)
    _plant(record, nodes, active, state)
    while state[HEAD] != state[TAIL]:
        head = state[HEAD] & INDEX
        node = active[head] & INDEX
        state[HEAD] = head + 1 if head + 1 < active.size else 0
        record[node + QUEUED] = 0
        tree = record[node + TREE]
        if tree == FREE:
            continue
        d = 0
        while d < directions:
            other = (node + offset[d]) & INDEX
            if (record[node + d] if tree == SOURCE else record[other + (d ^ 1)]) != 0:
                found = record[other + TREE]
                if found == FREE:
                    record[other + TREE] = tree
                    record[other + PARENT] = d ^ 1
                    record[other + UP] = node
                    record[other + STAMP] = record[node + STAMP]
                    record[other + DISTANCE] = record[node + DISTANCE] + 1
                    _activate(record, other, active, state)
                elif found != tree:
                    state[TIME] += 1
                    if tree == SOURCE:
                        count = _augment(record, offset, orphans, node, d)
                    else:
                        count = _augment(record, offset, orphans, other, d ^ 1)
                    _adopt(record, offset, directions, orphans, count, active, state)
                    if record[node + TREE] == FREE:
                        break
                    continue  # the same arc may have capacity left
                elif (
                    record[other + STAMP] <= record[node + STAMP] and record[other + DISTANCE] > record[node + DISTANCE]
                ):
                    record[other + PARENT] = d ^ 1
                    record[other + UP] = node
                    record[other + STAMP] = record[node + STAMP]
                    record[other + DISTANCE] = record[node + DISTANCE] + 1
            d += 1
