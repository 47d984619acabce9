from pathlib import Path

import numpy as np
import pytest
import scipy.io

from nmt.data.readers.matlab import read_numbers
from nmt.errors import UserError


def test_the_variable_is_read_whatever_else_the_file_holds(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"kps": np.array([[1.5, np.nan]]), "bbox": np.zeros((1, 4)), "name": "cat"})
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.mat", "kps", data_set="X"), [[1.5, np.nan]])
    assert read_numbers(tmp_path / "a.mat", "name", data_set="X").dtype.kind not in "iuf"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.mat: not a file; unpack the archive again"),
        (b"", "a.mat: not a readable .mat file"),
        (b"<html>404", "a.mat: not a readable .mat file"),
        (b"MATLAB 7.3 MAT-file" + b" " * 600, r"MATLAB 7.3, .* save\(FILE, 'kps', '-v7'\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, message: str):
    if content is not None:
        (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_numbers(tmp_path / "a.mat", "kps", data_set="X")
    assert "\n" not in str(error.value)


def test_a_variable_that_is_missing_is_named(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"points": np.zeros((2, 2))})
    with pytest.raises(UserError, match="a.mat: no variable kps; PF-PASCAL keeps the keypoints in it"):
        read_numbers(tmp_path / "a.mat", "kps", data_set="PF-PASCAL")
