"""What TensorBoard's own server shows of a search."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import backend_context

from nmt.training.tensorboard import TensorBoardLog
from tune.results import tensorboard
from tune.results.summary import Summary, TrialRecord
from tune.spaces.read import load_space
from tune.spaces.space import Space

TRIALS = ("000", "001", "002")
METRICS = {
    "train/loss": 1.0, "train/loss/layer": 0.5, "train/pairs_per_second": 3.0, "val/accuracy/cup": 0.5,
    "val/accuracy_fixed_decode": 0.4, "decode/epsilon": 0.2, "inference_seconds": 0.1, "seconds": 1.0, "workers": 1,
}  # fmt: skip
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, space_text: str) -> Iterator[str]:
    """The address of a TensorBoard over three trials: one complete, one failed after an epoch, one still running."""
    results = tmp_path_factory.mktemp("results")
    write_search(results, space_text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(results), "--host", "127.0.0.1"]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, lambda: len(get(address, "/data/plugin/scalars/tags")) == len(TRIALS) and sessions(address))
        yield address
    finally:
        process.terminate()
        process.wait()


def write_search(results: Path, space_text: str) -> None:
    space_file = results / "tiny.toml"
    space_file.write_text(space_text.replace("[space]", '[space]\n"model.decoder_layers" = { low = 1, high = 12 }'))
    space = load_space(space_file)
    tensorboard.write_experiment(results, space)
    for number, name in enumerate(TRIALS):
        directory = results / "trials" / name
        directory.mkdir(parents=True)
        values = {"optim.lr": 10.0**-number, "loss.layer_weighting": ("flat", "linear")[number % 2]}
        values |= {"model.decoder_layers": (6, 10, 2)[number]}
        tensorboard.write_start(directory, name, tensorboard.shown(space, values))
        log = TensorBoardLog(directory, first_epoch=1)
        for epoch, accuracy in enumerate((0.5, 0.7, 0.6), start=1):
            log.scalars(METRICS | {"val/accuracy": accuracy + number / 10}, epoch)
            log.picture("val/matches", np.zeros((8, 8, 3), np.uint8), epoch, "cup/1 → cup/2")
        log.close()
    ended = {"optim.lr": 1.0, "loss.layer_weighting": "flat", "model.decoder_layers": 6, "decode.epsilon": 0.2}
    tensorboard.write_start(results / "trials/000", "000", tensorboard.shown(space, ended))
    board = TensorBoardLog(results, first_epoch=1)
    for text in ("an earlier text", "# tiny\n\n| trial |\n| --- |\n| 000 |"):
        tensorboard.write_text(board, text)
    tensorboard.write_end(results / "trials/000", success=True, best={"val/accuracy": 0.7, "epoch": 2})
    tensorboard.write_end(results / "trials/001", success=False, best={})


def get(address: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def wait_for(address: str, ready: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"TensorBoard at {address} did not load the search within {seconds} s")


def sessions(server: str) -> dict[str, dict[str, Any]]:
    columns = [{"metric": {"group": "", "tag": tag}} for tag in ("val/accuracy_best", "val/accuracy")]
    body = {"experimentName": "", "allowedStatuses": STATUSES, "colParams": columns, "startIndex": 0, "sliceSize": 99}
    groups = get(server, "/data/plugin/hparams/session_groups", body)["sessionGroups"]
    return {group["name"]: group for group in groups}


def test_every_searched_key_and_both_metrics_are_columns(server: str) -> None:
    experiment = get(server, "/data/plugin/hparams/experiment", {"experimentName": ""})
    types = {info["name"]: info["type"] for info in experiment["hparamInfos"]}
    assert types == {
        "optim.lr": "DATA_TYPE_FLOAT64",
        "loss.layer_weighting": "DATA_TYPE_STRING",
        "model.decoder_layers": "DATA_TYPE_STRING",
        "decode.epsilon": "DATA_TYPE_FLOAT64",
    }
    domains = {info["name"]: info.get("domainDiscrete") for info in experiment["hparamInfos"]}
    assert domains["loss.layer_weighting"] == ["flat", "linear"] and domains["decode.epsilon"] == [0.01, 0.035, 0.2]
    shown = [(info["name"]["tag"], info["displayName"]) for info in experiment["metricInfos"]]
    assert shown == [("val/accuracy_best", "val/accuracy (best)"), ("val/accuracy", "val/accuracy (last)")]


def first_columns(root: Path, space: Space) -> list[str]:
    """The searched keys that TensorBoard shows at first: its backend's order, cut off where its page cuts it."""
    root.mkdir()
    tensorboard.write_experiment(root, space)
    (root / "000").mkdir()
    tensorboard.write_start(root / "000", "000", {"loss.layer": 0.3, "optim.lr": 1e-3})
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(root)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(root))
    context = backend_context.Context(TBContext(data_provider=provider))
    found = context.hparams_metadata(RequestContext(), "")
    experiment = context.experiment_from_metadata(RequestContext(), "", True, found, [])
    return [info.name for info in experiment.hparam_infos][:5]


def test_trained_keys_are_the_columns_shown_at_first(tmp_path: Path) -> None:
    columns = first_columns(tmp_path / "demo", load_space("demo"))
    assert set(columns) == {
        "loss.hyperspherical", "loss.layer", "loss.temperature", "model.decoder_layers", "optim.lr"
    }  # fmt: skip


def test_trained_keys_come_before_swept_ones(server: str) -> None:
    experiment = get(server, "/data/plugin/hparams/experiment", {"experimentName": ""})
    names = [info["name"] for info in experiment["hparamInfos"]]
    assert names == ["loss.layer_weighting", "model.decoder_layers", "optim.lr", "decode.epsilon"]


def test_complete_failed_and_running_trials_are_all_listed(server: str) -> None:
    found = sessions(server)
    assert {name: group["sessions"][0]["status"] for name, group in found.items()} == {
        "000": "STATUS_SUCCESS",
        "001": "STATUS_FAILURE",
        "002": "STATUS_UNKNOWN",
    }
    assert found["000"]["hparams"] == {
        "optim.lr": 1.0, "loss.layer_weighting": "flat", "decode.epsilon": 0.2, "model.decoder_layers": " 6"
    }  # fmt: skip


def test_whole_numbers_are_shown_whole_and_sort_as_numbers(server: str) -> None:
    layers = [group["hparams"]["model.decoder_layers"] for group in sessions(server).values()]
    assert sorted(layers) == [" 2", " 6", "10"]  # a page leaves the space out
    experiment = get(server, "/data/plugin/hparams/experiment", {"experimentName": ""})
    (info,) = [info for info in experiment["hparamInfos"] if info["name"] == "model.decoder_layers"]
    assert info["domainDiscrete"] == [f"{number:2d}" for number in range(1, 13)]


def test_validation_is_the_first_group_and_what_is_rarely_read_comes_last(server: str) -> None:
    tags = get(server, "/data/plugin/scalars/tags")["trials/002"]
    groups = list(dict.fromkeys(tag.partition("/")[0] for tag in sorted(tags)))
    assert groups == ["val", "while_training", "~categories", "~decode", "~speed"]  # TensorBoard opens the first two
    assert sorted(tag for tag in tags if tag.startswith("val/")) == ["val/accuracy", "val/accuracy_fixed_decode"]
    assert sorted(tag for tag in tags if tag.startswith("~speed/")) == [
        f"~speed/{name}" for name in ("inference_seconds", "pairs_per_second", "seconds", "workers")
    ]


def test_the_text_of_the_search_replaces_the_earlier_one(server: str) -> None:
    assert get(server, "/data/plugin/text/tags") == {".": ["summary"]}
    (text,) = get(server, "/data/plugin/text/text?run=.&tag=summary")
    assert "<h1>tiny</h1>" in text["text"] and "<td>000</td>" in text["text"]
    assert "model.decoder_layers" in str(get(server, "/data/plugin/hparams/experiment", {"experimentName": ""}))


def test_best_and_last_accuracy_are_numbers_of_their_epochs(server: str) -> None:
    values = {m["name"]["tag"]: (m["value"], m["trainingStep"]) for m in sessions(server)["000"]["metricValues"]}
    assert math.isclose(values["val/accuracy_best"][0], 0.7, rel_tol=1e-6) and values["val/accuracy_best"][1] == 2
    assert math.isclose(values["val/accuracy"][0], 0.6, rel_tol=1e-6) and values["val/accuracy"][1] == 3


def test_curves_compare_by_epoch_and_pictures_are_there(server: str) -> None:
    for name in TRIALS:
        run = f"trials%2F{name}"
        points = get(server, f"/data/plugin/scalars/scalars?tag=val%2Faccuracy&run={run}")
        assert [step for _, step, _ in points] == [1, 2, 3]
    assert set(get(server, "/data/plugin/images/tags")) == {f"trials/{name}" for name in TRIALS}


def test_the_text_names_best_and_default_and_what_was_searched() -> None:
    def trial(number: int, state: str, accuracy: float) -> TrialRecord:
        metrics = {"val/accuracy": accuracy, "epoch": 2}
        return TrialRecord(
            id=f"{number:03d}", state=state, searched={"optim.lr": 10.0**-number, "model.heads": 4},
            configuration={}, best=metrics, last=metrics, accuracy_fixed_decode=accuracy, epochs=2, seconds=1.0, seed=0,
            checkpoint=None, reason=None,
        )  # fmt: skip

    trials = (
        trial(0, "COMPLETE", 0.1),
        *(trial(n, "PRUNED", n / 100) for n in range(20, 33)),
        trial(40, "COMPLETE", 0.5),
    )
    summary = Summary(
        name="tiny", description="a | b", data="data/tiny", space={"optim.lr": "0 to 1", "model.heads": "2 | 4"},
        search={}, resources={}, epochs=2, seconds=1.0, trials=trials,
    )  # fmt: skip
    lines = tensorboard.summary_text(summary).splitlines()
    assert lines[0] == "# tiny"
    assert (
        "Not finished: 15 trials, 2 complete, 13 stopped early or paused, 0 failed; best minus default: +40.0 points"
        in lines
    )
    rows = [line for line in lines if "| COMPLETE |" in line or "| PRUNED |" in line]
    assert rows[0] == "| best | 040 | COMPLETE | 2 | 50.0% | 1e-40 | 4 |"
    assert rows[-1] == "| default | 000 | COMPLETE | 2 | 10.0% | 1 | 4 |" and len(rows) == tensorboard.ROWS + 1
    assert lines[-1] == "| model.heads | 2 &#124; 4 |"
