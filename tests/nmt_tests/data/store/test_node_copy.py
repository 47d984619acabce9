"""Data sets at s3:// addresses, served on loopback, also over connections that break."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import run
from nmt.config import Config, ModelConfig, with_overrides
from nmt.data.prepare.features import add_features
from nmt.data.prepare.objects import prepare
from nmt.data.store.features import FeatureTable, features_pattern
from nmt.data.store.node_copy import local_copy
from nmt.data.store.objects import OBJECTS_FILE, ObjectStore
from nmt.data.store.verify import check
from nmt.errors import UserError
from nmt.io import location as location

MODEL = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")
CONFIG = with_overrides(Config(), {"data.name": "willow", "data.image_size": 64}, source="test")


def copies(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache").iterdir()
    return found


@pytest.fixture
def place(bucket: str) -> str:
    return f"{bucket}/sets/willow"


def test_a_set_prepared_at_an_address_is_that_of_a_folder_and_opens_on_another_machine(
    place, tmp_path, monkeypatch, shared_data
):
    assert prepare(CONFIG, raw=shared_data / "willow", out=place).made
    prepare(CONFIG, raw=shared_data / "willow", out=tmp_path / "here")
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    store = ObjectStore.open(local_copy(place))
    assert store.directory.is_relative_to(tmp_path / "elsewhere")
    assert (store.directory / OBJECTS_FILE).read_bytes() == (tmp_path / "here" / OBJECTS_FILE).read_bytes()
    assert not prepare(CONFIG, raw=shared_data / "willow", out=place).made
    assert check(place).rows == 70


def test_features_are_fetched_when_they_are_asked_for(place, tmp_path, monkeypatch, shared_data):
    prepare(CONFIG, raw=shared_data / "willow", out=place)
    add_features(place, MODEL)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    store = ObjectStore.open(local_copy(place))
    assert not (store.directory / "features").exists()
    folder = local_copy(place, features=[features_pattern(MODEL, 64)])
    table = FeatureTable.open(folder, MODEL, 64)
    assert len(table.nodes(69)) == 10 and table.path.is_relative_to(store.directory)


def test_a_copy_goes_on_over_connections_that_break(place, proxy, tmp_path, monkeypatch, shared_data):
    prepare(CONFIG, raw=shared_data / "willow", out=place)
    whole = (copies(tmp_path) / OBJECTS_FILE).read_bytes()
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(location, "PIECE", 100_000)
    proxy.cuts = [20_000] * 4
    assert (ObjectStore.open(local_copy(place)).directory / OBJECTS_FILE).read_bytes() == whole
    assert proxy.done >= 2


def test_a_preparation_survives_connections_that_break(place, proxy, shared_data, tmp_path, monkeypatch):
    proxy.cuts = [100] * 3
    prepare(CONFIG, raw=shared_data / "willow", out=place)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    assert proxy.done == 3 and check(place).rows == 70


def test_a_connection_that_keeps_breaking_is_one_line(place, proxy, tmp_path, shared_data, monkeypatch):
    prepare(CONFIG, raw=shared_data / "willow", out=place)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    proxy.cuts = [0] * 1000
    with pytest.raises(UserError, match=r"s3://.*: cannot be read after 4 attempts; the same command resumes") as error:
        ObjectStore.open(local_copy(place))
    assert "\n" not in str(error.value)


def test_no_data_set_at_an_address_names_the_command_that_makes_it(place):
    with pytest.raises(UserError, match=rf"{place}: no data set there; make it with: .* --prepare NAME --data {place}"):
        ObjectStore.open(local_copy(place))


def test_a_file_that_is_not_the_manifests_is_refused(place, proxy, tmp_path, monkeypatch, shared_data):
    prepare(CONFIG, raw=shared_data / "willow", out=place)
    fs, root = location.file_system(str(place))
    with fs.open_output_stream(f"{root}/{OBJECTS_FILE}") as file:
        file.write(b"x" * (copies(tmp_path) / OBJECTS_FILE).stat().st_size)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="objects.arrow: not the file its manifest names"):
        ObjectStore.open(local_copy(place))


def test_processes_that_open_at_once_share_one_copy(place, tmp_path, monkeypatch, shared_data):
    prepare(CONFIG, raw=shared_data / "willow", out=place)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    code = (
        "import sys; from nmt.data.store.node_copy import local_copy\n"
        "from nmt.data.store.objects import ObjectStore\n"
        "print((ObjectStore.open(local_copy(sys.argv[1])).directory / 'objects.arrow').stat().st_ino)"
    )
    command = [sys.executable, "-c", code, str(place)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1
    assert not any(process.returncode for process in processes)
    assert not list((tmp_path / "elsewhere").rglob("*.part"))


@pytest.mark.slow
def test_the_command_line_prepares_trains_and_evaluates_at_an_address(place, tmp_path, capsys, shared_data):
    data, results = ["--data", str(place)], ["--results", str(tmp_path / "results")]
    tiny = ["data.image_size=64", "model.backbone=tf_efficientnet_lite0", "model.weights=random", "model.d_model=24",
            "model.heads=2", "model.decoder_layers=1", "data.mode=features", "train.epochs=1",
            "train.steps_per_epoch=4", "data.eval_pairs=20"]  # fmt: skip
    settings = [argument for setting in tiny for argument in ("--set", setting)]
    assert run.main(["--prepare", "willow", "--raw", str(shared_data / "willow"), *data, *settings]) == 0
    assert run.main(["--train", "willow", *data, *results, *settings]) == 0
    assert run.main(["--evaluate", "willow-train", *data, *results]) == 0
    assert run.main(["--prepare", "willow", "--check", *data]) == 0
    assert "every row and file is right" in capsys.readouterr().out
