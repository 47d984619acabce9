"""One training step on a GPU that is not there: its kernels, their arithmetic and traffic, and the memory it needs.

The step is that of a training: the same trainer, model, losses, optimizer and constraints, on fake tensors
(nmt.training.fake_cuda). What cannot be seen from outside a kernel is left out: its scratch memory, its own launches
where it has several (a fixed number stands for them), and the allocator's waste.
"""

from __future__ import annotations

import contextlib
import itertools
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nmt.config import Config, with_overrides
from nmt.errors import FailedError
from nmt.model.build import build_shapes
from nmt.model.matcher import Matcher
from nmt.training.fake_cuda import CUDA, fake_cuda
from nmt.training.stages import COPY, stages
from nmt.training.trainer import Trainer

_BLOCK = 512
"""bytes that torch's allocator rounds to"""
_LAUNCHES = {"index_put": 8, "_index_put_impl_": 8, "embedding_dense_backward": 8, "_embedding_bag_dense_backward": 8}
"""kernels of an operation with several: these sort their indices"""
_NO_LOOP = (
    "index_put", "_index_put", "embedding", "_embedding", "scatter", "sort", "_fused", "_foreach", "convolution",
    "native_layer_norm_backward",
)  # fmt: skip
"""beginnings of the names of operations that are no loop over their tensors' elements, beside products"""
_SUMS = {"sum": 1, "mean": 1, "amax": 1, "amin": 1, "any": 1, "all": 1, "logsumexp": 1, "linalg_vector_norm": 2}
"""operations that reduce some dimensions -> place of those among their arguments"""
_WRITES_ONLY = ("copy_", "fill_", "zero_")
"""operations that do not read the tensor that they change"""


class HiddenWaitError(FailedError):
    """A step that reads a value of the GPU, for which its queue must run empty; no fake tensor has one."""


@dataclass(frozen=True)
class Kernel:
    """One operation on the GPU."""

    stage: str
    name: str
    launches: int
    flops: int
    """of matrix products, convolutions and attention; 0 for all else, which memory bounds"""
    bytes: int
    """read and written, each tensor once"""
    dtype: torch.dtype
    """of the products"""
    reads: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """memory that is read: (number of a storage, its version, one more each time it is changed) -> bytes"""
    writes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """the same of memory that is written"""
    loop: int = 0
    """elements that the operation runs through, one by one; 0 if it is more than such a loop, see `_loop`"""


@dataclass(frozen=True)
class StepTrace:
    """What one step does."""

    kernels: tuple[Kernel, ...]
    waits: tuple[str, ...]
    """places where the step waits for a copy between CPU and GPU"""
    resident: int
    """bytes that stay between steps: weights, their average, the optimizer's state"""
    peaks: Mapping[str, int]
    """stage -> most bytes at once, with gradients, activations and the batch"""

    @property
    def peak(self) -> int:
        """Most bytes at once."""
        return max(self.peaks.values())

    def by_stage(self) -> Mapping[str, Sequence[Kernel]]:
        """Return the kernels of each stage, in the order of the step."""
        names = dict.fromkeys(kernel.stage for kernel in self.kernels)
        return {name: [kernel for kernel in self.kernels if kernel.stage == name] for name in names}


def trace_step(
    config: Config, *, data: Path, device: torch.device = CUDA, change: Callable[[Trainer], None] | None = None
) -> StepTrace:
    """Trace one step of a training that is under way. Nothing is computed, and no backbone weights are read.

    Of a step in parts (`train.micro_batch`), two parts are traced: more need no more memory.

    Args:
        config: the whole configuration.
        data: the prepared data set, of which the pairs of the first step are read.
        device: a GPU, or the CPU to compare with one that computes.
        change: changes the trainer before the step, to trace another way to do the same.

    Raises:
        UserError: a wrong configuration, or missing data.
        HiddenWaitError: the step reads a value of the GPU.
    """
    with fake_trainer(config, data=data, device=device) as trainer:
        if change is not None:
            change(trainer)
        size = config.train.micro_batch or config.data.pairs_per_step
        indices = range(min(config.data.pairs_per_step, 2 * size))
        with unset_fake_temporarily():
            parts = [trainer.stream.batch(0, indices[k : k + size]) for k in range(0, len(indices), size)]
        trainer.model.train()
        _fill_optimizer(trainer)
        resident = sum(_storages(_kept(trainer)).values())
        recorder = Recorder(device, stage=COPY)
        with stages(trainer, recorder.begins), recorder:
            trainer.train_step([part.to(device) for part in parts])
    peaks = {stage: resident + peak for stage, peak in recorder.peaks.items()}
    return StepTrace(tuple(recorder.kernels), tuple(recorder.waits), resident, peaks)


@contextlib.contextmanager
def fake_trainer(config: Config, *, data: Path, device: torch.device = CUDA) -> Iterator[Trainer]:
    """Make a trainer whose tensors are fake within this context; see `trace_step`."""
    plain = with_overrides(config, {"model.weights": "random", "train.compile": False}, source="trace")
    with fake_cuda():
        yield _FakeTrainer(plain, data=data, device=device)


class _FakeTrainer(Trainer):
    """A trainer without values in its tensors."""

    def build_matcher(self) -> Matcher:
        with unset_fake_temporarily():  # some nets read values of theirs while they are built
            matcher = build_shapes(self.config.model, image_size=self.config.data.image_size, features=self.features)
        return matcher.to_empty(device=self.device)


def _fill_optimizer(trainer: Trainer) -> None:
    """Take an update from no gradients: the optimizer makes its state in its first one."""
    for parameter in trainer.matcher.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)


def _kept(trainer: Trainer) -> Iterator[Tensor]:
    """Yield the tensors that stay between steps."""
    for matcher in {trainer.matcher, trainer.evaluated}:
        yield from matcher.parameters()
        yield from matcher.buffers()
    for state in trainer.optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Return the allocated bytes of each storage of these tensors."""
    return {s._cdata: _allocated(s) for s in (tensor.untyped_storage() for tensor in tensors)}


def _allocated(storage: torch.UntypedStorage) -> int:
    return -(-storage.nbytes() // _BLOCK) * _BLOCK


class Recorder(TorchDispatchMode):
    """Record what every operation in its context does on one device.

    Args:
        device: the device.
        stage: name of the first stage.
    """

    def __init__(self, device: torch.device, *, stage: str) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.waits: list[str] = []
        self.peaks: dict[str, int] = {}
        """stage -> most bytes at once of tensors that were made in this context"""
        self._device = device.type
        self._live: dict[int, int] = {}
        self._bytes = 0
        self._versions: dict[int, list[int]] = {}
        """storage that is alive -> its number, and how often it has been changed"""
        self._numbers = itertools.count()
        self.begins(stage)

    def begins(self, stage: str) -> None:
        """Name the stage of the operations to come."""
        self._stage = stage
        self.peaks[stage] = max(self.peaks.get(stage, 0), self._bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        try:
            result = func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise HiddenWaitError(f"{_place()}: {func} reads values of the GPU") from error
        given, made = _tensors((args, kwargs)), _tensors(result)
        if self._waits(func, given, made, kwargs):
            self.waits.append(f"{_place()}: {func}")
        before = {tensor.untyped_storage()._cdata for tensor in given}
        fresh = [tensor for tensor in made if tensor.untyped_storage()._cdata not in before]
        here = [tensor for tensor in (*given, *made) if tensor.device.type == self._device]
        for tensor in fresh:
            self._allocate(tensor)
        name = func.overloadpacket.__name__
        if here and (fresh or func._schema.is_mutable) and "empty" not in name:
            self.kernels.append(self._kernel(func, args, kwargs, result, fresh))
        return result

    def _kernel(self, func: Any, args: Any, kwargs: Any, result: Any, fresh: Sequence[Tensor]) -> Kernel:
        """Describe one operation: its arithmetic, and the memory that it reads and writes, in which version."""
        packet = func.overloadpacket
        name = packet.__name__
        read, changed = _tensors((args, kwargs)), _changed(func, args, kwargs)
        unread = {id(tensor) for tensor in changed} if name in _WRITES_ONLY else set()
        reads: dict[tuple[int, int], int] = {}
        for tensor in read:
            # What is written in part keeps the rest: it comes after the version before, read or not.
            self._add(reads, tensor, 0 if id(tensor) in unread else _touched(tensor))
        for tensor in changed:
            self._version(tensor.untyped_storage())[1] += 1
        writes: dict[tuple[int, int], int] = {}
        for tensor in (*changed, *fresh):
            self._add(writes, tensor, _touched(tensor))
        flops = _flops(packet, args, kwargs, result)
        traffic = sum(map(_touched, (*read, *changed, *fresh)))
        if name in _WRITES_ONLY:
            traffic -= sum(map(_touched, changed))
        loop = 0 if flops or name.startswith(_NO_LOOP) else _loop(name, read, fresh or changed, args)
        dtype = (fresh or read)[0].dtype
        return Kernel(self._stage, name, _launches(name, args), flops, traffic, dtype, reads, writes, loop)

    def _add(self, memory: dict[tuple[int, int], int], tensor: Tensor, touched: int) -> None:
        """Add the bytes of a tensor, at most all of its storage: several views of one may overlap."""
        storage = tensor.untyped_storage()
        if tensor.device.type == self._device:
            number, version = self._version(storage)
            key = number, version
            memory[key] = min(memory.get(key, 0) + touched, storage.nbytes())

    def _version(self, storage: torch.UntypedStorage) -> list[int]:
        key = storage._cdata
        if key not in self._versions:
            self._versions[key] = [next(self._numbers), 0]
            weakref.finalize(storage, self._versions.pop, key).atexit = False
        return self._versions[key]

    def _waits(self, func: Any, given: Sequence[Tensor], made: Sequence[Tensor], kwargs: Mapping[str, Any]) -> bool:
        """Return True for a copy that the CPU waits for, and for values of the CPU among those of the GPU."""
        if self._device == "cpu":
            return False
        devices = {tensor.device.type for tensor in made} | {t.device.type for t in given if t.dim()}
        copies = func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        if copies:
            devices |= {tensor.device.type for tensor in given}
        # What is copied to the GPU in the background waits for nothing; what comes from there is not yet known.
        to_cpu = bool(made) and made[0].device.type == "cpu"
        in_background = bool(kwargs.get("non_blocking")) and not to_cpu
        return len(devices) > 1 and not (copies and in_background)

    def _allocate(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.device.type != self._device or storage._cdata in self._live:
            return
        self._live[storage._cdata] = _allocated(storage)
        self._bytes += _allocated(storage)
        self.peaks[self._stage] = max(self.peaks[self._stage], self._bytes)
        weakref.finalize(storage, self._free, storage._cdata).atexit = False

    def _free(self, key: int) -> None:
        self._bytes -= self._live.pop(key)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _loop(name: str, read: Sequence[Tensor], written: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Return the elements of the loop that an operation is; 0 if it sums over other than the last dimensions.

    Sums along rows are part of the loop over the rows' elements. Sums over rows are not: a row's elements are used
    before the sum is known.
    """
    if name not in _SUMS:
        return max(tensor.numel() for tensor in written)
    last = read[0].dim() - 1
    dims = args[_SUMS[name]] if len(args) > _SUMS[name] else None
    dims = [dims] if isinstance(dims, int) else dims or range(last + 1)
    return read[0].numel() if any(dim % (last + 1) == last for dim in dims) and len(dims) <= max(last, 1) else 0


def _flops(packet: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Count the arithmetic of matrix products, convolutions and attention."""
    if packet is torch.ops.aten.convolution_backward:  # torch counts the weights of all groups for each group
        gradient, _, weight = args[:3]
        positions = gradient.numel() // gradient.shape[1]
        wanted: int = sum(args[-1][:2])  # of the input and of the weights
        return 2 * wanted * weight.numel() * positions
    count = flop_registry.get(packet)
    return 0 if count is None else int(count(*args, **kwargs, out_val=result))


def _changed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the arguments that an operation writes to."""
    given = {**dict(zip((a.name for a in func._schema.arguments), args, strict=False)), **kwargs}
    written = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return _tensors([given.get(name) for name in written])


def _touched(tensor: Tensor) -> int:
    """Return the bytes of a tensor in memory; a broadcast dimension takes none."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


_CHUNK, _BLOCKS = 65536, 320
_TENSORS_AT_ONCE = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""of torch's kernels for lists of tensors: elements of a block, blocks of a launch; lists -> tensors of a launch"""


def _launches(name: str, args: Sequence[Any]) -> int:
    """Return the kernels of an operation; those on lists of tensors take many at once where the shapes agree."""
    lists = [arg for arg in args if isinstance(arg, list | tuple) and arg and isinstance(arg[0], Tensor)]
    if not name.startswith(("_foreach", "_fused")) or not lists:
        return _LAUNCHES.get(name, 1)
    first = lists[0]
    depth = sum(len(other) == len(first) for other in lists) - name.startswith("_fused")  # less the counts of steps
    if name.startswith("_foreach") and any(a.shape != b.shape for a, b in zip(first, lists[-1], strict=False)):
        return len(first)
    chunks = sum(-(-tensor.numel() // _CHUNK) for tensor in first)
    return max(-(-len(first) // _TENSORS_AT_ONCE.get(depth, 30)), -(-chunks // _BLOCKS))


def _place() -> str:
    """Return the file and line that the current operation comes from; in a backward pass, that pass."""
    frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
