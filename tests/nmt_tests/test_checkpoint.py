import os
import pickle
import subprocess
import sys

import pytest
import torch

from nmt import checkpoint
from nmt.errors import UserError


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path / "deep" / "a.pt", {"weight": torch.arange(3), "step": 7})
    content = checkpoint.load(tmp_path / "deep" / "a.pt")
    assert content["weight"].tolist() == [0, 1, 2] and content["step"] == 7


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from nmt import checkpoint
from nmt.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
checkpoint.save(path, {"weight": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    checkpoint.save(path, {"weight": torch.zeros(1 << 20)})
except UserError as error:
    print(error)
"""


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "checkpoint.pt"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout and done.stdout.count("\n") == 1
    assert checkpoint.load(path)["weight"].tolist() == [1.0] * 10
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_hostile_pickle_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write in (lambda f: pickle.dump({"version": 1, "x": Hostile()}, f), lambda f: torch.save({"x": Hostile()}, f)):
        with open("evil.pt", "wb") as file:
            write(file)
        with pytest.raises(UserError, match="evil.pt: not a readable checkpoint"):
            checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="bad.pt: not a readable checkpoint") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint there"):
        checkpoint.load(tmp_path / "none.pt")
