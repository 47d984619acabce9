"""Raw data sets as people really have them, each through `run.py --prepare`: read whole, or refused in one line.

The folders are built by shared/cases/make_cases.py, whose README says what a user expects of each.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import run
from nmt.data.store.objects import ObjectStore
from nmt.io.table import columns
from tests.paths import SHARED

MAKER = SHARED / "cases" / "make_cases.py"
pytestmark = pytest.mark.skipif(not MAKER.is_file(), reason="needs shared/cases")

GOOD = {"bird": (6, 4, 2)}
"""category -> objects in train, val and test: what most of the folders hold"""
ONE_LEFT_OUT = {"bird": (5, 4, 2)}

READ = {
    "01_csv_semicolon_decimal_comma": GOOD,
    "02_csv_bom": GOOD,
    "03_csv_utf16_tab": GOOD,
    "05_csv_macos_appledouble": GOOD,
    "06_csv_backslashes": GOOD,
    "07_csv_nfc_vs_nfd": GOOD,
    "08_csv_upper_extension": GOOD,
    "09_csv_empty_xy_unlabelled": GOOD,
    "11_csv_12_images_no_split": {"bird": (8, 2, 2)},
    "13_csv_split_valid": GOOD,
    "16_csv_header_capitals": GOOD,
    "22_csv_keypoint_case_and_space": GOOD,
    "26_json_labelme": {"object": (8, 2, 2)},
    "29_json_bom": GOOD,
    "31_json_weird_category_names": dict.fromkeys(
        ("-rf", "..hidden", "<img src=x onerror=alert(1)>", "a b", "w" * 200, "x:y%", "鳥"), (6, 4, 2)
    ),
    "32_all_images_alike": GOOD,
    "35_csv_keypoints_collinear_and_identical": GOOD,
    "36_csv_single_pixel_and_extreme_images": GOOD,
    "38_csv_second_table_of_sizes_beside": GOOD,
    "39_csv_twenty_images_no_split": {"bird": (16, 2, 2)},
    "40_coco_full_annotations_folder": {"person": (12, 12, 0)},
    "41_coco_same_names_in_train_and_val": {"bird": (12, 12, 0)},
    "42b_coco_ap10k_split1_images_moved": {"bird": (40, 10, 10)},
    "43_coco_roboflow": {"bird": (12, 12, 12)},
    "45_coco_cvat_default": {"bird": (32, 4, 4)},
    "46_coco_label_studio_paths": GOOD,
    "49_coco_bbox_all_zero": GOOD,
    "50_coco_bbox_empty_list": GOOD,
    "53_coco_exif_180": GOOD,
    "55_coco_stray_json_in_root": {"bird": (10, 2, 0)},
    "56_coco_grouped_bbox_category": GOOD,
    "57_coco_two_categories_share_photos": {"cat": (5, 4, 2), "dog": (6, 4, 2)},
    "57b_one_dog_left_after_loading": {"cat": (6, 4, 2), "dog": (0, 2, 0)},
    "64_image_bad_exif_gps_zero_rational": GOOD,
    "64b_image_double_exif_header": GOOD,
    "65_image_modes": GOOD,
    "71_willow_upper_extension": {"Car": (6, 3, 3), "Duck": (6, 3, 3)},
    "80_spair_windows_underscore_crlf": {"car": (6, 4, 2), "cat": (6, 4, 2)},
    "82_spair_layout_bom": {"car": (6, 4, 2), "cat": (6, 4, 2)},
    "83_spair_string_coordinates": {"car": (6, 4, 2), "cat": (6, 4, 2)},
    "85_spair_ap10k_like_no_gradings": {"car": (6, 4, 2), "cat": (6, 4, 2)},
    "86_spair_macos_appledouble": {"car": (6, 4, 2), "cat": (6, 4, 2)},
    "90_voc_plain": {"car": (63, 7, 20)},
}
"""case -> what its data set holds"""

NOTED = {
    "11_csv_12_images_no_split": "divided within each category",
    "22_csv_keypoint_case_and_space": "Beak, beak differ in case",
    "38_csv_second_table_of_sizes_beside": "image_sizes.csv",
    "40_coco_full_annotations_folder": r"captions_train2017\.json.*instances_train2017\.json",
    "42b_coco_ap10k_split1_images_moved": r"train from annotations/ap10k-train-split1\.json",
    "43_coco_roboflow": r"val from valid/_annotations\.coco\.json",
    "55_coco_stray_json_in_root": r"label_map\.json",
    "57b_one_dog_left_after_loading": "1 no other photograph with 2 common keypoints",
}
"""case -> a line of the report that must be there"""

REFUSED = {
    "04_csv_cp1252": r"points\.csv: .*UTF-8",
    "10_csv_two_objects_one_image": r"points\.csv, line 50: beak of img00\.jpg is labelled twice; .*COCO",
    "12_csv_normalised_0_1": r"points\.csv: .*between 0 and 1.*multiply",
    "14_csv_category_slash": r"points\.csv, line 2: category .*TV/monitor",
    "15_csv_nbsp_keypoint": r"points\.csv, line 4: .*U\+00A0",
    "17_csv_split_blank_in_some_rows": r"points\.csv, line 3: img00\.jpg .*line 2",
    "18_csv_header_only": "no two photographs",
    "19_csv_one_folder_deeper": r"--raw .*/birds$",
    "21_csv_no_extension": r"points\.csv, line 2: .*there is 'img00\.jpg'",
    "24_csv_deeplabcut": "12 fewer than 2 keypoints; .*DeepLabCut",
    "25_json_label_studio": "12 fewer than 2 keypoints; .*Label Studio",
    "27_json_xyv": r"p\.json: object 0: keypoint beak must be \[x, y\]",
    "30_json_lone_surrogate_category": r"p\.json: object 0: category: .*U\+D83D",
    "33_csv_coordinates_of_a_larger_original": "outside",
    "34_csv_val_images_missing": r"points\.csv, line 26: .*img06\.jpg",
    "42_coco_ap10k_three_splits": r"ap10k-.*split[123]\.json.*ap10k-.*split[123]\.json",
    "44_coco_category_without_keypoints": r"c\.json: no category names its keypoints",
    "47_coco_presigned_url": r"c\.json: annotation 1: .*address.*download",
    "47b_csv_long_cjk_name": r"points\.csv, line 2: image: no image",
    "48_coco_duplicate_image_ids": r"merged\.json: .*img00\.jpg.*img12\.jpg.* one id",
    "51_coco_bbox_xyxy": r"c\.json: bbox .*two corners",
    "54_coco_annotations_by_dict": r"c\.json: images must be a list",
    "60_image_zero_byte": r"img00\.jpg: ",
    "61_image_html": r"img00\.jpg: ",
    "62_image_truncated": r"img00\.jpg: .*truncated",
    "63_image_heic": r"img00\.heic: .*HEIC",
    "67_image_gigapixel": r"big\.png: .*pixels",
    "69_symlinks": r"img00\.jpg: .*symbolic links",
    "72_willow_12_points": r"Car_000\.mat: .*12",
    "73_willow_mat73": r"Car_000\.mat: .*7",
    "84_spair_images_resized": r"img\d\d\.jpg: 120 x 90 pixels, but its annotation says 500 x 375",
    "87_spair_null_keypoints": r"\.json: src_kps",
    "91_voc_2012_folder": "VOC2012",
    "92_voc_html_instead_of_npz": r"voc2011_pairs\.npz: a web page instead",
    "93_voc_lfs_pointer": r"voc2011_pairs\.npz: .*LFS",
    "94_voc_animalpose_bounds": r"2008_000070_1\.xml: .*ymin",
    "95_voc_missing_one_xml": r"2008_000003_1\.xml: no such file",
    "96_voc_annotations_inside_voc2011": r"VOC2011.annotations",
    "97_voc_xml_latin1_declared_utf8": r"2008_000003_1\.xml: not readable XML",
}
"""case -> the one line"""

READ_WITHOUT_BAD = {
    "10_csv_two_objects_one_image": ONE_LEFT_OUT,
    "47b_csv_long_cjk_name": ONE_LEFT_OUT,
    "60_image_zero_byte": ONE_LEFT_OUT,
    "61_image_html": ONE_LEFT_OUT,
    "62_image_truncated": ONE_LEFT_OUT,
    "63_image_heic": ONE_LEFT_OUT,
    "67_image_gigapixel": ONE_LEFT_OUT,
    "69_symlinks": ONE_LEFT_OUT,
    "73_willow_mat73": {"Car": (6, 3, 2), "Duck": (6, 3, 3)},
    "95_voc_missing_one_xml": {"car": (62, 7, 20)},
    "97_voc_xml_latin1_declared_utf8": {"car": (62, 7, 20)},
}
"""case -> what its data set holds with --skip-bad; the other refused ones stay refused"""

NO_PERMISSION = "68_image_unreadable_by_me"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cases", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(maker: ModuleType, case: str, folder: Path) -> Path:
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    maker.C[case](raw)
    return raw


def prepare(case: str, raw: Path, *flags: str) -> int:
    """Run --prepare in images mode at a small size; the data set goes beside the raw folder."""
    published = {"spair", "willow", "voc"} & set(case.split("_"))
    small = ("--set", "data.image_size=32", "--set", "data.mode=images")
    name = published.pop() if published else "own"
    return run.main(["--prepare", name, "--raw", str(raw), "--data", str(raw.parent / "data"), *small, *flags])


def counts(raw: Path) -> dict[str, tuple[int, ...]]:
    info = ObjectStore.open(raw.parent / "data").info
    return {c: tuple(info.counts[split][c] for split in ("train", "val", "test")) for c in info.categories}


def the_line(error: str) -> str:
    """Return the one line of an error."""
    lines = error.splitlines()
    assert len(lines) == 1 and lines[0].startswith("run.py: ") and len(lines[0]) < 700, error
    return lines[0]


def test_every_case_has_an_expectation(maker):
    assert set(maker.C) == {*READ, *REFUSED, NO_PERMISSION}
    assert REFUSED.keys() >= READ_WITHOUT_BAD.keys() and READ.keys() >= NOTED.keys()


@pytest.mark.parametrize("case", READ)
def test_a_good_folder_is_read_whole(maker, case, tmp_path, capsys):
    raw = build(maker, case, tmp_path)
    assert prepare(case, raw) == 0
    assert counts(raw) == READ[case]
    printed = capsys.readouterr()
    notes = printed.out.replace("\n  ", " ")  # long ones are broken
    assert printed.err == "" and re.search(NOTED.get(case, ""), notes), printed.out
    assert max(columns(line) for line in printed.out.splitlines() if str(tmp_path) not in line) <= 100


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_folder_is_one_line(maker, case, tmp_path, capsys):
    raw = build(maker, case, tmp_path)
    assert prepare(case, raw) == 2
    assert re.search(REFUSED[case], the_line(capsys.readouterr().err))
    assert not (tmp_path / "data").exists()
    assert prepare(case, raw, "--skip-bad") == (0 if case in READ_WITHOUT_BAD else 2)
    printed = capsys.readouterr()
    if case in READ_WITHOUT_BAD:
        assert counts(raw) == READ_WITHOUT_BAD[case] and re.search("left out: .*1 unreadable", printed.out)
    else:
        the_line(printed.err)


def test_an_image_without_permission_is_one_line_or_left_out(maker, tmp_path, capsys):
    raw = build(maker, NO_PERMISSION, tmp_path)
    may_read = os.access(raw / "images" / "img03.jpg", os.R_OK)  # root may
    assert prepare(NO_PERMISSION, raw) == (0 if may_read else 2)
    if not may_read:
        assert re.search(r"img03\.jpg: cannot be read .*permission", the_line(capsys.readouterr().err))
    assert prepare(NO_PERMISSION, raw, "--skip-bad") == 0
    assert counts(raw) == (GOOD if may_read else ONE_LEFT_OUT)
