"""Event files for TensorBoard's HPARAMS and TEXT tabs.

HPARAMS needs one declaration per search, and one start and one end per trial. TEXT shows the summary of the search.

The training of a trial writes its curves and pictures into the same directory. TensorBoard reads the files of a
directory in the order of their names and never returns to an earlier one. So our files sort first and last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.config import SETTINGS
from nmt.io.files import atomic_write
from nmt.training.files import EVENTS
from nmt.training.history import METRIC
from nmt.training.tensorboard import TensorBoardLog
from tune.results.summary import Summary, TrialRecord
from tune.spaces.parameter import Parameter
from tune.spaces.space import Space

if TYPE_CHECKING:
    from tensorboard.compat.proto import summary_pb2


BEST_METRIC = "val/accuracy_best"
COLUMNS = 5
"""number of searched keys that the HPARAMS tab shows until the user ticks others"""
FOREMOST = ("optim.lr", "loss.temperature", "model.decoder_layers")
"""searched keys that are among them in any case"""
MOST_LISTED = 20
"""whole numbers of a range that HPARAMS lists, each with a box to tick"""
ROWS = 10
"""trials in the table of the TEXT tab"""
TEXT = "summary"
"""tag of the text"""
FIRST, LAST = f"{EVENTS}0000000000", f"{EVENTS}9999999999"


def write_experiment(directory: Path, space: Space) -> None:
    """Declare every searched key with its domain, and the metrics to compare, at the root of the search.

    TensorBoard sorts the keys by name and shows the first five; those marked as differing come before the others.
    Trained keys are marked, so that the `decode.*` keys do not hide them: FOREMOST, then those searched in every trial.
    """
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
    from tensorboard.plugins.hparams import summary_v2 as hp

    hparams = [hp.HParam(p.key, _domain(p), description=SETTINGS[p.key].doc) for p in (*space.parameters, *space.sweep)]
    metrics = [
        hp.Metric(BEST_METRIC, display_name="val/accuracy (best)", dataset_type=hp.Metric.VALIDATION),
        hp.Metric(METRIC, display_name="val/accuracy (last)", dataset_type=hp.Metric.VALIDATION),
    ]
    summary = hp.hparams_config_pb(hparams, metrics)
    declared = summary.value[0].metadata.plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(declared.content)
    order = sorted(space.parameters, key=lambda p: (p.key not in FOREMOST, bool(p.when)))
    first = {p.key for p in order[:COLUMNS]}
    for info in content.experiment.hparam_infos:
        info.differs = info.name in first
        if info.type == api_pb2.DATA_TYPE_UNSET:  # no list of values: whole numbers of a long range
            info.type = api_pb2.DATA_TYPE_STRING
    declared.content = content.SerializeToString()
    _write(directory / f"{FIRST}.experiment", [(summary, 0)])


def shown(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return searched values as HPARAMS shows them: whole numbers as text, for it prints a number 6 as 6.0000.

    They are padded to one width, so that their order as text is that of the numbers.
    """
    widths = {p.key: _width(p) for p in (*space.parameters, *space.sweep) if p.type is int}
    return {key: str(value).rjust(widths[key]) if key in widths else value for key, value in values.items()}


def _width(parameter: Parameter) -> int:
    limits = parameter.values or (parameter.low, parameter.high)
    return max(len(str(int(value))) for value in limits if value is not None)


def write_start(directory: Path, name: str, values: Mapping[str, Any]) -> None:
    """Add the trial `name` to the HParams tab with the values of its searched keys.

    Written at the start: otherwise running and failed trials would have no row.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    _write(directory / f"{FIRST}.session_start", [(hp.hparams_pb(dict(values), trial_id=name), 0)])


def write_end(directory: Path, *, success: bool, best: Mapping[str, Any]) -> None:
    """Mark the trial as ended in the HParams tab, with its best value at the epoch it was reached."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    # TensorBoard's own function for this message imports TensorFlow.
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    session_end = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end)),
        tensor=metadata.NULL_TENSOR,
    )
    events = [(Summary(value=[session_end]), 0)]
    if best:
        events.append((Summary(value=[Summary.Value(tag=BEST_METRIC, simple_value=best[METRIC])]), best["epoch"]))
    _write(directory / f"{LAST}.session_end", events)


def write_text(log: TensorBoardLog, text: str) -> None:
    """Show a `summary_text` in the TEXT tab, instead of an earlier one."""
    log.text(TEXT, text, step=1)


def summary_text(summary: Summary) -> str:
    """Return the search so far as Markdown: its states, its best trials and the default, the searched keys."""
    states = [trial.state for trial in summary.trials]
    words = {"COMPLETE": "complete", "PRUNED": "stopped early or paused", "FAIL": "failed"}
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items())
    order = sorted((t for t in summary.trials if t.accuracy is not None), key=lambda t: (-(t.accuracy or 0.0), t.id))
    listed = order[:ROWS] + [t for t in order[ROWS:] if t is summary.default]
    trained = [key for key in summary.space if any(key in t.searched for t in listed)]
    rows = [
        [_role(t, summary), t.id, t.state, str(t.epochs), f"{t.accuracy:.1%}", *(_cell(t, key) for key in trained)]
        for t in listed
    ]
    gain = "" if summary.gain_points is None else f"; best minus default: {summary.gain_points:+.1f} points"
    parts = [
        f"# {summary.name}",
        summary.description,
        f"{'Finished' if summary.finished else 'Not finished'}: {len(states)} trials, {counts}{gain}",
        _markdown(["", "trial", "state", "epochs", METRIC, *trained], rows) if rows else "",
        "Searched:",  # Markdown would join the tables
        _markdown(["key", "values"], [[key, words] for key, words in summary.space.items()]),
    ]
    return "\n\n".join(part for part in parts if part)


def _role(trial: TrialRecord, summary: Summary) -> str:
    best = summary.best is not None and trial.id == summary.best.id
    return "best" if best else "default" if trial is summary.default else ""


def _cell(trial: TrialRecord, key: str) -> str:
    value = trial.searched.get(key, "-")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _domain(parameter: Parameter) -> Any:
    from tensorboard.plugins.hparams import summary_v2 as hp

    width = _width(parameter) if parameter.type is int else 0

    def encoded(value: Any) -> Any:
        return str(value).rjust(width) if parameter.type is int else parameter.encode(value)

    if parameter.values is not None:
        return hp.Discrete([encoded(v) for v in parameter.values])
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if parameter.type is not int:
        return hp.RealInterval(low, high)
    whole = range(int(low), int(high) + 1, int(parameter.step or 1))
    return hp.Discrete([encoded(v) for v in whole], dtype=str) if len(whole) <= MOST_LISTED else None


def _write(path: Path, summaries: Sequence[tuple[summary_pb2.Summary, int]]) -> None:
    """Write an event file of (summary, step), whole or not at all."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    with atomic_write(path) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for summary, step in summaries:
            writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
