"""What a logger sees of its training, and what becomes of its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.config import Config, comparable, with_overrides
from nmt.errors import UserError
from nmt.training.logger import Guarded, Run, check_loggers, redacted


class Flaky:
    """A logger that fails as often as told; what it took is in `taken`."""

    def __init__(self, failures: dict[int, int]) -> None:
        self.failures, self.taken, self.closed = failures, [], 0

    def scalars(self, values: dict[str, Any], epoch: int) -> None:
        if self.failures.get(epoch, 0):
            self.failures[epoch] -= 1
            raise ConnectionError("no answer\nfrom the server")
        self.taken.append(epoch)

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        raise SystemExit("no pictures here")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("failures", "taken"),
    [({}, [1, 2, 3, 4]), ({2: 2}, [1, 2, 3, 4]), ({4: 2}, [1, 2, 3, 4]), ({2: 99}, [1, 3, 4])],
    ids=["well", "away for a while", "away at the end", "one value that it never takes"],
)
def test_values_that_a_logger_did_not_take_are_offered_again(failures: dict[int, int], taken: list[int]) -> None:
    told: list[str] = []
    logger = Flaky(dict(failures))
    guarded = Guarded(lambda: logger, told.append)
    for epoch in range(1, 5):
        guarded.scalars({"loss": 1.0}, epoch)
    guarded.close()
    assert logger.taken == taken and logger.closed == 1
    assert len(told) == bool(failures) and all("\n" not in line for line in told)


def test_a_logger_that_exits_or_never_opens_ends_nothing() -> None:
    told: list[str] = []
    guarded = Guarded(lambda: Flaky({}), told.append)
    for epoch in range(5):
        guarded.picture("val/matches", np.zeros((2, 2, 3), np.uint8), epoch, "")
    guarded.close()

    def absent() -> Flaky:
        raise OSError(28, "No space left on device")

    never = Guarded(absent, told.append)
    never.scalars({"loss": 1.0}, 1)
    never.close()
    assert told == ["no pictures here", "[Errno 28] No space left on device"]


def test_no_message_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    text = redacted("key 0123456789abcdef at https://me:pass@host:5000/api and file:///home/me failed")
    assert text == "key *** at https://***@host:5000/api and file:///home/me failed"


def test_a_run_is_named_within_its_search_and_continues_where_it_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "demo/trials/007"
    folder.mkdir(parents=True)
    run = Run(directory=folder, root=tmp_path / "demo", config={})
    assert (run.group, run.name) == ("demo", "trials/007")
    alone = Run(directory=folder, root=folder, config={})
    assert (alone.group, alone.name) == ("007", "007")
    known, keep = run.identity("mlflow")
    keep("abc")
    resumed = Run(directory=folder, root=tmp_path / "demo", config={}, history=({"epoch": 1},))
    assert known is None and run.identity("mlflow")[0] is None and resumed.identity("wandb")[0] is None
    assert resumed.identity("mlflow")[0] == "abc"
    (folder / "logger_mlflow.json").write_text("{broken")
    assert resumed.identity("mlflow")[0] is None


def test_an_unknown_logger_and_a_missing_package_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def config(*names: str) -> Config:
        return with_overrides(Config(), {"train.loggers": list(names)}, source="--set")

    check_loggers(config("tensorboard", "csv", "wandb", "mlflow"))
    with pytest.raises(UserError, match="train.loggers: no logger 'mlfow'; did you mean 'mlflow'"):
        check_loggers(config("mlfow"))
    with pytest.raises(UserError, match='train.loggers must be a list of names, but got "csv"'):
        with_overrides(Config(), {"train.loggers": "csv"}, source="--set")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'normalized-matching-transformer\[wandb\]'"):
        check_loggers(config("csv", "wandb"))
    assert comparable(config("csv")) == comparable(config()) == comparable(Config())
