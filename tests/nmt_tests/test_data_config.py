"""The `data` branch by itself."""

from __future__ import annotations

from nmt.data_config import DataConfig


def test_every_key_that_makes_keypoints_without_a_partner_is_off_as_published() -> None:
    data = DataConfig()
    assert (data.pairs, data.outliers, data.cross, data.outliers_from) == ("intersection", 0.0, 0.0, -1)


def test_only_train_alone_leaves_val_to_validate_with() -> None:
    assert DataConfig().validates and not DataConfig(train_split="train+val").validates
