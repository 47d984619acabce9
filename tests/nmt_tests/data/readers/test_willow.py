from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings, strategies
from PIL import Image

from nmt.data.readers import willow
from nmt.data.store.writer import RawObject
from nmt.errors import UserError


@pytest.fixture
def raw(tmp_path) -> Path:
    """Twelve photographs of one category, 40 x 20 pixels, keypoint k at (3 k + 2, k + 1)."""
    folder = tmp_path / "WILLOW-ObjectClass" / "Car"
    folder.mkdir(parents=True)
    for k in range(12):
        image = np.full((20, 40, 3), 10 * k, np.uint8)
        Image.fromarray(image).save(folder / f"car_{k:02}.png")
        points = np.array([(3 * j + 2, j + 1) for j in range(10)], float).T
        scipy.io.savemat(folder / f"car_{k:02}.mat", {"pts_coord": points})
    return folder.parent


def read(raw: Path, *, rotated=False, skip_bad=False, size=80, seed=0, left_out=None) -> list[RawObject]:
    objects = []
    for photograph in willow.photographs(raw):
        loaded, reasons = willow.load(photograph, size=size, seed=seed if rotated else None, skip_bad=skip_bad)
        objects += loaded
        if left_out is not None:
            left_out.update(reasons)
    return objects


def test_whole_photograph_is_resized_and_its_keypoints_scaled(raw):
    first = read(raw)[0]
    assert first.id == first.photo == "Car/car_00" and first.image.shape == (80, 80, 3)
    assert first.points == {f"point{j}": (2.0 * (3 * j + 2), 4.0 * (j + 1)) for j in range(10)}


def test_the_folder_above_will_do(raw):
    assert [o.id for o in read(raw.parent)] == [o.id for o in read(raw)]


def test_small_copy_is_split_50_25_25_percent():
    splits = willow.split_photographs([f"image{k}" for k in range(20)], "Car")
    assert Counter(splits.values()) == {"train": 10, "val": 5, "test": 5}
    assert splits == willow.split_photographs([f"image{k}" for k in reversed(range(20))], "Car")


@pytest.mark.parametrize("num", [40, 66, 109])
def test_full_category_trains_and_validates_on_its_first_twenty_by_name(num):
    names = [f"image_{k:04}" for k in range(num)]
    splits = willow.split_photographs(names, "Face")
    assert Counter(splits.values()) == {"train": 18, "val": 2, "test": num - 20}
    assert {name for name, split in splits.items() if split == "test"} == set(names[20:])


def test_real_photographs_split_as_measured(shared_data):
    objects = read(shared_data / "willow", size=32)
    assert Counter(o.split for o in objects) == {"train": 35, "val": 17, "test": 18}
    assert Counter(o.category for o in objects) == {"Car": 20, "Duck": 10, "Motorbike": 20, "Winebottle": 20}
    assert all(len(o.points) == 10 for o in objects)


def test_views_of_a_photograph_share_its_split_and_differ(raw):
    views = read(raw, rotated=True)
    assert len(views) == 120 and len({view.id for view in views}) == 120
    assert Counter(view.photo for view in views) == {f"Car/car_{k:02}": 10 for k in range(12)}
    assert all(len({v.split for v in views if v.photo == photo}) == 1 for photo in {v.photo for v in views})
    assert len({view.points["point5"] for view in views if "point5" in view.points}) > 100


def test_views_change_with_the_seed_alone(raw):
    def points(**options) -> list:
        return [view.points for view in read(raw, rotated=True, **options)]

    assert points() == points() != points(seed=1)


@settings(deadline=None)
@given(strategies.integers(0, 2**32))
def test_keypoints_follow_the_rotated_image(seed):
    # A photograph of bright dots: in the view, a dot lies where its keypoint went.
    points = np.array([(20.0, 24.0), (44.0, 20.0), (36.0, 46.0)])
    dots = np.zeros((64, 64, 3), np.uint8)
    y, x = np.mgrid[:64, :64] + 0.5
    for channel, (px, py) in enumerate(points):
        dots[..., channel] = 255 * ((x - px) ** 2 + (y - py) ** 2 < 6)
    view, moved = willow.rotated_view(Image.fromarray(dots), points, np.random.default_rng(seed))
    brightness = np.asarray(view).astype(float).clip(40) - 40
    for channel, (px, py) in enumerate(moved):
        if 6 <= px <= 58 and 6 <= py <= 58:
            weight = brightness[..., channel] / brightness[..., channel].sum()
            assert abs((weight * x).sum() - px) < 0.5 and abs((weight * y).sum() - py) < 0.5


def test_keypoints_beyond_the_view_are_dropped(raw):
    points = [xy for view in read(raw, rotated=True) for xy in view.points.values()]
    assert np.min(points) >= 0 and np.max(points) <= 80
    assert len(points) < 1200


def test_the_damaged_face_is_left_out_and_counted(raw):
    (raw / "Car").rename(raw / "Face")
    for suffix in (".png", ".mat"):
        (raw / "Face" / f"car_03{suffix}").rename(raw / "Face" / f"image_0160{suffix}")
    left_out = Counter()
    assert "Face/image_0160" not in [o.id for o in read(raw, left_out=left_out)]
    assert left_out == {"known to be damaged": 1}


def damage_annotation(folder: Path) -> None:
    (folder / "car_04.mat").write_bytes(b"not a mat file" * 20)


def damage_variable(folder: Path) -> None:
    scipy.io.savemat(folder / "car_04.mat", {"points": np.zeros((2, 10))})


def damage_shape(folder: Path) -> None:
    scipy.io.savemat(folder / "car_04.mat", {"pts_coord": np.zeros((2, 9))})


def damage_numbers(folder: Path) -> None:
    scipy.io.savemat(folder / "car_04.mat", {"pts_coord": np.full((2, 10), np.nan)})


def shares_for_pixels(folder: Path) -> None:
    scipy.io.savemat(folder / "car_04.mat", {"pts_coord": np.linspace(0, 1, 20).reshape(2, 10)})


def folder_for_annotation(folder: Path) -> None:
    (folder / "car_04.mat").unlink()
    (folder / "car_04.mat").mkdir()


def device_for_annotation(folder: Path) -> None:
    (folder / "car_04.mat").unlink()
    (folder / "car_04.mat").symlink_to("/dev/zero")


def folder_for_image(folder: Path) -> None:
    (folder / "car_04.png").unlink()
    (folder / "car_04.png").mkdir()


def damage_image(folder: Path) -> None:
    data = (folder / "car_04.png").read_bytes()
    (folder / "car_04.png").write_bytes(data[:40])


def remove_image(folder: Path) -> None:
    (folder / "car_04.png").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_annotation, r"car_04\.mat: not a readable \.mat file"),
        (damage_variable, r"car_04\.mat: no variable pts_coord"),
        (damage_shape, r"car_04\.mat: pts_coord must be 2 x 10 numbers, but is \(2, 9\); prepare .* of your own"),
        (damage_numbers, r"car_04\.mat: pts_coord must be finite"),
        (shares_for_pixels, r"car_04\.mat: all coordinates lie between 0 and 1, but pixels are read"),
        (folder_for_annotation, r"car_04\.mat: not a file; unpack the archive again"),
        (device_for_annotation, r"car_04\.mat: not a file"),
        (folder_for_image, r"car_04\.png: is a folder; give the image itself"),
        (damage_image, r"car_04\.png: not a readable image"),
        (remove_image, r"car_04\.mat: its image car_04\.png does not exist"),
    ],
)
def test_a_bad_file_is_named_or_skipped_and_counted(raw, damage, message):
    damage(raw / "Car")
    with pytest.raises(UserError, match=message) as error:
        read(raw)
    assert "\n" not in str(error.value)
    left_out = Counter()
    assert len(read(raw, skip_bad=True, left_out=left_out)) == 11 and left_out == {"unreadable": 1}


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_images_of_any_colour_mode_are_read(raw, mode):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    (raw / "Car" / "car_00.png").unlink()
    Image.new("RGB", (40, 20), (200, 100, 50)).convert(mode).save(raw / "Car" / f"car_00{suffix}")
    assert read(raw)[0].image.shape == (80, 80, 3)


def splits(raw: Path) -> dict[str, str]:
    return {photograph.id: photograph.split for photograph in willow.photographs(raw)}


def test_ghosts_of_macos_change_no_split(raw):
    before, files = splits(raw), willow.raw_files(raw)
    for path in (*raw.rglob("*.*"), raw / "Car"):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (raw / ".git").mkdir()
    (raw / ".git" / "x.mat").touch()
    assert splits(raw) == before and willow.raw_files(raw) == files
    macos = raw.parent / "__MACOSX" / raw.name / "Car"
    macos.mkdir(parents=True)
    (macos / "._car_00.mat").touch()
    assert splits(raw.parent) == before


def test_extensions_may_have_capitals(raw):
    before = [(o.id, o.split, dict(o.points)) for o in read(raw)]
    for path in list(raw.glob("Car/*")):
        path.rename(path.with_suffix(path.suffix.upper() if "0" in path.stem[-1] else path.suffix.title()))
    assert [(o.id, o.split, dict(o.points)) for o in read(raw)] == before


def test_of_two_images_of_a_photograph_the_png_is_read(raw):
    Image.new("RGB", (80, 40), (255, 0, 0)).save(raw / "Car" / "car_03.jpg")
    first = read(raw)[3]
    assert first.image.max() == 30 and first.points["point0"] == (4.0, 4.0)
    assert raw / "Car" / "car_03.jpg" in willow.raw_files(raw)


def test_two_annotations_of_a_photograph_are_named(raw):
    (raw / "Car" / "car_03.MAT").write_bytes((raw / "Car" / "car_03.mat").read_bytes())
    with pytest.raises(UserError, match=r"car_03\.MAT: car_03\.mat annotates the same photograph; remove one"):
        willow.photographs(raw)


@pytest.mark.parametrize("before", [b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM", b" " * 512, b""])
def test_a_file_of_matlab_7_3_says_how_to_save_it(raw, before):
    (raw / "Car" / "car_04.mat").write_bytes(before + b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    with pytest.raises(UserError, match=r"car_04\.mat: a file of MATLAB 7\.3, .*save\(FILE, 'pts_coord', '-v7'\)"):
        read(raw)


def test_keypoints_outside_the_photograph_are_dropped_and_counted(raw):
    points = np.array([(3 * j + 2, j + 1) for j in range(10)], float).T
    points[:, :2] = [[40.5, -1], [10, 10]]
    scipy.io.savemat(raw / "Car" / "car_00.mat", {"pts_coord": points})
    left_out = Counter()
    assert sorted(read(raw, left_out=left_out)[0].points) == [f"point{k}" for k in range(2, 10)]
    assert left_out == {"keypoints outside the image": 2}
    rotated = Counter()
    views = read(raw, rotated=True, left_out=rotated)[:10]
    assert rotated == left_out and not any({"point0", "point1"} & view.points.keys() for view in views)


def test_a_name_that_is_not_utf_8_is_one_line(raw):
    (raw / "Car" / "car_00.mat").rename(raw / "Car" / "car_\udce9.mat")
    with pytest.raises(UserError, match=r"Car: holds the name 'car_\\udce9\.mat', which is not UTF-8; rename it"):
        willow.photographs(raw)


def test_a_folder_without_annotations_says_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"is empty or not WILLOW-ObjectClass; looked for Car/\*\.mat"):
        willow.raw_files(tmp_path)
    with pytest.raises(UserError, match=r"does not exist; looked for Car/\*\.mat"):
        willow.raw_files(tmp_path / "absent")
