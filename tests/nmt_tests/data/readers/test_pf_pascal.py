import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers import pf_pascal
from nmt.data.readers.listed_pairs import OTHER_SPLIT, REPEATED
from nmt.data.store.objects import ObjectStore
from nmt.data.store.verify import check
from nmt.errors import UserError
from nmt.recipes import recipe
from tests.nmt_tests.data.readers.raw_sets import make_pf_pascal

PAIRS = [
    ("test", "bird/t", "bird/u", ("0", "1", "2")),
    ("val", "bird/v", "bird/w", ("0", "1", "2")),
    ("train", "bird/a", "bird/b", ("0", "1", "2")),
    ("train", "bird/b", "bird/a", ("0", "1", "2")),
    ("train", "cat/c", "cat/d", ("1", "3")),
]


@pytest.fixture
def raw(tmp_path) -> Path:
    return make_pf_pascal(tmp_path / "pf-pascal")


def read(raw: Path, *, skip_bad: bool = False) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(p.split, p.id0, p.id1, p.keypoints) for p in pf_pascal.read(raw, skip_bad=skip_bad).pairs or ()]


def test_pairs_match_what_both_annotations_have_and_a_photograph_has_one_split(raw):
    assert read(raw) == PAIRS
    listing = pf_pascal.read(raw, skip_bad=False)
    assert listing.left_out == {OTHER_SPLIT: 2, REPEATED: 1}  # a-v and v-t; the mirrored copy of a-b
    assert {e.id: e.split for e in listing.entries}["bird/v"] == "val"
    assert listing.entries[0].points == {"0": (10.0, 5.0), "1": (30.0, 5.0), "2": (20.0, 15.0)}


def test_one_photograph_of_two_categories_has_one_split(raw):
    for place in ("Annotations/cat/t.mat",):
        shutil.copy(raw / "PF-dataset-PASCAL/Annotations/bird/a.mat", raw / "PF-dataset-PASCAL" / place)
    with (raw / "trn_pairs.csv").open("a") as file:
        file.write("\nJPEGImages/t.jpg,JPEGImages/c.jpg,8,0\n")
    assert read(raw) == PAIRS


@pytest.mark.parametrize("layout", ["beside", "image_pairs", "inside"])
def test_the_lists_are_found_where_published_code_puts_them(raw, layout):
    root = raw / "PF-dataset-PASCAL"
    for split in ("trn", "val", "test"):
        name = {"beside": f"{split}_pairs.csv", "image_pairs": f"{split}_pairs.csv".replace("trn", "train")}.get(
            layout, f"{split}_pairs_pf_pascal.csv".replace("trn", "train")
        )
        target = {"beside": raw, "image_pairs": raw / "image_pairs"}.get(layout, root) / name
        target.parent.mkdir(exist_ok=True)
        (raw / f"{split}_pairs.csv").rename(target)
    assert read(root if layout == "inside" else raw) == PAIRS


def test_the_data_set_is_prepared_and_whole(raw, tmp_path):
    config = with_overrides(Config(), {"data.name": "pf_pascal", "data.image_size": 32}, source="test")
    report = prepare(config, raw=raw, out=tmp_path / "data")
    assert report.pairs == {"train": 3, "val": 1, "test": 1} and report.info.counts["train"] == {"bird": 2, "cat": 2}
    store = ObjectStore.open(tmp_path / "data")
    assert check(tmp_path / "data").pairs == 5 and store.info.keypoint_names["cat"] == ["1", "3"]
    np.testing.assert_allclose(store.points(0)[0], (10 / 40 * 32, 5 / 20 * 32))
    assert store.sizes(0).tolist() == [[40, 20], [40, 20]]  # PCK is measured by the whole image
    assert recipe("pf_pascal").data.name == "pf_pascal" and recipe("pf_pascal").data.pad_keypoints > 20


def damage(raw: Path, what: str) -> None:
    root = raw / "PF-dataset-PASCAL"
    match what:
        case "image":
            (root / "JPEGImages/a.jpg").unlink()
        case "annotation":
            (root / "Annotations/bird/a.mat").unlink()
        case "shape":
            scipy.io.savemat(root / "Annotations/bird/a.mat", {"kps": np.zeros((3, 4))})
        case "text":
            scipy.io.savemat(root / "Annotations/bird/a.mat", {"kps": "abc"})
        case "class":
            (raw / "trn_pairs.csv").write_text("source_image,target_image,class\na.jpg,b.jpg,21\n")
        case "row":
            (raw / "trn_pairs.csv").write_text("source_image,target_image,class\na.jpg,b.jpg\n")
        case "columns":
            (raw / "trn_pairs.csv").write_text("a,b\n")
        case "list":
            (raw / "val_pairs.csv").unlink()
        case "folder":
            shutil.rmtree(root / "Annotations")


@pytest.mark.parametrize(
    ("what", "message", "skipped"),
    [
        ("image", r"trn_pairs.csv, line 2: its image .*a.jpg does not exist", 4),
        ("annotation", r"a.mat: not a file", 4),
        ("shape", r"a.mat: kps must be N x 2 numbers, but is \(3, 4\)", 4),
        ("text", r"a.mat: kps must be N x 2 numbers", 4),
        ("class", r"trn_pairs.csv, line 2: class must be a number from 1 to 20, but is '21'", 1),
        ("row", r"trn_pairs.csv, line 2: fewer columns than the first line names", None),
        ("columns", r"trn_pairs.csv: no column source_image, target_image, class", None),
        ("list", r"no list of the pairs of split val; looked for val_pairs.csv, val_pairs_pf_pascal.csv", None),
        ("folder", r"not PF-PASCAL; looked for JPEGImages/\*.jpg and Annotations/CATEGORY/\*.mat", None),
    ],
)
def test_damage_is_one_line_and_can_be_left_out(raw, what, message, skipped):
    damage(raw, what)
    with pytest.raises(UserError, match=message) as error:
        read(raw)
    assert "\n" not in str(error.value)
    if skipped is not None:
        assert pf_pascal.read(raw, skip_bad=True).left_out["unreadable"] == skipped
