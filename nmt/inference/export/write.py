"""Write a trained matcher as ONNX or as a torch.export program, checked against the matcher itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.data.graph import delaunay_edges
from nmt.errors import FailedError, UserError, one_line
from nmt.inference.export.graph import OUTPUTS, PairHead, PairMatcher
from nmt.inference.load import Trained
from nmt.io.files import atomic_output

FORMATS = ("onnx", "torch")
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
HEAD, MATCHER = "head", "matcher"
"""names of the two files: from stored features, and from images"""
TOLERANCE = 1e-4
"""largest difference of a cosine or a confidence between a written file and the matcher"""
SIZES = ((7, 11), (2, 2), (3, 20), (30, 5), (10, 10))
"""keypoints of the source and the target that a file is checked with; it is traced with the first"""

Run = Callable[[Sequence[Tensor]], list[np.ndarray]]
"""runs a written file: its inputs -> its outputs"""


@dataclass(frozen=True)
class Written:
    """A file that was written, and how it compares with the matcher."""

    path: Path
    inputs: tuple[str, ...]
    difference: float
    """largest difference of a cosine or a confidence, over all sizes"""


def write_programs(trained: Trained, folder: Path, *, format: str) -> list[Written]:
    """Write the matcher with its backbone and its head alone, and check both.

    Args:
        trained: the matcher.
        folder: of the files, which is made; files of an earlier export are replaced.
        format: "onnx" or "torch".

    Raises:
        UserError: the package that writes the format is not installed.
        FailedError: a written file computes something else than the matcher. It is not kept.
    """
    write, open_file = {"onnx": (_write_onnx, _open_onnx), "torch": (_write_torch, _open_torch)}[format]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (module, inputs, example) in _modules(trained).items():
        path = folder / f"{name}{SUFFIXES[format]}"
        with atomic_output(path) as part:
            write(module, inputs, example(*SIZES[0]), part)
            written.append(Written(path, inputs, _difference(module, open_file(part), example, path)))
    return written


_Example = Callable[[int, int], tuple[Tensor, ...]]


def _modules(trained: Trained) -> dict[str, tuple[nn.Module, tuple[str, ...], _Example]]:
    """Return the two modules, the names of their inputs, and a function that makes inputs of a size."""
    from nmt.model.backbone import build_backbone

    config = trained.config
    backbone = trained.matcher.backbone or build_backbone(config.model, config.data.image_size)
    head = PairHead(
        trained.matcher.head,
        image_size=config.data.image_size,
        epsilon=config.decode.epsilon,
        iterations=config.decode.sinkhorn_iterations,
        calibration=trained.calibration,
    ).eval()
    widths = sum(backbone.channels), backbone.global_channels
    size = config.data.image_size

    def features(n: int, m: int) -> tuple[Tensor, ...]:
        return (*_features(n, widths, size, seed=n), *_features(m, widths, size, seed=1000 + m))

    def images(n: int, m: int) -> tuple[Tensor, ...]:
        return (*_image(n, size, seed=n), *_image(m, size, seed=1000 + m))

    of_head = tuple(f"{part}{side}" for side in "01" for part in ("nodes", "global", "points", "edges"))
    of_matcher = tuple(f"{part}{side}" for side in "01" for part in ("image", "points", "edges"))
    return {
        MATCHER: (PairMatcher(backbone.eval(), head), of_matcher, images),
        HEAD: (head, of_head, features),
    }


def _graph(num: int, size: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw keypoints in the square, and return them with their edges."""
    points_N2 = generator.uniform(0, size, (num, 2)).astype(np.float32)
    return torch.from_numpy(points_N2), torch.from_numpy(delaunay_edges(points_N2).astype(np.int64))


def _features(num: int, widths: tuple[int, int], size: int, *, seed: int) -> tuple[Tensor, ...]:
    generator = np.random.default_rng(seed)
    nodes_NC, global_G = (
        torch.from_numpy(generator.normal(size=shape).astype(np.float32)) for shape in ((num, widths[0]), widths[1:])
    )
    nodes_NC = 2**0.5 * F.normalize(nodes_NC, dim=1)  # two maps, each of unit length
    return nodes_NC, F.normalize(global_G, dim=0), *_graph(num, size, generator)


def _image(num: int, size: int, *, seed: int) -> tuple[Tensor, ...]:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.integers(0, 256, (size, size, 3), np.uint8)), *_graph(num, size, generator)


def _axes(inputs: Sequence[str]) -> tuple[dict[int, Any] | None, ...]:
    """Return the axes of each input that vary, with their names."""
    from torch.export import Dim

    dims = {f"{part}{side}": Dim(f"num_{part}{side}", min=2) for side in "01" for part in ("points", "edges")}
    of_part = {"nodes": ("points", 0), "points": ("points", 0), "edges": ("edges", 1)}
    axes: list[dict[int, Any] | None] = []
    for name in inputs:
        part, side = name[:-1], name[-1]
        varies = of_part.get(part)
        axes.append(None if varies is None else {varies[1]: dims[f"{varies[0]}{side}"]})
    return tuple(axes)


def _trace(module: nn.Module, inputs: Sequence[str], example: tuple[Tensor, ...]) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own deprecations
        try:
            return torch.export.export(module, example, dynamic_shapes=_axes(inputs), strict=False)
        except Exception as error:  # torch.export raises many kinds for a net that it cannot trace
            raise UserError(
                f"torch.export cannot trace this matcher ({type(error).__name__}: {one_line(error)[:200]}); "
                "--hub exports the weights of any backbone"
            ) from error


def _write_torch(module: nn.Module, inputs: tuple[str, ...], example: tuple[Tensor, ...], path: Path) -> None:
    program = _trace(module, inputs, example)
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file)


def _open_torch(path: Path) -> Run:
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    return lambda values: [value.numpy(force=True) for value in program(*values)]


def _write_onnx(module: nn.Module, inputs: tuple[str, ...], example: tuple[Tensor, ...], path: Path) -> None:
    _require("onnxscript")
    program = _trace(module, inputs, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program, input_names=list(inputs), output_names=list(OUTPUTS), dynamo=True, verbose=False
        )
    assert written is not None
    written.save(path)


def _open_onnx(path: Path) -> Run:
    _require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda values: session.run(list(OUTPUTS), dict(zip(names, (v.numpy() for v in values), strict=True)))


def _require(package: str) -> None:
    """Raise UserError if a package of the extra `export` is missing."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"--format onnx needs the package {package}; install the extra: "
            "pip install 'normalized-matching-transformer[export]'"
        )


@torch.no_grad()
def _difference(module: nn.Module, run: Run, example: _Example, path: Path) -> float:
    """Return the largest difference to the module over all sizes. Raises FailedError if it is too large."""
    largest = 0.0
    for sizes in SIZES:
        values = example(*sizes)
        wanted, found = [value.numpy() for value in module(*values)], run(values)
        for name, ours, theirs in list(zip(OUTPUTS, wanted, found, strict=True))[1:]:
            difference = float(np.abs(ours - theirs).max())
            if not difference <= TOLERANCE or ours.shape != theirs.shape:
                raise FailedError(
                    f"{path}: not written: with {sizes[0]} and {sizes[1]} keypoints its {name} differs by "
                    f"{difference:.1e} from the matcher's, where {TOLERANCE:g} is allowed"
                )
            largest = max(largest, difference)
    return largest
