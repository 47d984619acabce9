"""Files that users give: every trouble with one is a line that names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.io.user_files import (
    check_file,
    is_file,
    is_folder,
    is_hidden,
    listed,
    mentions,
    open_file,
    read_json,
    read_start,
    read_text,
    read_xml,
    same_text,
    shown,
    shown_path,
    unreadable,
    visible_files,
    visible_folders,
)
from tests.nmt_tests.data.readers.raw_sets import or_one_line

IMPOSSIBLE = ["x" * 300, "a\0b", "\ud800", "/".join(["d" * 200] * 30)]
"""names that no file has"""


def one_line_of(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1 and text.isprintable() and len(text) < 600
    return text


# --- is it there ---


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_name_that_no_file_can_have_is_no_file_and_one_line(tmp_path, name):
    assert not is_file(tmp_path / name) and not is_folder(tmp_path / name)
    for read in (check_file, open_file, read_text, read_json, read_xml):
        with pytest.raises(UserError) as error:
            read(tmp_path / name)
        assert "cannot be read" in one_line_of(error)


def test_a_folder_a_pipe_a_circle_and_nothing_are_told_apart(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "broken").symlink_to("absent")
    (tmp_path / "text").write_text("x")
    for name, message in {
        "": "is a folder; give the image itself",
        "pipe": "is a pipe or a device; save the image as a file",
        "circle": "circle: cannot be read (Too many levels of symbolic links)",
        "broken": "broken: no such image",
        "text/below": "below: no such image",
        "absent": "absent: no such image",
    }.items():
        for open_ in (check_file, open_file):
            with pytest.raises(UserError) as error:
                open_(tmp_path / name, what="image")
            assert message in one_line_of(error)
    with open_file(tmp_path / "text") as file:
        assert file.read() == b"x"


def test_a_file_without_permission_says_so():
    error = unreadable(Path("a.csv"), PermissionError(13, "Permission denied"))
    assert str(error) == "a.csv: cannot be read (Permission denied); its permissions do not allow you to read it"


def test_files_are_listed_in_any_case_and_hidden_ones_never(tmp_path):
    for name in ("b.csv", "A.CSV", "c.Csv", "._a.csv", ".hidden.csv", "d.csv.txt", "d.json", "[x].csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.csv").mkdir()
    for folder in ("__MACOSX", ".git", "below"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "e.csv").write_text("")
    assert [path.name for path in visible_files(tmp_path, "*.csv")] == ["A.CSV", "[x].csv", "b.csv", "c.Csv"]
    assert [path.parent.name for path in visible_files(tmp_path, "E.CSV", below=True)] == ["below"]
    assert [path.name for path in visible_folders(tmp_path)] == ["below", "folder.csv"]
    assert visible_files(tmp_path / "absent", "*.csv") == visible_folders(tmp_path / "b.csv") == []
    with pytest.raises(UserError, match="cannot be read"):
        visible_files(tmp_path / ("x" * 300), "*.csv")


def test_links_to_folders_are_followed_and_each_folder_is_read_once(tmp_path):
    raw, disk = tmp_path / "raw", tmp_path / "disk"
    for folder in (raw / "real", disk):
        folder.mkdir(parents=True)
        (folder / "0.jpg").write_text("")
    for link, target in (("a link", "real"), ("disk", disk), ("loop", raw), ("nowhere", "absent")):
        (raw / link).symlink_to(target)
    assert visible_files(raw, "*.jpg", below=True) == [raw / "disk" / "0.jpg", raw / "real" / "0.jpg"]


def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.csv").write_text("")
    (tmp_path / "train").chmod(0o444)  # its names can be listed, its files cannot be opened
    (tmp_path / "val").mkdir(mode=0)
    tmp_path.chmod(0o755)
    code = "import os, sys; from pathlib import Path; from nmt.io.user_files import visible_files\n"
    code += "os.geteuid() or os.setuid(65534)\n"
    code += "os.chdir(sys.argv[1]); print(*visible_files(Path('train'), '*.csv'))\n"
    code += "visible_files(Path('.'), '*.csv', below=True)"
    folder = os.open(tmp_path, os.O_RDONLY)
    found = subprocess.run(
        [sys.executable, "-c", code, f"/proc/self/fd/{folder}"], capture_output=True, text=True, pass_fds=[folder]
    )
    os.close(folder)
    assert found.stdout == "train/a.csv\n"
    assert "UserError: val: cannot be read (Permission denied); its permissions" in found.stderr


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UserError, match=r"circle: cannot be read \(Too many levels of symbolic links\)"):
        visible_files(tmp_path / "circle", "*.csv")


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("a/b.csv", False),
        ("../a.csv", False),
        ("./a.csv", False),
        (".a/b.csv", True),
        ("a/._b", True),
        ("__MACOSX/a", True),
        ("~$points.csv", True),
        ("@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg", True),
        ("~points.csv", False),
    ],
)
def test_what_is_hidden(path, hidden):
    assert is_hidden(Path(path)) == hidden


# --- text ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_with_and_without_a_mark(tmp_path, encoding):
    (tmp_path / "a").write_bytes("Möwe, 鳥\n".encode(encoding))
    assert read_text(tmp_path / "a") == "Möwe, 鳥\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Möwe".encode("cp1252"), r"not readable CSV \(.*\); save it as UTF-8 \(in a spreadsheet: CSV UTF-8\)"),
        ("name,x".encode("utf-16-le"), "it holds zero bytes.*save it as UTF-8"),
        ("name,x".encode("utf-32"), "it holds zero bytes.*save it as UTF-8"),
        (b"\xff\xfea", "not readable CSV .*save it as UTF-8"),
        (b"PK\x03\x04\x14\0\xff", "not readable CSV .it is a ZIP archive or a spreadsheet"),
        (b"\xff\xd8\xff\xe0", "not readable CSV .it is a JPEG image"),
        (b"<!doctype html>", "not readable CSV .it is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "not readable CSV .it is a pointer of Git LFS .*git lfs pull",
        ),
    ],
)
def test_what_is_no_text_is_one_line_with_the_remedy(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.csv: .*{message}") as error:
        read_text(tmp_path / "a.csv", what="CSV")
    one_line_of(error)


# --- JSON and XML ---


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_key_twice_in_an_object_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json: an object has the key 'a' twice; keep one of them"):
        read_json(tmp_path / "a.json")


@given(
    st.recursive(
        st.none() | st.floats(allow_nan=False) | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_comes_back_as_it_was_written(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_that_expand_without_end_are_refused(tmp_path, encoding):
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
    bomb = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY e0 "x">{entities}]><a>&e11;</a>'
    (tmp_path / "bomb.xml").write_text(bomb, encoding=encoding)
    with pytest.raises(UserError, match=r"bomb\.xml: not readable XML \(it declares a document type"):
        read_xml(tmp_path / "bomb.xml")


def test_a_web_page_instead_of_an_annotation_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"<!DOCTYPE html>\n<html><body>404</body></html>")
    for read, what in ((read_json, "JSON"), (read_xml, "XML")):
        with pytest.raises(
            UserError, match=rf"/a: not readable {what} \(it is a web page, perhaps of a failed download"
        ):
            read(tmp_path / "a")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"a": ' + b"[" * 100_000, b"9" * 10_000, b"<a>", b"<a/><b/>"]
)
def test_damaged_annotations_are_one_line(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    for read in (read_json, read_xml):
        with pytest.raises(UserError, match="/a: not readable") as error:
            read(tmp_path / "a")
        assert "\n" not in str(error.value)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_are_one_line(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    for read in (read_text, read_json, read_xml):
        with or_one_line():
            read(tmp_path / "a")


# --- messages ---


def test_values_and_paths_are_short_and_printable_in_messages():
    assert shown("Möwe") == "'Möwe'" and shown(None) == "missing" and shown("a\u00a0b") == "'a\\xa0b'"
    assert len(shown("x" * 1000)) == 60 and shown("\ud800") == "'\\ud800'"
    assert shown_path(Path("a\nb/\ud800")) == "a\\nb/\\ud800" and len(shown_path(Path("x" * 1000))) == 300
    assert listed(["a", "b"]) == "a, b" and listed("abcde") == "a, b, c and 2 more" and listed([]) == ""


@given(st.text())
def test_composed_and_decomposed_letters_are_the_same_text(text):
    assert same_text(unicodedata.normalize("NFD", text)) == same_text(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_words_are_found_in_any_encoding_without_parsing(tmp_path, encoding):
    file = tmp_path / "a.json"
    file.write_text('{"shapes": []}', encoding=encoding)
    assert mentions(file, [b"keypoint", b'"shapes"'])
    for content in ("{}", ""):
        file.write_text(content)
        assert not mentions(file, [b'"shapes"'])


def test_the_first_bytes_are_read_or_a_line_says_why_not(tmp_path):
    (tmp_path / "a").write_bytes(b"abcdef")
    assert read_start(tmp_path / "a", most=3) == b"abc" and read_start(tmp_path / "a") == b"abcdef"
    for read in (read_start, lambda path: mentions(path, [b"a"])):
        with pytest.raises(UserError, match="none: no such file"):
            read(tmp_path / "none")
