"""Trainings that several tests of this folder compare with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nmt.inference import pictures
from nmt.training.loop import train
from tests.nmt_tests.toy_training import SAME, small


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that meet hundreds of times a step crawl where another process holds a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """Pictures of matched pairs at a tenth of their side: drawing and writing them takes longer than the training."""
    drawn = pictures.draw_sheet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw_sheet", lambda pairs, side=160: drawn(pairs, side=side // 10))
        yield


@pytest.fixture(scope="session")
def alone(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker makes of `SAME`."""
    directory = tmp_path_factory.mktemp("alone")
    train(small(**SAME), data=toy_data, directory=directory)
    return directory
