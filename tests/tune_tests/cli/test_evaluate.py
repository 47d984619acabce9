"""What `--evaluate` refuses before it loads a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from tune.cli.evaluate import require_data_of


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "results" / "willow-train"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"data": {"name": "willow"}}')
    (folder / "best.pt").write_bytes(b"")
    return folder / "best.pt"


def test_the_data_set_of_the_checkpoint_is_named_as_the_store_would(checkpoint, tmp_path):
    with pytest.raises(UserError) as light:
        require_data_of(checkpoint, None)
    with pytest.raises(UserError) as heavy:
        ObjectStore.open(Path("data/willow"))
    assert str(light.value) == str(heavy.value) and "--prepare willow --raw DIR" in str(light.value)
    (tmp_path / "data" / "willow").mkdir(parents=True)
    (tmp_path / "data" / "willow" / "objects.arrow").write_bytes(b"")
    require_data_of(checkpoint, None)
    with pytest.raises(UserError, match="elsewhere/objects.arrow: not there"):
        require_data_of(checkpoint, "elsewhere")


def test_a_checkpoint_without_a_configuration_beside_it_is_left_to_the_evaluation(tmp_path):
    require_data_of(tmp_path / "best.pt", None)


@pytest.mark.parametrize("job", ["--evaluate", "--match"])
def test_only_decode_keys_can_be_set(refused, checkpoint, job):
    files = ["--images", "a", "b", "--keypoints", "a", "b"] if job == "--match" else []
    line = refused(job, "willow-train", *files, "--set", "optim.lr=1")
    assert "--set optim.lr: the checkpoint fixes it; only these can be set here: decode.sinkhorn_iterations" in line
    wrong = refused(job, "willow-train", *files, "--set", "decode.epsilon=0")
    assert "decode.epsilon must be a number above 0, but got 0" in wrong


@pytest.mark.parametrize("flag", ["--results", "--storage"])
def test_a_checkpoint_by_its_path_needs_no_results(refused, checkpoint, flag):
    line = refused("--evaluate", str(checkpoint), flag, "elsewhere")
    assert line.startswith(f"run.py: {flag}: {checkpoint} is a file, which is read directly")
