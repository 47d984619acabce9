"""Event files as TensorBoard itself reads them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.training.tensorboard import TensorBoardLog


def read(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory)).Reload()


def test_numbers_are_curves_over_epochs_and_strings_are_none(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, first_epoch=1)
    for epoch in (1, 2):
        log.scalars({"val/accuracy": 0.25 * epoch, "workers": 2, "decode/assignment": "argmax"}, epoch)
    found = read(tmp_path)  # while the log is open: a run is watched while it trains
    log.close()
    assert sorted(found.Tags()["scalars"]) == ["val/accuracy", "~speed/workers"]
    assert [(e.step, e.value) for e in found.Scalars("val/accuracy")] == [(1, 0.25), (2, 0.5)]


def test_a_resumed_run_replaces_what_the_interrupted_one_wrote_past_its_checkpoint(tmp_path: Path) -> None:
    for first, values in ((1, [0.1, 0.2, 0.3]), (3, [0.7, 0.8])):
        log = TensorBoardLog(tmp_path, first_epoch=first)
        for epoch, value in enumerate(values, start=first):
            log.scalars({"loss": value}, epoch)
        log.close()
    found = [(e.step, e.value) for e in read(tmp_path).Scalars("loss")]
    assert [step for step, _ in found] == [1, 2, 3, 4]
    assert [value for _, value in found] == pytest.approx([0.1, 0.2, 0.7, 0.8])


def test_a_run_that_begins_anew_replaces_all_that_was_written(tmp_path: Path) -> None:
    for values in ([0.1, 0.2, 0.3], [0.7]):
        log = TensorBoardLog(tmp_path, first_epoch=1)
        for epoch, value in enumerate(values, start=1):
            log.scalars({"loss": value}, epoch)
        log.close()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("loss")] == [(1, pytest.approx(0.7))]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from nmt.training.tensorboard import TensorBoardLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = TensorBoardLog(Path(sys.argv[1]), first_epoch=1)
log.scalars({"loss": 1.0}, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
for epoch in (2, 3):
    log.picture("matches", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), epoch)
    log.scalars({"loss": float(epoch)}, epoch)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
if sys.argv[2] == "room":
    log.scalars({"loss": 4.0}, 4)
"""


@pytest.mark.parametrize(("then", "steps"), [("room", [1, 2, 3, 4]), ("end", [1])])
def test_a_full_disk_is_one_line_and_leaves_no_half_event(tmp_path: Path, then: str, steps: list[int]) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), then]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        f"{tmp_path}: no TensorBoard events for now (File too large); the training continues"
    ]
    assert [e.step for e in read(tmp_path).Scalars("loss")] == steps


def test_a_picture_comes_back_pixel_by_pixel(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    log = TensorBoardLog(tmp_path, first_epoch=1)
    log.picture("val/matches", picture, 4, "cup/1 → cup/2")
    log.close()
    (event,) = read(tmp_path).Images("val/matches")
    assert event.step == 4
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)
