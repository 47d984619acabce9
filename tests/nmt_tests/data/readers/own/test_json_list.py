import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.prepare.objects import prepare
from nmt.data.readers.own.json_list import recognises
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.sampler import PairSampler
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import config, images, listing_or_one_line, objects, read, write_json


def test_several_objects_of_an_image_stay_in_one_split_and_are_never_paired(tmp_path):
    images(tmp_path, 30)
    store_objects = [copy.deepcopy(o) for o in objects(30) for _ in range(2)]
    for k, found in enumerate(store_objects):
        found["split"] = "val" if k < 10 else "train"
        found["box"] = [0, 0, 40, 20]
    prepare(config(), raw=write_json(tmp_path, store_objects), out=tmp_path / "out")
    store = ObjectStore.open(tmp_path / "out")
    assert len(store) == 60 and "bird/3.jpg#1" in {store.id(row) for row in range(60)}
    for pair in PairSampler(store, "val").draw_distinct(np.random.default_rng(0), 0, 1000):
        assert store.photo[pair.row0] != store.photo[pair.row1]


def test_a_keypoint_that_is_null_is_not_labelled(tmp_path):
    images(tmp_path)
    content = objects()
    content[0]["keypoints"]["a"] = None
    content[1]["keypoints"]["a"] = [None, None]
    by_photo = {entry.photo: set(entry.points) for entry in read(write_json(tmp_path, content)).entries}
    assert by_photo["0.jpg"] == by_photo["1.jpg"] == {"b", "c"}


def change(**values):
    return lambda content: content[0].update(values)


DAMAGE = [
    (change(keypoints={"a": [1, 2, 2]}), r"object 0: keypoint a must be \[x, y\], but is \[1, 2, 2\]; leave out"),
    (change(keypoints={"a": [1]}), "object 0: keypoint a must be a list of 2"),
    (change(keypoints=[[1, 2]]), "object 0: keypoints must be an object"),
    (change(keypoints={"a\u00a0b": [1, 2]}), r"object 0: a keypoint: .*cannot be printed \(U\+00A0\)"),
    (change(keypoints={"": [1, 2]}), "object 0: a keypoint needs a name"),
    (change(category="bird\ud83d"), r"object 0: category: .*cannot be printed \(U\+D83D\)"),
    (change(category=None), "object 0: category needs a name, but is missing"),
    (change(image="9999.jpg"), "object 0: image: no image '9999.jpg' below"),
    (change(box=[1, 2, 3]), "object 0: box must be a list of 4"),
    (change(split="dev"), "object 0: no split 'dev'; known: test, train, val"),
    (lambda content: content.insert(3, 3), "object 3 must be an object, but is 3"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_wrong_value_is_named(tmp_path, damage, message):
    images(tmp_path)
    content = objects()
    damage(content)
    with pytest.raises(UserError, match=message) as error:
        read(write_json(tmp_path, content))
    str(error.value).encode()
    assert "\n" not in str(error.value)


def test_a_key_twice_in_an_object_is_refused(tmp_path):
    images(tmp_path)
    write_json(tmp_path, objects())
    text = (tmp_path / "points.json").read_text()
    (tmp_path / "points.json").write_text(text.replace('"a": [10, 5]', '"a": [10, 5], "a": [11, 5]', 1))
    with pytest.raises(UserError, match=r"points\.json: an object has the key 'a' twice"):
        read(tmp_path)


def test_only_lists_of_objects_with_an_image_are_recognised():
    assert recognises([]) and recognises(objects(1))
    assert not recognises([3]) and not recognises([{"data": {}}]) and not recognises({"image": "a"})


keys = st.sampled_from(["image", "category", "keypoints", "split", "box"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(keys, values), st.integers(0, 59))
def test_any_values_of_an_object_give_a_listing_or_one_line(tmp_path_factory, changes, k):
    root = tmp_path_factory.getbasetemp() / "list"
    if not root.exists():
        images(root)
    content = objects()
    content[k] |= changes
    listing_or_one_line(root, "points.json", json.dumps(content).encode())
