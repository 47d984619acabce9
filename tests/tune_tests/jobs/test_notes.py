"""What a training logs, as notes of its own trial's events."""

from __future__ import annotations

import logging
from pathlib import Path

from tune.jobs.notes import Notes


def test_each_trial_gets_its_own_lines_once() -> None:
    log, one, other = logging.getLogger("nmt.training.state"), Path("/r/trials/001"), Path("/r/trials/0011")
    with Notes() as notes:
        log.warning("%s: checkpoint.pt is damaged; beginning anew", one)
        log.warning("%s: no best.pt there", one)
        log.warning("%s: other", other)
        log.info("%s: nothing to tell", one)
        assert notes.take(one) == {"note": "checkpoint.pt is damaged; beginning anew; no best.pt there"}
        assert notes.take(one) == {}
        assert notes.take(other) == {"note": "other"}
    log.warning("%s: after the job", one)
    assert notes.take(one) == {}
