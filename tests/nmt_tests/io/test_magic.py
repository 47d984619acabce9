"""What the first bytes of a file tell."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nmt.io.magic import kind_of


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WebP", "JPEG 2000"])
def test_the_formats_that_pillow_writes_are_named(form):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, form.replace(" ", "").upper())
    assert kind_of(buffer.getvalue()[:512]) == f"a {form} image"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", "an empty file"),
        (b"\0\0\0", "a file of zeros alone"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heic", "a HEIC image"),
        (b"\0\0\0\x1cftypavif", "an AVIF image"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (b"PK\x03\x04....xl/workbook.xml", "a ZIP archive or a spreadsheet"),
        (b"\xef\xbb\xbf\r\n<HTML><head>", "a web page, perhaps of a failed download"),
        (b'<?xml version="1.0"?>\n<svg width="4">', "an SVG drawing"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS (`git lfs pull` fetches the file itself)",
        ),
    ],
)
def test_other_files_are_named(start, kind):
    assert kind_of(start) == kind


@pytest.mark.parametrize(
    "start",
    [
        b"name,x,y\n",
        b"BMW,1,2\nrear,3,4\n",
        b'{"<svg": [1, 2]}',
        b"<?xml version='1.0'?><annotation>",
        b"\xef\xbb\xbfa;b",
    ],
)
def test_tables_and_annotations_are_not_taken_for_anything(start):
    assert kind_of(start) is None


@given(st.binary(max_size=600))
def test_any_bytes_have_a_kind_or_none(start):
    assert kind_of(start) is None or kind_of(start)
