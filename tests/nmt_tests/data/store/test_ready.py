"""What is asked of a data set before a training starts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nmt.config import Config, with_overrides
from nmt.data.store.ready import check_pairs, local_data, ready_data
from nmt.errors import TemporaryError, UserError
from tests.nmt_tests.toy_training import small


def images(**changes: object) -> Config:
    values = {"data.name": "toy", "data.mode": "images", "data.image_size": 64, "model__weights": "random"} | changes
    return with_overrides(Config(), {k.replace("__", "."): v for k, v in values.items()}, source="test")


def test_a_data_set_with_its_features_is_ready_for_both_modes(toy_data: Path) -> None:
    ready_data(toy_data, [small(), images(), small(optim__lr=1e-4)])


def test_another_image_size_names_both_and_the_setting(toy_data: Path) -> None:
    message = r"are 64 pixels wide, but data.image_size is 96; set it to 64, or .* --set data.image_size=96"
    with pytest.raises(UserError, match=message):
        ready_data(toy_data, [images(), images(data__image_size=96)])


def test_features_that_only_one_of_many_configurations_needs_are_missed(toy_data: Path) -> None:
    other = small(model__backbone="resnet18")
    with pytest.raises(UserError, match=r"--prepare toy --raw DIR --features resnet18"):
        ready_data(toy_data, [small(), images(), other])
    ready_data(toy_data, [small(), images(model__backbone="resnet18")])  # images mode needs none


def test_a_data_set_without_pairs_is_refused_with_what_was_left_out(make_store, toy_objects) -> None:
    store = make_store([o for o in toy_objects() if o.split != "val"])
    with pytest.raises(UserError, match=r"toy: no objects in split val, so it cannot be trained on; mend .* --prepare"):
        ready_data(store.directory, [images()])
    store.info.left_out["unreadable"] = 7
    with pytest.raises(UserError, match="left out when it was made: 7 unreadable; mend the raw data set"):
        check_pairs(store)


def test_an_absent_data_set_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run.py --prepare toy"):
        ready_data(tmp_path / "toy", [images()])


def test_the_weights_of_every_backbone_that_is_trained_on_images_are_opened(toy_data: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    file = images(model__backbone="resnet18", model__weights=str(tmp_path / "w.pth"))
    package = images(model__backbone="tf_efficientnet_lite0", model__weights="package")
    found = ready_data(toy_data, [small(), images(model__weights="random"), file, package]).weights
    assert set(found) == {f"resnet18 ({tmp_path}/w.pth)", "tf_efficientnet_lite0 (package)"}
    (tmp_path / "w.pth").unlink()
    with pytest.raises(UserError, match="w.pth: no such file"):
        ready_data(toy_data, [package, file])
    assert not (toy_data / "weights").exists()


def test_a_data_set_that_is_replaced_during_a_search_is_not_trained_on(toy_data: Path, tmp_path: Path) -> None:
    ready = ready_data(toy_data, [small()])
    assert local_data(ready, small()) == toy_data
    replaced = dataclasses.replace(ready, identity="0123456789ab")
    with pytest.raises(TemporaryError, match=f"was replaced by the data set {ready.identity} while 0123456789ab"):
        local_data(replaced, small())


def remove(data: Path) -> None:
    shutil.rmtree(data)


def damage(data: Path) -> None:
    (data / "objects.arrow").write_bytes(b"garbage")


def remove_features(data: Path) -> None:
    shutil.rmtree(data / "features")


@pytest.mark.parametrize("fault", [remove, damage, remove_features])
def test_a_data_set_that_goes_away_during_a_search_is_a_temporary_fault(
    toy_data: Path, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    data = Path(shutil.copytree(toy_data, tmp_path / "toy"))
    assert local_data(data, small()) == data
    fault(data)
    with pytest.raises(TemporaryError) as caught:
        local_data(data, small())
    assert "\n" not in str(caught.value) and str(data) in str(caught.value)
    if fault is remove_features:
        assert local_data(data, images()) == data  # a training on images reads none
