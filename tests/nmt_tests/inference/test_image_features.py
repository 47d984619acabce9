from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.inference.image_features import ImageFeatures
from nmt.model.efficientnet_lite import backbone_for_use


class Counted:
    """Features that count the passes of their backbone."""

    def __init__(self, **options: int) -> None:
        self.passes = 0
        backbone = backbone_for_use(ModelConfig(backbone="tf_efficientnet_lite0", weights="package"), 64)
        backbone.register_forward_hook(self._count)
        self.features = ImageFeatures(backbone, 64, device=torch.device("cpu"), **options)

    def _count(self, *_: object) -> None:
        self.passes += 1

    @torch.inference_mode()
    def see(self, image):
        return self.features.see(image, source="image")


def test_an_image_is_found_again_by_its_content(picture, tmp_path):
    counted = Counted()
    for name in ("a.png", "b.png"):
        Image.fromarray(picture).save(tmp_path / name)
    first = counted.see(tmp_path / "a.png")
    assert counted.see(str(tmp_path / "b.png")) is first  # the same bytes under another name
    assert counted.passes == 1
    assert counted.see(picture) is counted.see(Image.fromarray(picture)) and counted.passes == 2
    counted.see(np.ascontiguousarray(picture.transpose(1, 0, 2)))  # other proportions
    assert counted.passes == 3
    Image.fromarray(picture[::-1]).save(tmp_path / "a.png")  # changed on the disk
    assert not np.array_equal(counted.see(tmp_path / "a.png").image_HW3, first.image_HW3) and counted.passes == 4


def test_an_array_that_changes_later_leaves_what_was_seen(picture):
    counted, mine = Counted(), picture.copy()
    counted.see(mine)
    mine[:] = 0
    assert np.array_equal(counted.see(picture).image_HW3, picture) and counted.passes == 1
    with pytest.raises(ValueError, match="read-only"):
        counted.see(picture).image_HW3[:] = 0


def test_new_keypoints_are_read_from_the_maps(picture):
    counted = Counted()
    seen = counted.see(picture)
    points = np.array([[3.0, 4.0], [50.0, 20.0], [9.0, 60.0]], np.float32)
    both = counted.features.sample(seen, points)
    assert both.shape == (3, 432) and counted.passes == 1
    assert torch.equal(both[1:2], counted.features.sample(seen, points[1:2]))


def test_the_least_recently_used_goes_when_the_memory_is_full(picture):
    one = Counted().see(picture).num_bytes()
    counted = Counted(most_bytes=2 * one)
    images = [picture, picture[::-1].copy(), picture[:, ::-1].copy()]
    for image in (images[0], images[1], images[0], images[2]):
        counted.see(image)
    assert counted.passes == 3
    counted.see(images[0])
    assert counted.passes == 3
    counted.see(images[1])  # the least recently used when the third came
    assert counted.passes == 4
    small = Counted(most_bytes=one - 1)
    assert small.see(picture) is not small.see(picture)


def test_a_missing_image_is_one_line():
    with pytest.raises(UserError, match=r"absent\.jpg: no such image"):
        Counted().see(Path("absent.jpg"))
