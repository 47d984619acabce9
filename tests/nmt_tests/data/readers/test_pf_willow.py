from collections import Counter
from pathlib import Path

import pytest

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers import pf_willow
from nmt.data.store.given_pairs import EVALUATION_ONLY
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import check_pairs
from nmt.data.store.verify import check
from nmt.errors import UserError
from nmt.recipes import recipe
from tests.nmt_tests.data.readers.raw_sets import make_pf_willow

LIST = "PF-dataset/test_pairs_pf.csv"


@pytest.fixture
def raw(tmp_path) -> Path:
    return make_pf_willow(tmp_path / "pf-willow")


def test_every_pair_is_in_test_and_matches_ten_keypoints(raw):
    listing = pf_willow.read(raw, skip_bad=False)
    assert Counter((p.split, len(p.keypoints)) for p in listing.pairs or ()) == {("test", 10): 12}
    first = listing.entries[0]
    assert (first.id, first.category, first.photo) == ("car(G)/000", "car(G)", "car/000")
    assert first.points["point0"] == (2.0, 1.0) and first.points["point9"] == (29.0, 10.0)
    assert [(p.id0, p.id1) for p in (listing.pairs or [])[:2]] == [
        ("car(G)/000", "car(G)/001"),
        ("car(G)/000", "car(G)/002"),
    ]


@pytest.mark.parametrize("place", ["test_pairs.csv", "PF-dataset/test_pairs.csv"])
def test_the_list_and_the_folder_may_lie_as_in_published_code(raw, place):
    (raw / LIST).rename(raw / place)
    assert len(pf_willow.read(raw, skip_bad=False).pairs or ()) == 12
    if place.startswith("PF-dataset"):
        assert len(pf_willow.read(raw / "PF-dataset", skip_bad=False).pairs or ()) == 12


def test_the_data_set_is_for_evaluation_alone(raw, tmp_path):
    config = with_overrides(Config(), {"data.name": "pf_willow", "data.image_size": 32}, source="test")
    report = prepare(config, raw=raw, out=tmp_path / "data")
    assert report.pairs == {"train": 0, "val": 0, "test": 12} and report.info.options[EVALUATION_ONLY]
    assert check(tmp_path / "data").pairs == 12 and len(ObjectStore.open(tmp_path / "data")) == 6
    with pytest.raises(UserError, match="is for evaluation alone, none of its pairs is in train"):
        check_pairs(ObjectStore.open(tmp_path / "data"))
    assert recipe("pf_willow").data.image_size == recipe("pf_pascal").data.image_size


def edited(raw: Path, line: int, column: int, cell: str) -> None:
    rows = [row.split(",") for row in (raw / LIST).read_text().split("\n")]
    rows[line][column] = cell
    (raw / LIST).write_text("\n".join(",".join(cell for cell in row if cell) for row in rows))


@pytest.mark.parametrize(
    ("line", "column", "cell", "message"),
    [
        (2, 5, "x", "line 3 must be a number, but is 'x'"),
        (2, 0, "PF-dataset/car(G)/999.png", r"line 3: its image .*999.png does not exist"),
        (2, 0, "000.png", "line 3: an image must be CATEGORY/IMAGE.png, but is '000.png'"),
        (2, 0, "../..", "line 3 must be a name without"),
        (2, 5, "19", r"line 3: point3 of car\(G\)/000 is at \(19, 4\), in an earlier pair at \(11, 4\)"),
        (2, 5, "", "line 3: must have 42 columns, but has 41"),
    ],
)
def test_a_damaged_line_is_named_and_can_be_left_out(raw, line, column, cell, message):
    edited(raw, line, column, cell)
    with pytest.raises(UserError, match=message) as error:
        pf_willow.read(raw, skip_bad=False)
    assert "\n" not in str(error.value)
    listing = pf_willow.read(raw, skip_bad=True)
    assert listing.left_out["unreadable"] == 1 and len(listing.pairs or ()) == 11


def test_what_is_not_pf_willow_is_one_line(raw, tmp_path):
    for folder, message in (
        (tmp_path / "absent", "does not exist; looked for test_pairs_pf.csv and test_pairs.csv"),
        (raw / "PF-dataset/car(G)", "no list of pairs; looked for"),
    ):
        with pytest.raises(UserError, match=message):
            pf_willow.read(folder, skip_bad=False)
    edited(raw, 0, 5, "")
    with pytest.raises(UserError, match="has 41 columns, but the list of PF-WILLOW has 42"):
        pf_willow.read(raw, skip_bad=False)
    (raw / LIST).write_text((raw / LIST).read_text().split("\n")[0] + ",Y\n")
    with pytest.raises(UserError, match="no pair is left"):
        pf_willow.read(raw, skip_bad=False)
