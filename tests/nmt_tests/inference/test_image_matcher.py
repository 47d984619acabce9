from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nmt.api import load_matcher
from nmt.errors import UserError


@pytest.fixture(scope="module")
def matcher(small_checkpoint):
    return load_matcher(str(small_checkpoint), device="cpu")


def test_a_picture_matches_itself(matcher, picture, keypoints):
    matches = matcher.match(picture, keypoints, picture, dict(reversed(keypoints.items())))
    assert matches.names() == {name: name for name in keypoints}
    assert matches.indices.tolist() == [[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]]
    assert (matches.indices.dtype, matches.similarity.dtype) == (np.int64, np.float32)
    assert str(matches).splitlines()[0] == f"nose -> nose  {matches.similarity[0]:.2f}"


def test_similarity_is_the_models_cosine_of_each_match(matcher, picture, keypoints, monkeypatch):
    outputs = []
    handle = matcher._model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    matches = matcher.match(picture, keypoints, picture[:, ::-1], keypoints)
    handle.remove()
    similarity_NM = outputs[0].similarity_BNM[0].numpy()
    assert np.array_equal(matches.similarity, similarity_NM[tuple(matches.indices.T)])


def test_path_pil_and_array_are_the_same_image_and_points_need_no_names(matcher, picture, keypoints, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    points = np.array(list(keypoints.values()))
    expected = matcher.match(picture, keypoints, picture, keypoints)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture)):
        matches = matcher.match(image, points, image, points.tolist())
        assert np.array_equal(matches.indices, expected.indices)
        assert np.array_equal(matches.similarity, expected.similarity)
        assert matches.names0 is None and matches.names() == {str(n): str(n) for n in range(5)}


def test_proportions_of_an_image_do_not_matter(matcher, picture, keypoints):
    wide = picture.repeat(3, axis=1)
    stretched = {name: (3 * x, y) for name, (x, y) in keypoints.items()}
    expected = matcher.match(picture, keypoints, picture, keypoints)
    matches = matcher.match(picture, keypoints, wide, stretched)
    assert matches.names() == expected.names()
    assert np.allclose(matches.similarity, expected.similarity, atol=0.02)
    assert matches.points1[0].tolist() == [36.0, 10.0]
    assert matches.draw(side=300).shape == (240 + 18, 300 + 6 + 300, 3)


def test_source_keypoints_without_a_match_have_no_row(matcher, picture, keypoints):
    two = {name: keypoints[name] for name in ("nose", "tail")}
    matches = load_one_to_one(matcher).match(picture, keypoints, picture, two)
    assert len(matches.indices) == 2 and list(matches.names().values()).count(None) == 3
    assert sum(line.endswith("None") for line in str(matches).splitlines()) == 3


def load_one_to_one(matcher):
    from nmt.config import with_overrides
    from nmt.inference.image_matcher import ImageMatcher

    config = with_overrides(matcher.config, {"decode.assignment": "hungarian"}, source="test")
    return ImageMatcher(matcher._model, config, device=torch.device("cpu"))


def test_what_cannot_be_read_is_one_line_that_names_the_side(matcher, picture, keypoints, tmp_path):
    broken = {**keypoints, "nose": (float("nan"), 3.0)}
    shares = {name: (x / 100, y / 80) for name, (x, y) in keypoints.items()}
    for given, message in (
        ((None, keypoints, picture, keypoints), "^source image: expected a path, a PIL image or an array"),
        ((picture, keypoints, tmp_path / "absent.jpg", keypoints), r"absent\.jpg: no such image"),
        ((picture, keypoints, picture / 255, keypoints), r"^target image: an array must be \(H, W, 3\) of uint8"),
        ((picture, keypoints, picture, broken), "^target keypoints: keypoint 'nose' is NaN or infinite"),
        ((picture, shares, picture, keypoints), "^source keypoints: all coordinates lie between 0 and 1"),
        ((picture, "a.csv", picture, keypoints), r"^source keypoints: keypoints must be \(N, 2\) numbers"),
    ):
        with pytest.raises(UserError, match=message):
            matcher.match(*given)


def test_a_training_folder_and_overrides_are_accepted(small_checkpoint):
    matcher = load_matcher(small_checkpoint.parent, overrides={"decode.assignment": "hungarian"}, device="cpu")
    assert matcher.config.decode.assignment == "hungarian"


def test_a_wrong_place_or_key_is_one_line(small_checkpoint, tmp_path):
    with pytest.raises(UserError, match="no best.pt in this folder"):
        load_matcher(tmp_path)
    with pytest.raises(UserError, match="no checkpoint there"):
        load_matcher(tmp_path / "best.pt")
    with pytest.raises(UserError, match="did you mean 'decode.assignment'"):
        load_matcher(small_checkpoint, overrides={"decode.asignment": "argmax"})
    with pytest.raises(UserError, match="optim.lr is read in training"):
        load_matcher(small_checkpoint, overrides={"optim.lr": 0.1})


def test_a_head_trained_on_features_builds_its_backbone_once(
    small_checkpoint, picture, keypoints, tmp_path, monkeypatch
):
    from nmt import checkpoint
    from nmt.model import backbone

    content = checkpoint.load(small_checkpoint)
    content["config"]["data"]["mode"] = "features"
    content["model"] = {k: v for k, v in content["model"].items() if k.startswith("head.")}
    del content["version"]
    checkpoint.save(tmp_path / "best.pt", content)
    built = []
    build = backbone.build_backbone
    monkeypatch.setattr(backbone, "build_backbone", lambda *args: built.append(args) or build(*args))
    matcher = load_matcher(tmp_path, device="cpu")
    for _ in range(2):
        assert matcher.match(picture, keypoints, picture, keypoints).names() == {name: name for name in keypoints}
    assert len(built) == 1
