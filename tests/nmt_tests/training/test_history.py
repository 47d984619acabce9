from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.training.history import EpochResult, Progress, best_epoch, decoding_of, read_metrics, write_metrics


def test_line_cut_short_is_no_epoch(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "val/accuracy": 0.5}\n{"epoch": 2')
    assert read_metrics(tmp_path) == [{"epoch": 1, "val/accuracy": 0.5}]
    assert read_metrics(tmp_path / "absent") == []


def test_best_epoch_is_the_first_of_equals_and_never_nan() -> None:
    values = [0.3, 0.5, float("nan"), 0.5]
    history = [{"epoch": e, "val/accuracy": v} for e, v in enumerate(values, start=1)]
    assert best_epoch(history)["epoch"] == 2 and best_epoch([]) == {}


accuracies = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=6)


@given(accuracies)
def test_what_is_written_is_read_back_line_by_line(values: list[float]) -> None:
    history = [{"epoch": e, "val/accuracy": v, "decode/assignment": "argmax"} for e, v in enumerate(values, start=1)]
    with tempfile.TemporaryDirectory() as folder:
        write_metrics(Path(folder), Progress(history=history))
        found = read_metrics(Path(folder))
        assert len((Path(folder) / "metrics.jsonl").read_text().splitlines()) == len(values)
    assert [line["epoch"] for line in found] == [line["epoch"] for line in history]
    np.testing.assert_array_equal([line["val/accuracy"] for line in found], values)


@given(accuracies)
def test_the_best_epoch_is_numpys_first_maximum(values: list[float]) -> None:
    history = [{"epoch": e, "val/accuracy": v} for e, v in enumerate(values, start=1)]
    found = best_epoch(history)
    if all(math.isnan(v) for v in values):
        assert found == {}
    else:
        assert found["epoch"] == int(np.nanargmax(values)) + 1
        if not any(map(math.isnan, values)):
            assert Progress(history=history).best() == EpochResult(found["epoch"], found)


def test_the_decode_setting_is_what_the_metrics_name() -> None:
    metrics = {"epoch": 1, "val/accuracy": 0.5, "decode/epsilon": 0.1, "decode/assignment": "argmax", "decoder": 3}
    assert decoding_of(metrics) == {"epsilon": 0.1, "assignment": "argmax"}


def test_an_interrupted_write_keeps_the_metrics_that_were_there(tmp_path: Path) -> None:
    first = {"epoch": 1, "val/accuracy": 0.5}
    write_metrics(tmp_path, Progress(history=[first]))
    with pytest.raises(TypeError):
        write_metrics(tmp_path, Progress(history=[first, {"epoch": object()}]))
    assert read_metrics(tmp_path) == [first] and [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "content", [b"\0" * 40 + b"\n", b"{}\n", b"[1]\n", b'{"epoch": 1, "val/acc\n', b"\xff\xfe\n", b"3\n"]
)
def test_damaged_metrics_are_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1, "val/accuracy": 0.5}\n' + content)
    with pytest.raises(UserError, match="metrics.jsonl: not the metrics of a training") as told:
        read_metrics(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("epochs", [[1, 3], [1, 2, 2], [2], [2, 1]])
def test_epochs_that_are_lost_doubled_or_out_of_order_are_damage(tmp_path: Path, epochs: list[int]) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"epoch": {e}, "val/accuracy": 0.5}}\n' for e in epochs))
    with pytest.raises(UserError, match=r"metrics.jsonl: not the metrics of a training \(line \d is of epoch \d\)"):
        read_metrics(tmp_path)
