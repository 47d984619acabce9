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


def damages(size: int) -> list:
    """A cut, zeros and one flipped byte, at the ends of the file, of its parts, and in between."""
    places = [0, 3, size // 3, size // 2, size - 200, size - 90, size - 74, size - 73, size - 72, size - 40, size - 1]

    def flipped(place: int, bit: int):
        return lambda content: content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]

    return [
        *(flipped(place, bit) for place in places for bit in (1, 0x20)),
        *(lambda content, cut=cut: content[:cut] for cut in (0, 1, size // 2, size - 100, size - 73)),
        *(lambda content, n=n: content[:-n] + bytes(n) for n in (150, size // 2, size)),
        lambda content: content[: size // 2] + bytes(100) + content[size // 2 + 100 :],
        lambda content: content + b"more",
    ]


def test_every_damage_is_noticed_in_one_line_or_leaves_the_content_as_it_was(tmp_path):
    path = tmp_path / "best.pt"
    weight = torch.randn(5000)
    checkpoint.save(path, {"weight": weight})
    whole = path.read_bytes()
    noticed = 0
    for damage in damages(len(whole)):
        path.write_bytes(damage(whole))
        try:
            # Equal where the damage was to the mark of the hash alone.
            assert torch.equal(checkpoint.load(path)["weight"], weight)
        except checkpoint.DamagedError as error:
            noticed += str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert noticed >= len(damages(len(whole))) - 4


def test_a_checkpoint_without_a_hash_is_loaded_as_before(tmp_path):
    torch.save({"version": 1, "weight": torch.ones(3)}, tmp_path / "old.pt")
    assert checkpoint.load(tmp_path / "old.pt")["weight"].tolist() == [1.0] * 3
    assert checkpoint.digest(tmp_path / "old.pt") is None and not checkpoint.verify(tmp_path / "old.pt")


@pytest.mark.parametrize("links", [True, False])
def test_the_previous_checkpoint_is_kept_where_there_are_hard_links_and_where_not(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(PermissionError(1, "no hard links")))
    path, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    for step in range(3):
        checkpoint.save(path, {"step": step}, previous=previous)
        assert checkpoint.load(path)["step"] == step
        assert previous.is_file() == (step > 0) and (not step or checkpoint.load(previous)["step"] == step - 1)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_a_file_that_cannot_be_read_for_another_reason_is_not_called_damaged(tmp_path, monkeypatch):
    """Else a good checkpoint would be replaced because memory ran out, or a disk did not answer."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"step": 1})
    for error in (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OSError(5, "Input/output error")):
        monkeypatch.setattr(torch, "load", lambda *a, error=error, **k: (_ for _ in ()).throw(error))
        with pytest.raises((RuntimeError, UserError)) as caught:
            checkpoint.load(path)
        assert not isinstance(caught.value, checkpoint.DamagedError)
