import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers import ap10k
from nmt.data.readers.base import RawListing
from nmt.data.readers.listed_pairs import FEW_COMMON, OTHER_SPLIT
from nmt.data.store.given_pairs import EVALUATION_ONLY
from nmt.data.store.verify import check
from nmt.errors import UserError
from nmt.recipes import recipe
from tests.nmt_tests.data.readers.raw_sets import make_ap10k

FIRST = "PairAnnotation/test/000000000200-000000000201:cat.json"


@pytest.fixture
def raw(tmp_path) -> Path:
    return make_ap10k(tmp_path / "ap-10k")


def read(raw: Path, name: str = "ap10k", *, skip_bad: bool = False) -> RawListing:
    return ap10k.read(raw, ap10k.BENCHMARKS[name], skip_bad=skip_bad)


def test_pairs_within_a_species_have_named_keypoints_and_three_splits(raw):
    listing = read(raw)
    assert Counter((p.split, p.id0.split("/")[0]) for p in listing.pairs or ()) == {
        (split, species): 3 for split in ("train", "val", "test") for species in ("cat", "lynx", "fox")
    }
    first = listing.pairs[0] if listing.pairs else None
    assert first and first.keypoints == ap10k.KEYPOINTS[:12] and first.id0 == "cat/000000000200"
    entry = listing.entries[0]
    assert entry.points["Nose"] == (5.0, 3.0) and "R_Knee" not in entry.points and entry.size == (40, 20)


def test_left_and_right_swap_in_a_mirrored_image_where_both_are_labelled(raw):
    mirror = read(raw).mirror["cat"]
    assert mirror["L_Eye"] == "R_Eye" and mirror["R_F_Paw"] == "L_F_Paw"
    assert "Nose" not in mirror and "L_Hip" not in mirror  # R_Hip is never labelled here


@pytest.mark.parametrize(("name", "category"), [("ap10k_cross_species", "Felidae"), ("ap10k_cross_family", "all")])
def test_pairs_across_species_and_families_are_for_evaluation_alone(raw, tmp_path, name, category):
    listing = read(raw, name)
    assert Counter(p.split for p in listing.pairs or ()) == {"test": 3, "val": 3}
    assert {e.category for e in listing.entries} == {category}
    config = with_overrides(Config(), {"data.name": name, "data.image_size": 32}, source="test")
    report = prepare(config, raw=raw.parent, out=tmp_path / "data")
    assert report.info.options[EVALUATION_ONLY] and check(tmp_path / "data").pairs == 6
    assert recipe(name).data.image_size == recipe("ap10k").data.image_size


def test_the_data_set_is_prepared_with_its_pairs(raw, tmp_path):
    config = with_overrides(Config(), {"data.name": "ap10k", "data.image_size": 32}, source="test")
    report = prepare(config, raw=raw, out=tmp_path / "data")
    assert report.pairs == {"train": 9, "val": 9, "test": 9} and EVALUATION_ONLY not in report.info.options
    assert check(tmp_path / "data").pairs == 27


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_image_of_two_splits_stays_in_test_and_few_keypoints_are_counted(raw):
    shutil.copy(raw / FIRST, raw / "PairAnnotation/trn/again:cat.json")
    rewrite(raw / "ImageAnnotation/Canidae/fox/000000000020.json", keypoints=[1, 2, 2] + [0] * 48)
    left_out = read(raw).left_out
    assert left_out == {OTHER_SPLIT: 1, FEW_COMMON: 2}


CAT = "ImageAnnotation/Felidae/cat/000000000200.json"


@pytest.mark.parametrize(
    ("bbox", "box"), [([1, 2, 30, 10], (1, 2, 31, 12)), ([1, 2, 0, 9], None), ([1, 2], None), ("a", None)]
)
def test_the_box_of_an_animal_is_read_and_one_that_says_nothing_is_ignored(raw, bbox, box):
    rewrite(raw / CAT, bbox=bbox)
    assert next(entry for entry in read(raw).entries if entry.id == "cat/000000000200").object_box == box


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (CAT, {"keypoints": [1, 2, 2]}, "000000000200.json: keypoints must be a list of 51"),
        (CAT, {"keypoints": ["x"] * 51}, "000000000200.json: keypoints must be a number, but is 'x'"),
        (FIRST, {"src_json_path": "cat.json"}, "src_json_path must be .*/ImageAnnotation/FAMILY/SPECIES/IMAGE.json"),
        (FIRST, {"trg_json_path": None}, "trg_json_path must be .*IMAGE.json, but is missing"),
        (FIRST, {"src_json_path": "ImageAnnotation/../../a.json"}, "must be a name without /"),
        (FIRST, {"src_json_path": "ImageAnnotation/Felidae/cat/9.json"}, "its file .*9.json does not exist"),
        (FIRST, None, "000000000201:cat.json.*JSON"),
    ],
)
def test_damage_is_one_line_and_can_be_left_out(raw, file, changes, message):
    if changes is None:
        (raw / file).write_text("{")
    else:
        rewrite(raw / file, **changes)
    with pytest.raises(UserError, match=message) as error:
        read(raw)
    assert "\n" not in str(error.value)
    assert read(raw, skip_bad=True).left_out["unreadable"] == (2 if file == CAT else 1)


def test_what_is_not_prepared_is_one_line(raw, tmp_path):
    with pytest.raises(UserError, match="does not exist; looked for PairAnnotation/test, .*prepare_ap10k.ipynb"):
        read(tmp_path / "absent")
    shutil.rmtree(raw / "PairAnnotation/test_cross_family")
    with pytest.raises(UserError, match="not AP-10K with pairs; looked for PairAnnotation/test_cross_family"):
        read(raw, "ap10k_cross_family")
    for folder in ("test", "val", "trn"):
        for pair in (raw / "PairAnnotation" / folder).iterdir():
            pair.unlink()
    with pytest.raises(UserError, match="no pair is left in test, val, trn"):
        read(raw)
