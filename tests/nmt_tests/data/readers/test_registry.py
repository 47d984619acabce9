from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.data.readers.base import Entry, RawListing
from nmt.data.readers.registry import (
    READERS,
    WITH_DIFFICULTY,
    ReadOptions,
    files_fingerprint,
    listed,
    register_reader,
)
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import SQUARE, write_image
from tests.paths import ROOT

OPTIONS = ReadOptions(name="mine", size=32, skip_bad=False, seed=0)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(READERS, "_items", {})


def test_a_reader_serves_each_name_it_is_registered_under():
    @register_reader("large")
    @register_reader("small", difficulty=True)
    def read(raw, options):
        return options.name

    assert [READERS.get(name, source="")(None, OPTIONS) for name in ("large", "small")] == ["mine", "mine"]
    assert "small" in WITH_DIFFICULTY and "large" not in WITH_DIFFICULTY
    WITH_DIFFICULTY.discard("small")


def test_a_listing_is_loaded_entry_by_entry_and_says_how_it_was_read(tmp_path):
    image = write_image(tmp_path / "a.png")
    entries = [Entry(f"cup/{k}", "cup", "train", str(k), image, SQUARE) for k in range(2)]
    source = listed(RawListing(entries=entries, files=[image]), OPTIONS, layout="large")
    assert source.options == {"layout": "large"} and source.keypoint_names() == {"cup": ["a", "b", "c"]}
    objects, left_out = source.load(source.tasks[1])
    assert [(o.id, o.image.shape) for o in objects] == [("cup/1", (32, 32, 3))] and not left_out


def test_a_damaged_image_ends_the_reading_or_is_counted(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    entry = Entry("cup/0", "cup", "train", "0", tmp_path / "bad.png", SQUARE)
    with pytest.raises(UserError, match=r"bad\.png"):
        listed(RawListing(entries=[entry]), OPTIONS).load(entry)
    skipping = ReadOptions(name="mine", size=32, skip_bad=True, seed=0)
    objects, left_out = listed(RawListing(entries=[entry]), skipping).load(entry)
    assert not objects and sum(left_out.values()) == 1


@pytest.mark.parametrize("where", ["id", "category", "photo", "points"])
def test_a_name_of_half_a_character_is_one_line(tmp_path, where):
    entry = Entry("cup/0", "cup", "train", "0", tmp_path / "caf\udce9.png", SQUARE)
    broken = {"points": {"be\ud83dak": (1.0, 1.0)}} if where == "points" else {where: "be\ud83dak"}
    with pytest.raises(UserError, match=r"has the name 'be\\ud83dak', which is not text") as error:
        listed(RawListing(entries=[dataclasses.replace(entry, **broken)]), OPTIONS)
    assert str(error.value).isascii()


def test_the_fingerprint_changes_with_a_file(tmp_path):
    image = write_image(tmp_path / "a.png")
    source = listed(RawListing(files=[image]), OPTIONS)
    before = source.fingerprint()
    Path(image).write_bytes(b"other")
    assert source.fingerprint() != before


def test_the_fingerprint_is_that_of_folders_names_and_contents(tmp_path):
    def made(folder: str, name: str, content: bytes, *, at: str) -> str:
        path = tmp_path / at / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return files_fingerprint([path])

    first = made("cat", "1.xml", b"x", at="here")
    assert made("cat", "1.xml", b"x", at="elsewhere") == first  # a data set may move
    others = [
        made("dog", "1.xml", b"x", at="here"),
        made("cat", "2.xml", b"x", at="here"),
        made("cat", "1.xml", b"y", at="a"),
        files_fingerprint([]),
    ]
    assert len({first, *others}) == 5


def test_files_that_cannot_be_read_have_a_constant_fingerprint(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    names = ["absent.jpg", "x" * 300, "\ud800.jpg", "caf\udce9.jpg", "pipe.jpg", "loop.jpg", "folder.jpg", "a\0b"]
    found = {name: files_fingerprint([tmp_path / name]) for name in names}
    assert len(set(found.values())) == len(names)
    assert found == {name: files_fingerprint([tmp_path / name]) for name in names}
    write_image(tmp_path / "absent.png").rename(tmp_path / "absent.jpg")
    assert files_fingerprint([tmp_path / "absent.jpg"]) != found["absent.jpg"]


def test_a_file_without_permission_is_as_if_it_had_no_content(tmp_path):
    image = write_image(tmp_path / "a.png")
    image.chmod(0)
    # Root reads everything, so another process of an ordinary user asks.
    code = "import sys; from pathlib import Path; from nmt.data.readers.registry import files_fingerprint\n"
    code += "import os; os.geteuid() or os.setuid(65534)\n"
    code += "print(files_fingerprint([Path(sys.argv[1])]), os.access(sys.argv[1], os.R_OK))"
    done = subprocess.run([sys.executable, "-c", code, str(image)], cwd=ROOT, capture_output=True, text=True)
    image.unlink()
    assert done.stdout.split() == [files_fingerprint([image]), "False"], done.stderr
