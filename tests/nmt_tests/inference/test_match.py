from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from nmt.api import load_matcher
from nmt.config import Config, with_overrides
from nmt.errors import UserError
from nmt.inference.match import match_images, never_trained, read_pair, warning_of


def test_files_match_as_the_same_arrays_do(small_checkpoint, picture, keypoints, tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file, table, image in zip(files, tables, (picture, picture[::-1]), strict=True):
        Image.fromarray(image).save(file)
        table.write_text("name,x,y\n" + "".join(f"{name},{x},{y}\n" for name, (x, y) in keypoints.items()))
    matches = match_images(small_checkpoint, files, [str(table) for table in tables])
    expected = load_matcher(small_checkpoint).match(picture, keypoints, picture[::-1].copy(), keypoints)
    assert np.array_equal(matches.indices, expected.indices) and matches.label == "a.png -> b.png"
    assert np.array_equal(matches.similarity, expected.similarity)


def test_an_error_names_the_file(small_checkpoint, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("nose,1,2\ntail,900,3\n")
    with pytest.raises(UserError, match=r"a.csv: keypoint 'tail' lies outside the image"):
        match_images(small_checkpoint, [tmp_path / "a.png"] * 2, [tmp_path / "a.csv"] * 2)
    with pytest.raises(UserError, match="but got 1 and 2"):
        match_images(small_checkpoint, [tmp_path / "a.png"], [tmp_path / "a.csv"] * 2)


def test_a_data_sets_own_files_match_and_nothing_is_loaded_for_a_wrong_one(
    small_checkpoint, picture, keypoints, tmp_path
):
    rows = [f"{image},bird,{name},{x},{y}" for image in ("a.png", "b.png") for name, (x, y) in keypoints.items()]
    (tmp_path / "points.csv").write_text("\n".join(["image,category,keypoint,x,y", *rows]))
    (tmp_path / "b.json").write_text(json.dumps(keypoints))
    for name in ("a.png", "b.png"):
        Image.fromarray(picture).save(tmp_path / name)
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    matches = match_images(small_checkpoint, images, [tmp_path / "points.csv", tmp_path / "b.json"])
    assert matches.names0 == matches.names1 == tuple(keypoints)
    twice = match_images(small_checkpoint, images[:1] * 2, [tmp_path / "points.csv"] * 2)
    assert np.array_equal(twice.indices, matches.indices)
    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"absent\.png: no such image"):
        match_images(tmp_path / "damaged.pt", [images[0], tmp_path / "absent.png"], [tmp_path / "points.csv"] * 2)


def test_a_file_name_that_no_font_has_is_drawn(small_checkpoint, picture, keypoints, tmp_path):
    name = b"\xff \n \xe9\xb3\xa5.png".decode(errors="surrogateescape")
    Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "a.json").write_text(json.dumps(keypoints))
    matches = match_images(small_checkpoint, [tmp_path / name] * 2, [tmp_path / "a.json"] * 2)
    assert matches.draw().ndim == 3 and matches.label.isprintable()


class Known:
    """What a warning reads of a matcher."""

    def __init__(self, **names: list[str]) -> None:
        self.categories, self.keypoint_names, self.config = tuple(names), names, Config()


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ("nose,1,2\ntail,5,6\n", None),  # one name is known
        ("nose,1,2\nfin,5,6\n", "none of its keypoint names was in the training (on bird, car)"),
        ("image,category,keypoint,x,y\na.png,bird,nose,1,2\na.png,bird,fin,5,6\n", None),  # the category counts
        ("image,category,keypoint,x,y\na.png,fish,tail,1,2\na.png,fish,beak,5,6\n", "its category 'fish' was not in"),
    ],
)
def test_what_was_never_trained_is_told(picture, tmp_path, content, warning):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text(content)
    pair = read_pair([tmp_path / "a.png"] * 2, [tmp_path / "a.csv"] * 2)
    told = never_trained(Known(bird=["beak", "tail"], car=["wheel"]), pair)
    assert told is None if warning is None else warning in told and "a.csv" in told
    assert never_trained(Known(), pair) is None  # an older checkpoint


def test_a_one_to_one_assignment_of_unequal_sides_is_warned_of(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("nose,1,2\ntail,5,6\n")
    (tmp_path / "b.csv").write_text("nose,1,2\ntail,5,6\nfin,7,8\n")
    matcher = Known()
    equal, unequal = (
        read_pair([tmp_path / "a.png"] * 2, [tmp_path / "a.csv", tmp_path / name]) for name in ("a.csv", "b.csv")
    )
    assert warning_of(matcher, unequal) is None
    matcher.config = with_overrides(Config(), {"decode.assignment": "hungarian"}, source="test")
    assert warning_of(matcher, equal) is None
    assert "2 and 3 keypoints, and decode.assignment = hungarian loses recall" in warning_of(matcher, unequal)
