"""TensorBoard log of a training: scalars per epoch, and a picture of matched pairs.

TensorBoard sorts the groups of tags by name, and opens the first two. So the tags put validation first, then the loss,
and what is rarely looked at into groups that stay folded.

Written here, not by SummaryWriter: its thread prints a traceback of its own when the disk is full, and leaves half an
event in the file, after which TensorBoard reads no further.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.errors import one_line
from nmt.training.files import EVENTS
from nmt.training.history import METRIC
from nmt.training.logger import Run

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

GROUPS = {
    f"{METRIC}/": "~categories/",
    "train/pairs_per_second": "~speed/pairs_per_second",
    "train/": "while_training/",
    "decode/": "~decode/",
    "seconds": "~speed/seconds",
    "inference_seconds": "~speed/inference_seconds",
    "workers": "~speed/workers",
}
"""beginning of a metric's name -> that of its tag, the first that fits; others, such as val/accuracy, keep theirs.
"~" sorts after all letters"""


def tag_of(metric: str) -> str:
    """Return the tag of a metric in TensorBoard."""
    for beginning, tag in GROUPS.items():
        if metric == beginning or (beginning.endswith("/") and metric.startswith(beginning)):
            return tag + metric.removeprefix(beginning)
    return metric


def open_tensorboard(run: Run) -> TensorBoardLog:
    """Open the events of a training: the logger `tensorboard`."""
    return TensorBoardLog(run.directory, first_epoch=len(run.history) + 1)


class TensorBoardLog:
    """Event file of one run. The step of every value is the epoch, so that runs with other batch sizes compare.

    A file that cannot be written to does not end the training: that is logged once, and the events wait in memory.

    Args:
        directory: folder of the run.
        first_epoch: epoch at which a resumed run starts; values that an interrupted run wrote past it are dropped.
    """

    def __init__(self, directory: Path, *, first_epoch: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        # TensorBoard reads the files of a folder in the order of their names, so the time comes first.
        seconds, rest = divmod(time.time_ns(), 10**9)
        self._path = directory / f"{EVENTS}{seconds:010d}.{rest:09d}.{socket.gethostname()}.{os.getpid()}"
        self._waiting = b""
        self._written = 0
        self._failed = False
        earlier = first_epoch > 1 or any(directory.glob(f"{EVENTS}*"))
        self._add(Event(file_version="brain.Event:2"))
        if earlier:
            self._add(Event(step=first_epoch, session_log=SessionLog(status=SessionLog.START)))
        self._flush()

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log every number among `values` under its tag; strings are left out."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        for name, number in numbers.items():
            self._add(Event(step=epoch, summary=Summary(value=[Summary.Value(tag=tag_of(name), simple_value=number)])))
        self._flush()

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str = "") -> None:
        """Log a picture, uint8. TensorBoard's pages show no caption."""
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard.summary import image

        self._add(Event(step=epoch, summary=image(name, image_HW3, dataformats="HWC")))
        self._flush()

    def text(self, name: str, markdown: str, step: int) -> None:
        """Log a text, instead of all that was logged from this step on."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
        self._add(Event(step=step, summary=text_pb(name, markdown)))
        self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()

    def _add(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._waiting += record.getvalue()

    def _flush(self) -> None:
        """Write the waiting events, whole or not at all: what a full disk took of them is cut off."""
        if not self._waiting:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                left = memoryview(self._waiting)
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            if not self._failed:
                reason = error.strerror or one_line(error)
                log.warning("%s: no TensorBoard events for now (%s); the training continues", self._path.parent, reason)
            self._failed = True
            with contextlib.suppress(OSError):
                os.truncate(self._path, self._written)  # else TensorBoard would stop at the half of an event
            return
        self._written, self._waiting, self._failed = self._written + len(self._waiting), b"", False
