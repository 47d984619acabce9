"""What a compiler that joins loops makes of a traced step: an estimate of `train.compile` for machines without a GPU.

A compiler such as torch's inductor joins operations to one kernel, so that what only they use is never written to
memory. Modelled is that alone: loops are joined where one reads what the other has written, and no product or other
kernel lies between them. Inductor does more (it computes some values anew in the backward pass instead of keeping them,
and joins loops that read the same) and less (it does not join all that it could). Of a SwinV2 block on a CPU it counts
5 to 7 % more traffic itself than this model (17 % where the attention is not one kernel), and 17 to 20 % more kernels.
A test compares them. A stage counts as one compiled part, while nmt.training.compiled compiles the blocks of a backbone
one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from nmt.training.step_trace import Kernel

COMPILED = ("backbone forward", "head forward", "loss", "backward")
"""stages that `train.compile` compiles"""

_Memory = tuple[int, int]
"""number of a storage, and its version"""


def fused(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Join the loops of a step in the stages that are compiled.

    Args:
        kernels: of a traced step, in its order.

    Returns:
        The kernels after that: products, the like, and other stages as they were, then the joined loops.
    """
    readers: dict[_Memory, list[int]] = defaultdict(list)
    for k, kernel in enumerate(kernels):
        for memory in kernel.reads:
            readers[memory].append(k)
    loops = {k for k, kernel in enumerate(kernels) if kernel.loop and kernel.stage in COMPILED}
    constants = {k for k in loops if not kernels[k].reads and all(set(readers[m]) <= loops for m in kernels[k].writes)}
    groups: dict[int, list[int]] = defaultdict(list)
    for k, first in _first_of_group(kernels, loops).items():
        if k not in constants:
            groups[first].append(k)
    known = {memory for k in constants for memory in kernels[k].writes}
    rest = [kernel for k, kernel in enumerate(kernels) if k not in loops]
    return rest + [_joined([kernels[k] for k in group], group, readers, known) for group in groups.values()]


def _first_of_group(kernels: Sequence[Kernel], loops: Collection[int]) -> dict[int, int]:
    """Return the first operation of the group that each loop is joined to.

    A loop's depth is the most other kernels on a way to it. Loops of one depth have none between them, so whatever is
    joined can run as one.
    """
    writer: dict[_Memory, int] = {}
    depth: list[int] = []
    parent: dict[int, int] = {}

    def first(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    for k, kernel in enumerate(kernels):
        sources = [writer[memory] for memory in kernel.reads if memory in writer]
        depth.append(max((depth[source] for source in sources), default=0) + (k not in loops))
        if k in loops:
            parent[k] = k
            for source in sources:
                other = kernels[source]
                joins = source in loops and other.stage == kernel.stage and depth[source] == depth[k]
                if joins and other.reads:  # a constant would join what has nothing else in common
                    one, two = sorted((first(source), first(k)))
                    parent[two] = one
        writer |= dict.fromkeys(kernel.writes, k)
    return {k: first(k) for k in parent}


def _joined(
    group: Sequence[Kernel],
    numbers: Iterable[int],
    readers: Mapping[_Memory, Sequence[int]],
    known: Collection[_Memory],
) -> Kernel:
    """Return the kernel that a group of loops becomes: it writes only what is read elsewhere."""
    inside = set(numbers)
    made = {memory: size for kernel in group for memory, size in kernel.writes.items()}
    read: dict[_Memory, int] = {}
    for kernel in group:
        for memory, size in kernel.reads.items():
            if memory not in made and memory not in known:
                read[memory] = max(size, read.get(memory, 0))
    written = {memory: size for memory, size in made.items() if any(k not in inside for k in readers[memory])}
    traffic = sum(read.values()) + sum(written.values())
    lengths = {kernel.loop for kernel in group if written.keys() & kernel.writes.keys()}
    return replace(group[0], name="fused", launches=len(lengths), bytes=traffic, reads=read, writes=written)
