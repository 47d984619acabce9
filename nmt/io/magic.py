"""Name what a file holds by its first bytes, for the messages about files that are not what their name says."""

from __future__ import annotations

_KINDS = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"II+\x00", "a TIFF image"),
    (b"MM\x00+", "a TIFF image"),
    (b"8BPS", "a Photoshop image"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript drawing"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
)
_BRANDS = {
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"hevc": "a HEIC image",
    b"heim": "a HEIC image",
    b"heis": "a HEIC image",
    b"mif1": "a HEIC image",
    b"msf1": "a HEIC image",
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"crx ": "a raw photograph of a camera (CR3)",
}
"""brand of a file in ISO's container for media (the bytes after `ftyp`) -> what it holds; other brands are videos"""


def kind_of(start: bytes) -> str | None:
    """Name what a file holds, with its article: "a PNG image"; None where its bytes do not tell.

    Args:
        start: the first bytes of the file, at least 256 of them if there are so many.
    """
    if not start:
        return "an empty file"
    if not start.strip(b"\0"):
        return "a file of zeros alone"
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "a video")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "a WebP image"
    if start[:2] == b"BM" and start[6:10] == bytes(4):
        return "a BMP image"
    return kind_of_text(start) or next((kind for mark, kind in _KINDS if start.startswith(mark)), None)


def kind_of_text(start: bytes) -> str | None:
    """Name what a text holds that is neither a table nor an annotation; see `kind_of`."""
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS (`git lfs pull` fetches the file itself)"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps of a failed download"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "an SVG drawing"
    return None
