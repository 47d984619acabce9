"""Pictures that jobs write: whole, as PNG, and printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmt.errors import UserError
from tune.cli.picture import check_picture, write_picture


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", r"^folder: is a folder; give the picture itself, such as folder/match\.png"),
        (".", "is a folder"),
        ("pair.jpg", r"^pair\.jpg: the picture is written as PNG; give a name that ends with \.png"),
        ("pair", r"ends with \.png"),
        ("absent/pair.png", r"^absent/pair\.png: no folder absent; make it first"),
        ("own.png/pair.png", r"no folder own\.png"),
        (f"{'x' * 300}/pair.png", "no folder x"),
        ("own.png", r"^own\.png: is one of the images to read; write elsewhere with --out"),
        ("link.png", "is one of the images to read"),
    ],
)
def test_a_picture_that_could_not_be_written_is_refused_before_any_work(name, message):
    Path("folder").mkdir()
    Path("own.png").write_bytes(b"the user's")
    Path("link.png").symlink_to("own.png")
    with pytest.raises(UserError, match=message) as error:
        check_picture(Path(name), inputs=[Path("absent.png"), Path("own.png")])
    assert len(str(error.value).splitlines()) == 1


def test_a_picture_that_can_be_written_passes():
    Path("folder").mkdir()
    Path("older.png").write_bytes(b"an older picture")
    for name in ("pair.png", "folder/Pair.PNG", "older.png"):
        check_picture(Path(name), inputs=[Path("own.png")])
