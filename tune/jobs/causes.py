"""Decide what an error says about its trial: it would come again, or the trial is only interrupted.

A diverged loss, a wrong configuration and a mistake in the code of a training repeat: the trial has failed. Everything
else comes from the machines: a full disk, a process that dies or hangs, too little memory, a storage or a hub out of
reach. Such a trial keeps its checkpoint, and `--resume` continues it.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import ray.exceptions

from nmt.errors import FailedError, TemporaryError, UserError

MAX_REASON = 200
"""characters of an error in the table"""
DIED = "its process died (killed, out of memory, or crashed)"
MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""errors of the code itself, an extension's included; torch reports those of the machine as RuntimeError or OSError"""


@dataclass(frozen=True)
class Cause:
    """Why a job ended early."""

    reason: str
    """in one line"""
    final: bool
    """True if a retry would only repeat it"""
    of_node: bool = False
    """True if its node was taken away, which says nothing about the job"""


def cause_of(error: BaseException) -> Cause:
    """Judge the error that ended a job.

    Args:
        error: as Ray Tune keeps it: raised by the job, or by Ray when the job's process ended.
    """
    if isinstance(error, ray.exceptions.RayActorError):
        return Cause(DIED, final=False, of_node=error.preempted)
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return Cause(_in_words(cause), final=is_final(cause))


def kind_of(reason: str) -> str:
    """Return what reasons of the same kind share: without paths, and without the numbers in brackets."""
    return re.sub(r"\S*/\S*", "", reason).partition(" (")[0]


def is_final(error: BaseException) -> bool:
    """True if the training itself raised the error, and would raise it again."""
    from nmt.training.trainer import DivergedError

    if isinstance(error, UserError):
        return not isinstance(error, TemporaryError)
    # What another process raised, such as the control actor, comes as a RayError that is also the error it had there.
    return isinstance(error, (DivergedError, *MISTAKES)) and not isinstance(error, ray.exceptions.RayError)


def _in_words(error: BaseException) -> str:
    if isinstance(error, (UserError, FailedError)):
        return str(error)
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1].strip()[:MAX_REASON]


@contextlib.contextmanager
def of_the_storage() -> Iterator[None]:
    """Make every UserError of the block, which copies files from or to a storage, a temporary one."""
    try:
        yield
    except UserError as error:
        raise TemporaryError(str(error)) from error
