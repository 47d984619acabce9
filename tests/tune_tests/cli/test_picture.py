"""Pictures that jobs write: whole, as PNG, and printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt.errors import UserError
from tune.cli.picture import write_picture


def test_a_picture_comes_back_as_it_was_drawn_and_its_path_is_printed(capsys):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_picture(Path("new/pair.png"), image)
    with Image.open("new/pair.png") as file:
        assert file.format == "PNG"
        np.testing.assert_array_equal(np.asarray(file), image)
    assert capsys.readouterr().out == "picture: new/pair.png\n"


def test_a_picture_that_cannot_be_written_is_one_line_and_leaves_nothing(capsys):
    Path("file").write_text("")
    with pytest.raises(UserError, match="file/pair.png: cannot be written"):
        write_picture(Path("file/pair.png"), np.zeros((2, 2, 3), np.uint8))
    assert [path.name for path in Path().iterdir()] == ["file"] and not capsys.readouterr().out
