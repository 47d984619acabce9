import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from nmt.config import Config, DataConfig, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.store.node_copy import local_copy
from nmt.data.store.objects import ObjectStore
from nmt.data.store.photographs import Photographs, mixes_photographs, open_photographs
from nmt.data.store.present import PHOTOGRAPHS_FILE
from nmt.data.store.ready import local_data, ready_data
from nmt.data.store.verify import check
from nmt.data.stream.pairs import PairStream
from nmt.errors import TemporaryError, UserError
from tests.nmt_tests.data.readers.raw_sets import Voc

CONFIG = with_overrides(Config(), {"data.name": "voc", "data.image_size": 32, "model.weights": "random"}, source="test")
OBJECTS = with_overrides(CONFIG, {"data.mix_partner": "objects"}, source="test")


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """Objects cut out of photographs, which are beside them."""
    folder = tmp_path_factory.mktemp("voc")
    prepare(CONFIG, raw=Voc(folder / "raw").fill(bounds=(0, 0, 30, 16)).finish(), out=folder / "voc")
    return folder / "voc"


@pytest.fixture
def without(voc, tmp_path) -> Path:
    """The same without the photographs."""
    shutil.copytree(voc, tmp_path / "voc")
    (tmp_path / "voc" / PHOTOGRAPHS_FILE).unlink()
    return tmp_path / "voc"


def test_a_data_set_without_them_is_refused_with_the_command_that_makes_them(without):
    command = (
        r"photographs\.arrow: not there; make it with: python run\.py --prepare voc --raw DIR --set data\.mode=images "
        r"--set data\.mix_partner=photographs --set data\.image_size=32 --data \S+/voc$"
    )
    with pytest.raises(UserError, match=command):
        ready_data(without, [CONFIG])
    with pytest.raises(UserError, match=command):
        PairStream(ObjectStore.open(without), CONFIG.data, split="train", seed=0)
    assert ready_data(without, [OBJECTS]).folder == without
    PairStream(ObjectStore.open(without), OBJECTS.data, split="train", seed=0)


def test_photographs_that_go_away_during_a_search_are_a_temporary_fault(voc, without):
    assert local_data(voc, CONFIG) == voc
    with pytest.raises(TemporaryError, match=str(without)):
        local_data(without, CONFIG)


def test_stored_features_need_none(without):
    features = DataConfig(name="voc", mode="features", image_size=32)
    assert not mixes_photographs(features) and open_photographs(ObjectStore.open(without), features) is None


def test_mixed_images_are_whole_photographs_of_train(voc):
    """MixUp alone, undone: what is left of a target image once its object is taken away, up to rounding."""
    store, photographs = ObjectStore.open(voc), Photographs(voc)
    only_mixup = {"data.erasing": 0, "data.cutmix": 0, "data.mixup": 1}
    config = with_overrides(CONFIG, only_mixup, source="test").data
    stream = PairStream(store, config, split="train", seed=0)
    candidates = np.stack([photographs.image(row) for row in range(len(photographs))]).astype(float)
    found = set()
    for index in range(60):
        pair, mixed = stream.pair(0, index), stream.batch(0, [index]).target.image_B3HW[0].permute(1, 2, 0).numpy()
        rest = mixed.astype(float) - (target := store.image(pair.row1).astype(float))
        # mixed = w * target + (1 - w) * other, so rest = (1 - w) * (other - target) with 1 - w in [0.4, 0.6].
        moves = candidates - target
        shares = (moves * rest).sum((1, 2, 3)) / (moves**2).sum((1, 2, 3))
        errors = np.abs(rest - shares[:, None, None, None] * moves).mean((1, 2, 3))
        best = int(errors.argmin())
        assert errors[best] < 1 and 0.39 < shares[best] < 0.61
        found.add(best)
    assert len(found) > 20 and found <= set(photographs.of("train").tolist())


def test_a_pair_is_a_function_of_its_index_in_any_process(voc):
    always = with_overrides(CONFIG, {"data.cutmix": 1, "data.mixup": 1}, source="test").data
    stream = PairStream(ObjectStore.open(voc), always, split="train", seed=3)
    there = pickle.loads(pickle.dumps(stream))
    whole = stream.batch(1, range(6))
    for k in reversed(range(6)):
        alone = there.batch(1, [k])
        assert (alone.source.image_B3HW[0] == whole.source.image_B3HW[k]).all()
        assert (alone.target.image_B3HW[0] == whole.target.image_B3HW[k]).all()


def test_a_copy_of_an_address_has_them_only_where_they_are_read(voc, bucket, tmp_path, monkeypatch):
    there = f"{bucket}/sets/voc"
    prepare(CONFIG, raw=voc.parent / "raw", out=there)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "elsewhere"))
    assert not (local_copy(there) / PHOTOGRAPHS_FILE).exists()
    assert not (ready_data(there, [OBJECTS]).folder / PHOTOGRAPHS_FILE).exists()
    assert len(Photographs(ready_data(there, [CONFIG]).folder)) == 60


def test_a_damaged_file_is_found_by_check(voc, tmp_path):
    assert PHOTOGRAPHS_FILE in check(voc).files
    shutil.copytree(voc, tmp_path / "voc")
    path = tmp_path / "voc" / PHOTOGRAPHS_FILE
    content = bytearray(path.read_bytes())
    first = content.index(b"\xff\xd8\xff")
    content[first : first + 4] = b"\0\0\0\0"
    path.write_bytes(content)
    (tmp_path / "voc" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"photographs\.arrow: row 0 cannot be decoded"):
        check(tmp_path / "voc")
