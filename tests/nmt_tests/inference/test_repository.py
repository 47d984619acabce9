"""The files of a repository are checked before they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.api import load_matcher
from nmt.errors import UserError
from nmt.inference.export.hub import write_hub
from nmt.inference.load import load_trained
from tests.small_model import write_checkpoint


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("repository")
    paths = write_hub(load_trained(write_checkpoint(folder / "training" / "best.pt")), folder)
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{}", "no config.json of an exported matcher beside it"),
        ("config.json", b'{"model_type": "nmt", "version": 7}', "version 7; this program reads 1"),
        ("config.json", None, "no config.json of an exported matcher beside it"),
        ("model.safetensors", b"\x00" * 40, "unreadable"),
        ("model.safetensors", b"", "unreadable"),
    ],
)
def test_a_damaged_repository_is_one_line(
    written: dict[str, bytes], tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    files: dict[str, bytes | None] = {**written, file: content}
    for name, value in files.items():
        if value is not None:
            (tmp_path / name).write_bytes(value)
    with pytest.raises(UserError, match=message) as error:
        load_matcher(tmp_path / "model.safetensors")
    assert "\n" not in str(error.value)
