from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from nmt import checkpoint
from nmt.api import load_matcher
from nmt.confidence import IN_CHECKPOINT, Calibration
from nmt.errors import UserError
from nmt.inference import image_matcher
from nmt.inference.image_matcher import UNMATCHED, one_each


@pytest.fixture(scope="module")
def matcher(small_checkpoint):
    return load_matcher(str(small_checkpoint), device="cpu")


def test_a_picture_matches_itself(matcher, picture, keypoints):
    matches = matcher.match(picture, keypoints, picture, dict(reversed(keypoints.items())))
    assert matches.names() == {name: name for name in keypoints}
    assert matches.indices.tolist() == [[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]]
    assert (matches.indices.dtype, matches.similarity.dtype) == (np.int64, np.float32)
    assert str(matches).splitlines()[1].split() == ["nose", "nose", f"{matches.confidence[0]:.2f}"]


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
    assert matches.draw(side=300).shape == (240 + 18 + 18, 300 + 6 + 300, 3)


def test_source_keypoints_without_a_match_have_no_row(small_checkpoint, picture, keypoints):
    matcher = load_matcher(small_checkpoint, overrides={"decode.assignment": "hungarian"}, device="cpu")
    two = {name: keypoints[name] for name in ("nose", "tail")}
    matches = matcher.match(picture, keypoints, picture, two)
    assert len(matches.indices) == 2 and list(matches.names().values()).count(None) == 3
    assert len(matches.unmatched0) == 3 and matches.unmatched1 == ()


@pytest.fixture
def calibrated(small_checkpoint, tmp_path):
    """best.pt with a calibration: the confidence is a steep function of the plan's entry, and 0.5 at 0.1."""
    content = checkpoint.load(small_checkpoint)
    del content["version"]
    found = Calibration((1.0, 0.0, 0.0, 0.0), 2.3, 0.5, "f1", {}, {}, ((0.0, 0.5), (0.7, 0.9)))
    checkpoint.save(tmp_path / "best.pt", {**content, IN_CHECKPOINT: found.to_dict()})
    return tmp_path / "best.pt"


def test_matches_below_the_threshold_of_the_checkpoint_are_left_out(calibrated, small_checkpoint, picture, keypoints):
    other = {"a": (5.0, 5.0), "b": (95.0, 75.0)}
    every = load_matcher(small_checkpoint, device="cpu").match(picture, keypoints, picture[::-1].copy(), other)
    assert len(every.indices) == 5 and not every.calibrated and every.threshold is None
    off = load_matcher(calibrated, device="cpu", overrides={UNMATCHED: "off"})
    all_of = off.match(picture, keypoints, picture[::-1].copy(), other)
    assert np.array_equal(all_of.indices, every.indices) and all_of.calibrated and all_of.threshold is None
    assert all_of.confidence == pytest.approx(1 / (1 + np.exp(-2.3) / every.confidence), abs=1e-4)
    for overrides, threshold in (({}, 0.5), ({UNMATCHED: "0.62"}, 0.62), ({UNMATCHED: "precision=0.8"}, 0.7)):
        kept = load_matcher(calibrated, device="cpu", overrides=overrides)
        matches = kept.match(picture, keypoints, picture[::-1].copy(), other)
        high = all_of.indices[all_of.confidence >= threshold]
        assert set(map(tuple, matches.indices.tolist())) <= set(map(tuple, high.tolist()))
        assert set(matches.indices[:, 1].tolist()) == set(high[:, 1].tolist())  # each target once
        assert len(set(matches.indices[:, 1].tolist())) == len(matches.indices) and matches.threshold == threshold
        assert len(matches.unmatched0) == 5 - len(matches.indices)


def test_a_threshold_needs_a_calibration(small_checkpoint, tmp_path):
    reason = r"best\.pt: has no confidences, which decode\.unmatched = f1 needs; continue its training with --resume"
    with pytest.raises(UserError, match=reason):
        load_matcher(small_checkpoint, overrides={UNMATCHED: "f1"})
    content = checkpoint.load(small_checkpoint)
    del content["version"]
    content["config"]["decode"]["unmatched"] = "f1"
    checkpoint.save(tmp_path / "best.pt", content)
    with pytest.raises(UserError, match=reason):
        load_matcher(tmp_path / "best.pt")
    assert load_matcher(tmp_path / "best.pt", overrides={UNMATCHED: "off"}, device="cpu").calibration is None


def test_a_threshold_with_blanks_around_it_is_read_as_everywhere(calibrated):
    for given in (" precision=0.8 ", 0.7, "0.70"):
        found = load_matcher(calibrated, overrides={UNMATCHED: given}, device="cpu").calibration
        assert found is not None and found.threshold == 0.7


def test_a_target_goes_to_the_most_confident_of_its_sources():
    target, confidence = np.array([1, 1, -1, 0, 1]), np.array([0.4, 0.9, 1.0, 0.1, 0.9], np.float32)
    assert one_each(target, confidence).tolist() == [-1, 1, -1, 0, -1]


def test_pairs_in_one_call_match_as_one_by_one(matcher, picture, keypoints, monkeypatch):
    monkeypatch.setattr(image_matcher, "PAIRS_AT_ONCE", 2)
    turned = picture[::-1].copy()
    few = {name: keypoints[name] for name in ("tail", "nose", "paw")}
    pairs = [(picture, keypoints, turned, few), (turned, few, picture, keypoints), (picture, few, picture, few)]
    together = matcher.match_pairs(pairs, labels=["a", "b", "c"])
    assert [matches.label for matches in together] == ["a", "b", "c"]
    for pair, matches in zip(pairs, together, strict=True):
        alone = matcher.match(*pair)
        assert np.array_equal(matches.indices, alone.indices) and matches.names0 == alone.names0
        assert matches.similarity == pytest.approx(alone.similarity, abs=1e-5)
        assert matches.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert matcher.match_pairs([]) == []
    with pytest.raises(UserError, match=r"^pair 3: target keypoints: 1 keypoint; matching needs at least two"):
        matcher.match_pairs([*pairs[:2], (picture, few, picture, {"nose": (1, 2)})])


def test_an_image_that_was_seen_needs_no_backbone_pass(small_checkpoint, picture, keypoints):
    matcher, passes = load_matcher(small_checkpoint, device="cpu"), []
    matcher._features._backbone.register_forward_hook(lambda *_: passes.append(1))
    matcher.match(picture, keypoints, picture, keypoints)
    matcher.match(picture, {"a": (1, 2), "b": (3, 40)}, Image.fromarray(picture), keypoints)
    assert len(passes) == 1


def test_threads_may_share_a_matcher(matcher, picture, keypoints):
    images = [np.ascontiguousarray(np.roll(picture, 7 * k, axis=1)) for k in range(4)]
    expected = [matcher.match(image, keypoints, picture, keypoints).names() for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: matcher.match(image, keypoints, picture, keypoints).names(), images * 3))
    assert found == expected * 3


def test_threads_of_the_caller_are_as_before(small_checkpoint, picture, keypoints):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        load_matcher(small_checkpoint, device="cpu").match(picture, keypoints, picture, keypoints)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


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
    content = checkpoint.load(small_checkpoint)
    content["config"]["data"]["mode"] = "features"
    content["model"] = {k: v for k, v in content["model"].items() if k.startswith("head.")}
    del content["version"]
    checkpoint.save(tmp_path / "best.pt", content)
    built = []
    build = image_matcher.backbone_for_use
    monkeypatch.setattr(image_matcher, "backbone_for_use", lambda *args: built.append(args) or build(*args))
    matcher = load_matcher(tmp_path, device="cpu")
    for _ in range(2):
        assert matcher.match(picture, keypoints, picture, keypoints).names() == {name: name for name in keypoints}
    assert len(built) == 1
