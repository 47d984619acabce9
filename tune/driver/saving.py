"""Write the summary of a search and copy its study: soon after each event, yet at most every few seconds.

Both cost the more the more trials a search has. Neither is needed to resume: the study itself is written at once, and
a copy that is behind is completed from the folders of the trials (tune.study.restore).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from nmt.data.store.ready import ReadyData
from nmt.training.tensorboard import TensorBoardLog
from tune.driver.lines import Lines
from tune.driver.summarize import Records, summarize
from tune.driver.trial_folders import TrialFolders
from tune.results.layout import STUDY
from tune.results.summary import Summary
from tune.results.tensorboard import summary_text, write_text
from tune.study.study import SearchStudy

SECONDS = 10.0
"""shortest time from the end of a write to the next one of its kind, and so the age that a file may have"""


class Throttle:
    """Call `work` when it is asked for, though not before SECONDS have passed since the last call.

    `poll` has to be called meanwhile, or the last call that was asked for is not made.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._done = -math.inf
        self._asked = False

    def ask(self) -> None:
        """Make the call now, or once it is time."""
        self._asked = True
        self.poll()

    def poll(self) -> None:
        """Make the call if it was asked for and it is time."""
        if self._asked and time.monotonic() - self._done >= SECONDS:
            self.now()

    def now(self) -> None:
        """Make the call."""
        self._asked = False
        self._work()
        self._done = time.monotonic()


class Saving:
    """The files of one search that say how far it is.

    Args:
        data: the data set, for the summary.
        lines: the clock of the search.
    """

    def __init__(self, study: SearchStudy, folders: TrialFolders, *, data: ReadyData, lines: Lines) -> None:
        self._study, self._folders, self._data, self._lines = study, folders, data, lines
        self._records = Records()
        self._finished = False
        self._board: TensorBoardLog | None = None
        self._text = ""
        self._written: Summary
        self._summed, self._copied = Throttle(self._write_summary), Throttle(self._copy_study)

    def summary(self) -> Summary:
        """Return the summary as it is now."""
        seconds, finished = self._lines.seconds(), self._finished
        return summarize(
            self._study, self._folders, data=self._data, seconds=seconds, finished=finished, records=self._records
        )

    def copy_soon(self) -> None:
        """Copy the study, here and to the storage."""
        self._copied.ask()

    def save_soon(self) -> None:
        """Write the summary and copy the study, here and to the storage."""
        self._summed.ask()
        self._copied.ask()

    def poll(self) -> None:
        """Write what was put off, once it is time."""
        self._summed.poll()
        self._copied.poll()

    def save(self, *, finished: bool) -> Summary:
        """Write the summary and copy the study at once; return the summary as written.

        Args:
            finished: True if nothing is left to run.
        """
        self._finished = finished
        self._summed.now()
        self._copied.now()
        return self._written

    def _write_summary(self) -> None:
        summary = self._written = self.summary()
        with self._folders.noted():
            summary.save(self._folders.directory)
        self._show(summary)
        self._folders.put()

    def _show(self, summary: Summary) -> None:
        """Show the summary in TensorBoard, if there is something new in it."""
        text = summary_text(summary)
        if text == self._text:
            return
        if self._board is None:
            self._board = TensorBoardLog(self._folders.directory, first_epoch=1)
        write_text(self._board, text)
        self._text = text

    def _copy_study(self) -> None:
        self._folders.back_up()
        self._folders.put(pattern=STUDY)
