"""Event files for TensorBoard's HParams tab: one declaration per search, one start and one end per trial.

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
from tune.spaces.parameter import Parameter
from tune.spaces.space import Space

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary


BEST_METRIC = "val/accuracy_best"
COLUMNS = 5
"""number of searched keys that the HParams tab shows until the user ticks others"""
FIRST, LAST = f"{EVENTS}0000000000", f"{EVENTS}9999999999"


def write_experiment(directory: Path, space: Space) -> None:
    """Declare every searched key with its domain, and the metrics to compare, at the root of the search.

    TensorBoard sorts the keys by name and shows the first five; those marked as differing come before the others.
    Trained keys are marked, so that the `decode.*` keys do not hide them. Keys searched in every trial come first.
    """
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.plugins.hparams import summary_v2 as hp

    hparams = [hp.HParam(p.key, _domain(p), description=SETTINGS[p.key].doc) for p in (*space.parameters, *space.sweep)]
    metrics = [
        hp.Metric(BEST_METRIC, display_name="val/accuracy (best)", dataset_type=hp.Metric.VALIDATION),
        hp.Metric(METRIC, display_name="val/accuracy (last)", dataset_type=hp.Metric.VALIDATION),
    ]
    summary = hp.hparams_config_pb(hparams, metrics)
    declared = summary.value[0].metadata.plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(declared.content)
    shown = {p.key for p in sorted(space.parameters, key=lambda p: bool(p.when))[:COLUMNS]}
    for info in content.experiment.hparam_infos:
        info.differs = info.name in shown
    declared.content = content.SerializeToString()
    _write(directory / f"{FIRST}.experiment", [(summary, 0)])


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


def _domain(parameter: Parameter) -> Any:
    from tensorboard.plugins.hparams import summary_v2 as hp

    if parameter.values is not None:
        return hp.Discrete([parameter.encode(v) for v in parameter.values])
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if parameter.type is int:
        return hp.IntInterval(int(low), int(high))
    return hp.RealInterval(low, high)


def _write(path: Path, summaries: Sequence[tuple[Summary, int]]) -> None:
    """Write an event file of (summary, step), whole or not at all."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    with atomic_write(path) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for summary, step in summaries:
            writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
