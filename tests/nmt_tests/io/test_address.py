"""What is an address and what a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.io.address import absolute, address_parts, is_address


@pytest.mark.parametrize("text", ["s3://bucket/x", "gs://bucket/deep/x", "s3://b/x?region=eu"])
def test_an_address_means_the_same_from_everywhere(text):
    assert is_address(text) and absolute(text) == text
    assert is_address(Path(text))  # a path of it has one slash less


@pytest.mark.parametrize("text", ["data/voc", "/data/voc", "c:/data", "file:///data", "a:b"])
def test_a_folder_is_no_address(text):
    assert not is_address(text)
    assert absolute(text) == str(Path.cwd() / text)


def test_an_address_has_a_scheme_and_a_path():
    assert address_parts("gs://bucket/deep/x?a=b") == ("gs", "bucket/deep/x?a=b")
