"""A picture is written whole, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tune.cli.picture import write_picture


def test_a_picture_has_the_pixels_it_was_given_and_its_path_is_printed(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
    assert capsys.readouterr().out == f"picture: {tmp_path / 'a.png'}\n"


def test_pixels_that_are_no_image_leave_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_picture(tmp_path / "a.png", np.zeros((5, 7, 9), dtype=np.complex64))
    assert not list(tmp_path.iterdir())
