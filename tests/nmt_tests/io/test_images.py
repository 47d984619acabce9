"""Images as users have them: any mode, any metadata, any damage."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from nmt.errors import UserError
from nmt.io.images import MAX_PIXELS, open_image, picture
from tests.nmt_tests.data.readers.raw_sets import or_one_line

GREY_HW = np.tile(np.arange(200, dtype=np.uint8), (20, 1))
SCALED_HW = (GREY_HW * (255 / 199)).round()
FRAMES = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
in_folder = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def with_orientation(value: int | str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def chunk(kind: bytes, content: bytes, *, check: int | None = None) -> bytes:
    """A chunk of a PNG file; `check` instead of the right sum is damage."""
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right if check is None else check)


def png(width: int, height: int, depth: int, colour: int, pixels: bytes, *more: bytes) -> bytes:
    """A PNG file written by hand; `more` chunks stand before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def read(folder: Path, content: bytes) -> Image.Image:
    (folder / "image").write_bytes(content)
    return open_image(folder / "image")


# --- modes ---


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "YCbCr", "LAB"])
def test_images_of_any_mode_are_read_as_colour(tmp_path, mode):
    form = "TIFF" if mode in ("CMYK", "YCbCr", "LAB") else "PNG"
    grey = Image.fromarray(GREY_HW).convert("RGB")
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.applyTransform(grey, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        stored = grey.convert(mode)
    found = np.asarray(read(tmp_path, encoded(stored, form)))
    assert found.shape == (20, 200, 3)
    if mode not in ("1", "P"):  # those have few colours
        assert abs(found[..., 0].astype(int) - GREY_HW).max() <= 4


@pytest.mark.parametrize("dtype", ["<u2", ">u2", np.int32, np.float32])
@pytest.mark.parametrize(("factor", "offset"), [(257, 0), (1, 0), (3, 1000)])
def test_grey_values_of_many_bits_are_scaled_by_their_range(tmp_path, dtype, factor, offset):
    values = Image.fromarray((GREY_HW.astype(np.int64) * factor + offset).astype(dtype))
    from_file, given = read(tmp_path, encoded(values, "TIFF")), picture(values, source="it")
    assert np.array_equal(np.asarray(from_file), np.asarray(given))
    assert abs(np.asarray(from_file)[..., 0] - SCALED_HW).max() <= 1
    if values.mode == "I;16":
        assert np.array_equal(np.asarray(read(tmp_path, encoded(values, "PNG"))), np.asarray(given))


def test_big_endian_and_negative_values_are_scaled_too():
    big = Image.frombytes("I;16B", (200, 20), (GREY_HW.astype(np.int64) * 300).astype(">u2").tobytes())
    below = Image.fromarray(GREY_HW.astype(np.float32) * 1e30 - 1e32)
    for image in (big, below):
        assert abs(np.asarray(picture(image, source="it"))[..., 1] - SCALED_HW).max() <= 1


def test_an_image_of_one_value_is_black_and_one_without_a_number_is_refused(tmp_path):
    assert not np.asarray(picture(Image.new("F", (3, 2), 7.5), source="it")).any()
    for bad in (np.nan, np.inf, -np.inf):
        values = np.ones((2, 3), np.float32)
        values[1, 1] = bad
        with pytest.raises(UserError, match=r"image: not a readable image \(it holds NaN or infinite values; replace"):
            read(tmp_path, encoded(Image.fromarray(values), "TIFF"))


def test_sixteen_bits_of_colour_are_read_by_their_high_byte(tmp_path):
    assert read(tmp_path, png(1, 1, 16, 2, b"\0" + bytes([200, 9, 100, 9, 50, 9]))).getpixel((0, 0)) == (200, 100, 50)


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa", "RGBX", "HSV", "I;16", "I;16B", "I;16L", "I;16N", "P"])
def test_images_of_pillow_may_have_its_rarer_modes(mode):
    found = picture(Image.new(mode, (4, 3)), source="it")
    assert found.mode == "RGB" and found.size == (4, 3)


# --- transparency, frames ---


def test_transparent_images_lie_on_white(tmp_path):
    layer = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    layer.paste((200, 0, 0, 255), (2, 0, 4, 2))
    half = Image.new("LA", (4, 2), (0, 128))
    for content in (encoded(layer, "PNG"), encoded(layer, "WEBP", lossless=True), encoded(layer, "GIF")):
        found = read(tmp_path, content)
        assert [found.getpixel((x, 0)) for x in (0, 3)] == [(255, 255, 255), (200, 0, 0)]
    assert read(tmp_path, encoded(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    transparent_black = encoded(Image.new("L", (4, 2), 0), "PNG", transparency=0)
    assert read(tmp_path, transparent_black).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_the_first_of_several_frames_is_read(tmp_path, form):
    red, green, blue = read(tmp_path, encoded(FRAMES[0], form, save_all=True, append_images=FRAMES[1:])).getpixel(
        (1, 1)
    )
    assert red > 200 and green < 50 and blue < 50


# --- orientation and other metadata ---


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_as_viewers_do(tmp_path, orientation):
    Image.new("RGB", (40, 20)).save(tmp_path / "image.jpg", exif=with_orientation(orientation))
    turned = (40, 20) if orientation < 5 else (20, 40)
    assert open_image(tmp_path / "image.jpg").size == turned
    assert open_image(tmp_path / "image.jpg", size=(40, 20)).size == (40, 20)
    with pytest.raises(UserError, match=r"image\.jpg: .* pixels, but its annotation says 7 x 7"):
        open_image(tmp_path / "image.jpg", size=(7, 7))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_brings_the_marked_corner_home(tmp_path, orientation):
    marked = Image.new("RGB", (3, 2))
    marked.putpixel((0, 0), (255, 0, 0))
    content = encoded(marked, "PNG", exif=with_orientation(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(np.asarray(read(tmp_path, content)), np.asarray(expected))


@pytest.mark.parametrize("orientation", [0, 9, 99])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_impossible_orientation_is_none(tmp_path, orientation, form):
    content = encoded(Image.new("RGB", (40, 20)), form, exif=with_orientation(orientation))
    assert read(tmp_path, content).size == (40, 20)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", [2, 5, 7, 12, 99], ids=["text", "rational", "bytes", "double", "unknown"])
def test_an_orientation_that_is_no_number_is_none(tmp_path, form, kind):
    entry = struct.pack("<HHI4s", 0x0112, kind, 1 if kind != 2 else 4, b"6\0\0\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    assert read(tmp_path, encoded(Image.new("RGB", (40, 20)), form, exif=exif)).size == (40, 20)


PIXELS = b"\0\7\7\7\7" * 2
EXIF = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHII", 2, 0x0112, 3, 1, 6)


@pytest.mark.parametrize(
    "damage",
    [
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"eXIf", b"not at all"),
        chunk(b"eXIf", b""),
        chunk(b"eXIf", EXIF, check=1),
        chunk(b"tEXt", b"key\0value", check=1),
        chunk(b"zTXt", b"key\0\0" + zlib.compress(b"x" * 80_000_000)),
        chunk(b"iCCP", b"profile\0\0no profile"),
        chunk(b"pHYs", b"1"),
        chunk(b"gAMA", b""),
    ],
    ids=lambda content: f"{content[4:8].decode()}-{len(content)}",
)
def test_damaged_metadata_of_a_png_leave_the_picture(tmp_path, damage):
    assert read(tmp_path, png(4, 2, 8, 0, PIXELS, damage)).size == (4, 2)


@in_folder
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_damaged_exif_never_loses_the_picture(tmp_path, damage, right_check):
    exif = with_orientation(6)
    exif[0x010F] = "maker"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    content = bytearray(exif.tobytes())
    for place, value in damage:
        content[place % len(content)] = value
    as_png = png(4, 2, 8, 0, PIXELS, chunk(b"eXIf", bytes(content), check=None if right_check else 1))
    plain = encoded(Image.new("RGB", (4, 2)), "JPEG")
    as_jpeg = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + bytes(content) + plain[2:]
    for file in (as_png, as_jpeg):
        assert sorted(read(tmp_path, file).size) == [2, 4]


# --- sizes, memory ---


def test_an_image_of_too_many_pixels_is_one_line_and_a_large_one_gives_no_warning(tmp_path, monkeypatch, capfd):
    with pytest.raises(
        UserError, match=r"image: 188 megapixels, but at most 179 are read; save a smaller copy"
    ) as error:
        read(tmp_path, png(15_000, 12_500, 8, 0, b""))
    assert "\n" not in str(error.value) and pytest.approx(MAX_PIXELS, abs=1) == 2 * Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, encoded(Image.new("RGB", (15, 10)), "PNG")).size == (15, 10)
    assert capfd.readouterr() == ("", "")


# --- what is no image ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is an empty file"),
        (b"\0" * 500, "it is a file of zeros alone"),
        (b"\n<!DOCTYPE HTML><html><body>404", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a pointer of Git LFS .`git lfs pull`"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image that cannot be decoded; convert it to JPEG or PNG"),
        (b"8BPS" + b"\0" * 40, "a Photoshop image that cannot be decoded; convert it"),
        (b"%PDF-1.7\n", "it is a PDF document"),
        (b"\x89PNG\r\n\x1a\n????", "a PNG image that is damaged; copy or download it again"),
        (b"some text", "its format is not known; convert it to JPEG or PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", r"it is a drawing \(EPS\); convert it"),
    ],
)
def test_what_is_no_image_is_named_by_its_bytes(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"image: not a readable image \(.*{message}") as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_a_truncated_or_missing_image_is_named(tmp_path):
    rng = np.random.default_rng(0)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)), "JPEG")
    with pytest.raises(UserError, match=r"image: not a readable image \(image file is truncated.*; copy or download"):
        read(tmp_path, whole[:900])
    with pytest.raises(UserError, match=r"absent\.jpg: no such image"):
        open_image(tmp_path / "absent.jpg")
    with pytest.raises(UserError, match=r"is a folder; give the image itself"):
        open_image(tmp_path)


@in_folder
@given(
    st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.sampled_from(["png", "jpeg", "gif", "tiff", "bmp"])
)
def test_damaged_image_bytes_give_an_image_or_one_line(tmp_path, place, damage, form):
    content = bytearray(encoded(Image.effect_noise((30, 20), 50).convert("RGB"), form))
    content[place % len(content) : place % len(content) + len(damage)] = damage
    with or_one_line():
        assert read(tmp_path, bytes(content)).mode == "RGB"


def test_a_damaged_tiff_prints_nothing_and_standard_error_works_afterwards(tmp_path, capfd):
    content = bytearray(encoded(Image.effect_noise((30, 20), 50), "TIFF", compression="tiff_deflate"))
    content[60:64] = b"\xff" * 4
    with pytest.raises(UserError, match="not a readable image"):
        read(tmp_path, bytes(content))
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "after")


def test_an_image_of_pillow_that_cannot_be_loaded_is_named():
    content = encoded(Image.effect_noise((60, 40), 50), "PNG")
    with pytest.raises(UserError, match=r"^source image: not a readable image \(image file is truncated"):
        picture(Image.open(io.BytesIO(content[:-900])), source="source image")
    closed = Image.open(io.BytesIO(content))
    closed.close()
    with pytest.raises(UserError, match=r"^source image: not a readable image"):
        picture(closed, source="source image")
    with pytest.raises(UserError, match=r"^source image: an image of 0 x 5 pixels is empty"):
        picture(Image.new("RGB", (0, 5)), source="source image")
