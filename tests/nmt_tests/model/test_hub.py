"""Weights of a hub, from a real server on loopback that plays Hugging Face's."""

from __future__ import annotations

import hashlib
import http.server
import logging
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from nmt.config import ModelConfig
from nmt.errors import TemporaryError, UserError
from nmt.model import hub
from nmt.model.backbone import build_backbone, ready_weights
from nmt.model.hub import open_weights
from tests.paths import ROOT

NAME = "test_resnet.r160_in1k"
"""one of timm's models for tests: half a million parameters"""
MODEL = ModelConfig(backbone=NAME, weights="hub")


class Hub:
    """Files by their path REPOSITORY/resolve/main/FILE. `failures` answers are 503 or broken off first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.failures: list[str] = []
        self.sent = 0
        self.asked = 0
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(send=False)

            def do_GET(self) -> None:
                self.answer(send=True)

            def answer(self, *, send: bool) -> None:
                served.asked += 1
                content = served.files.get(self.path.lstrip("/"))
                failure = served.failures.pop(0) if served.failures and send else None
                if failure == "refuse":
                    self.send_error(404)
                    return
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                served.sent += send and failure is None
                self.send_response(200)
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if send:
                    self.wfile.write(content[: len(content) // 2] if failure == "break off" else content)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def put(self, content: bytes, file: str = "model.safetensors") -> None:
        self.files[f"timm/{NAME}/resolve/main/{file}"] = content

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model(NAME, pretrained=False).state_dict()


@pytest.fixture
def there(state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with the weights of the model, and a node that has nothing yet."""
    running = Hub()
    running.put(safetensors.torch.save(state))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.address)
    template = f"{running.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub, "FIRST_PAUSE", 0.01)
    another_node(monkeypatch, tmp_path / "first")
    yield running
    running.close()


def another_node(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("NMT_CACHE", str(home / "nmt"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))


def test_weights_are_kept_under_the_hash_of_their_content_and_need_the_hub_once(
    there: Hub, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = open_weights(NAME)
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert path == tmp_path / "first" / "nmt" / "weights" / f"{NAME}-{content}.safetensors"
    there.close()
    asked = there.asked
    shutil.rmtree(tmp_path / "first" / "hub")
    net = build_backbone(MODEL, 64).net
    assert there.asked == asked
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key])
    assert open_weights(NAME.partition(".")[0]) == path  # the tag that timm takes by default
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"cut", None])
def test_a_damaged_file_is_fetched_again(there: Hub, content: bytes | None) -> None:
    path = open_weights(NAME)
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:] if content is None else content)
    assert open_weights(NAME).read_bytes() == whole


@pytest.mark.parametrize("failures", [["refuse"], ["break off"], ["break off", "refuse", "break off"]])
def test_a_hub_that_fails_for_a_moment_is_asked_again(
    there: Hub, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there.failures = failures
    assert hub._is_whole(open_weights(NAME))
    assert not there.failures


@pytest.mark.parametrize("place", ["folder", "address"])
def test_a_node_without_internet_finds_what_another_left_beside_the_data(
    there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    data = str(tmp_path / "voc") if place == "folder" else f"{request.getfixturevalue('bucket')}/data/voc"
    another_node(monkeypatch, tmp_path / "first")
    first = ready_weights(MODEL, data, offer=True)
    there.close()
    another_node(monkeypatch, tmp_path / "second")
    with pytest.raises(TemporaryError):
        ready_weights(MODEL, tmp_path / "other data")
    assert ready_weights(MODEL, data) == first
    build_backbone(MODEL, 64)  # in the cache of the node now


def test_a_damaged_copy_beside_the_data_is_not_used(
    there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "voc"
    ready_weights(MODEL, data, offer=True)
    (copy,) = (data / "weights").iterdir()
    copy.write_bytes(copy.read_bytes()[:-1])
    another_node(monkeypatch, tmp_path / "second")
    sent = there.sent
    assert hub._is_whole(open_weights(NAME, data)) and there.sent == sent + 1
    assert "damaged, not used" in caplog.text


def test_beside_data_that_cannot_be_written_the_weights_are_not_left(
    there: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc" / "weights").write_text("in the way")
    assert ready_weights(MODEL, tmp_path / "voc", offer=True)
    assert "is not kept beside the data set" in caplog.text


def test_a_hub_out_of_reach_is_one_line_with_every_way_out(there: Hub, tmp_path: Path) -> None:
    there.close()
    with pytest.raises(TemporaryError) as caught:
        build_backbone(MODEL, 64)
    line = str(caught.value)
    assert "\n" not in line and f"{there.address}/timm/{NAME} cannot be reached" in line
    for way in ("HF_ENDPOINT", "HF_HOME", str(tmp_path / "first" / "nmt" / "weights"), "package", "local file"):
        assert way in line


def test_a_hub_that_must_not_be_asked_is_not_asked(there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TemporaryError, match="and HF_HUB_OFFLINE is set"):
        open_weights(NAME)
    assert there.asked == 0


def test_what_hugging_face_has_cached_needs_no_hub(there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    open_weights(NAME)
    shutil.rmtree(tmp_path / "first" / "nmt")
    there.close()
    assert hub._is_whole(open_weights(NAME))


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


def test_a_file_of_tensors_in_pytorchs_format_is_read_and_one_with_code_is_refused(
    there: Hub, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    there.files.clear()
    torch.save(state, tmp_path / "weights.bin")
    there.put((tmp_path / "weights.bin").read_bytes(), "pytorch_model.bin")
    assert open_weights(NAME).suffix == ".bin"
    build_backbone(MODEL, 64)


def test_a_file_that_runs_code_is_refused(there: Hub, tmp_path: Path) -> None:
    there.files.clear()
    there.put(pickle.dumps({"conv1.weight": Bomb(tmp_path / "it ran")}), "pytorch_model.bin")
    with pytest.raises(UserError, match="refused, the file holds Python objects"):
        open_weights(NAME)
    assert not (tmp_path / "it ran").exists()
    assert not [p for p in (tmp_path / "first" / "nmt" / "weights").iterdir() if not p.name.startswith(".")]


@pytest.mark.slow
def test_processes_of_a_node_download_once(there: Hub, tmp_path: Path) -> None:
    code = f"from nmt.model.hub import open_weights; print(open_weights({NAME!r}))"
    environment = {
        "HF_ENDPOINT": there.address, "HF_HOME": str(tmp_path / "hf"), "NMT_CACHE": str(tmp_path / "nmt"),
        "PATH": "/usr/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {process.communicate(timeout=300)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 2
    assert len(paths) == 1 and there.sent == 1


@pytest.mark.parametrize(
    "model", [ModelConfig(backbone="tf_efficientnet_lite0", weights=weights) for weights in ("package", "random")]
)
def test_other_weights_touch_no_network(there: Hub, tmp_path: Path, model: ModelConfig) -> None:
    assert (ready_weights(model, tmp_path / "voc", offer=True) is None) == (model.weights == "random")
    build_backbone(model, 64)
    assert there.asked == 0 and not (tmp_path / "voc").exists()


def test_a_model_without_weights_is_a_mistake(there: Hub) -> None:
    with pytest.raises(UserError, match="timm has no weights for efficientnet_b6") as caught:
        open_weights("efficientnet_b6")
    assert not isinstance(caught.value, TemporaryError) and there.asked == 0


def test_a_node_whose_cache_cannot_be_made_says_so(there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set NMT_CACHE to a folder that can be written"):
        open_weights(NAME)
