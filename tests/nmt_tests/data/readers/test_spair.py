import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nmt.config import Config, DataConfig, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.readers import listed_pairs, spair
from nmt.data.store.given_pairs import EVALUATION_ONLY, PAIRS_FILE
from nmt.data.store.objects import OBJECTS_FILE, SPLITS, ObjectStore
from nmt.data.store.verify import check
from nmt.data.stream.pairs import PairStream, eval_pairs, generator
from nmt.data.stream.sampler import pair_sampler
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import make_spair, make_spair_u, or_one_line, spair_pair


def read(raw: Path, *, layout="large", difficulty=None, skip_bad=False):
    return spair.read(raw, layout=layout, difficulty=difficulty or {}, skip_bad=skip_bad)


def config(name: str = "spair", size: int = 32) -> Config:
    return with_overrides(Config(), {"data.name": name, "data.image_size": size}, source="test")


@pytest.fixture
def raw(tmp_path) -> Path:
    return make_spair(tmp_path / "SPair-71k")


@pytest.fixture
def store(raw, tmp_path) -> ObjectStore:
    prepare(config(), raw=raw, out=tmp_path / "spair")
    return ObjectStore.open(tmp_path / "spair")


def test_real_pairs_are_counted_and_their_keypoints_are_the_given_ones(shared_data):
    listing = read(shared_data / "spair")
    assert Counter(pair.split for pair in listing.pairs) == {"train": 270, "val": 60, "test": 60}
    assert len(listing.entries) == 60 and not listing.left_out
    points = {entry.id: entry.points for entry in listing.entries}
    for pair, path in zip(
        listing.pairs[:60], sorted((shared_data / "spair/SPair-71k/PairAnnotation/test").iterdir()), strict=True
    ):
        content = json.loads(path.read_text())
        assert pair.keypoints == tuple(content["kps_ids"])
        assert [list(points[pair.id0][k]) for k in content["kps_ids"]] == content["src_kps"]
        assert [list(points[pair.id1][k]) for k in content["kps_ids"]] == content["trg_kps"]
    small = read(shared_data / "spair", layout="small")
    assert Counter(pair.split for pair in small.pairs) == {"train": 54, "val": 12, "test": 12}


def test_names_of_pairs_may_have_an_underscore_on_disk_or_in_the_layout(raw):
    pairs = read(raw).pairs
    for k, path in enumerate(sorted(raw.glob("PairAnnotation/*/*.json"))):
        if k % 2:
            path.rename(path.with_name(path.name.replace(":", "_")))
    assert read(raw).pairs == pairs
    layout = raw / "Layout" / "large" / "val.txt"
    layout.write_text(layout.read_text().replace(":", "_"))
    assert read(raw.parent).pairs == pairs


@pytest.mark.parametrize(
    ("difficulty", "left"), [({"mirror": [1]}, 1), ({"mirror": [0, 1]}, 36), ({"mirror": [1], "occlusion": [2]}, 0)]
)
def test_difficulty_keeps_the_pairs_of_its_levels_and_their_images(raw, difficulty, left):
    path = next(raw.glob("PairAnnotation/trn/*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mirror": 1}))
    if not left:
        with pytest.raises(UserError, match="no pairs are left in layout large; .*pairs of another diff"):
            read(raw, difficulty=difficulty)
        return
    listing = read(raw, difficulty=difficulty)
    assert len(listing.pairs) == left and len(listing.entries) == {1: 2, 36: 18}[left]


def test_pairs_without_gradings_are_read_but_not_sorted_by_them(raw, tmp_path):
    for path in raw.glob("PairAnnotation/*/*.json"):
        content = json.loads(path.read_text()) | {"mirror": None}
        del content["occlusion"]
        path.write_text(json.dumps(content))
    assert {pair.difficulty for pair in read(raw).pairs} == {(-1, 0, 0, 0, -1)}
    assert len(read(raw, difficulty={"truncation": [0]}).pairs) == 36
    for skip_bad in (False, True):
        with pytest.raises(UserError, match="SPair-71k: 36 pairs have no grading mirror; leave --difficulty out"):
            read(raw, difficulty={"mirror": [0]}, skip_bad=skip_bad)
    prepare(config(), raw=raw, out=tmp_path / "out")
    table = pa.ipc.open_file((tmp_path / "out" / PAIRS_FILE).read_bytes()).read_all()
    assert set(table["mirror"].to_pylist()) == {-1} and set(table["truncation"].to_pylist()) == {0}


def test_images_of_another_size_than_the_pairs_say_are_refused(raw, tmp_path):
    for path in raw.glob("PairAnnotation/*/*.json"):
        sizes = {"src_imsize": [40, 20, 3], "trg_imsize": [40, 20, 3]}
        path.write_text(json.dumps(json.loads(path.read_text()) | sizes))
    assert all(entry.size == (40, 20) for entry in read(raw).entries)
    image = raw / "JPEGImages" / "cow" / "val0.jpg"
    Image.open(image).resize((20, 10)).save(image)
    with pytest.raises(UserError, match=r"cow/val0\.jpg: 20 x 10 pixels, but its annotation says 40 x 20"):
        prepare(config(), raw=raw, out=tmp_path / "out")
    path = spair_pair(raw, "val", "cow", ("val0.jpg", "val1.jpg"), src_imsize=["20", 10.0, 3])
    with pytest.raises(UserError, match=r"val0\.jpg is 20 x 10 pixels, in another pair 40 x 20") as error:
        read(raw)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("size", [None, [], [0, 20, 3], ["4O", "20"], [True, True], {"width": 40}, [40.5, 20.0]])
def test_a_size_that_says_nothing_is_ignored(raw, size):
    spair_pair(raw, "val", "cow", ("val0.jpg", "new.jpg"), src_imsize=size)
    assert all(entry.size is None for entry in read(raw).entries)


def test_the_box_of_an_object_is_read_and_one_that_says_nothing_is_ignored(raw, tmp_path):
    spair_pair(raw, "val", "cow", ("val0.jpg", "val1.jpg"), src_bndbox=[2, 1.5, 32, 11.5], trg_bndbox=[9, 9, 9, 12])
    for k, bad in enumerate(([1, 2, 3], ["a", 0, 1, 1], {}, [0, 0, float("nan"), 1], None)):
        spair_pair(raw, "val", "cow", ("val2.jpg", f"new{k}.jpg"), trg_bndbox=bad)
    given = {entry.id: entry.object_box for entry in read(raw).entries if entry.object_box}
    assert given == {"cow/val0": (2, 1.5, 32, 11.5)}
    prepare(config(), raw=raw, out=tmp_path / "out")
    store = ObjectStore.open(tmp_path / "out")
    sizes = {store.id(row): store.sizes(row).tolist() for row in range(len(store))}
    assert sizes["cow/val0"] == [[40, 20], [30, 10]] and sizes["cow/val1"] == [[40, 20], [0, 0]]


def test_real_boxes_hold_the_keypoints(shared_data):
    for entry in read(shared_data / "spair").entries:
        x0, y0, x1, y1 = entry.object_box
        assert all(x0 - 1 <= x <= x1 + 1 and y0 - 1 <= y <= y1 + 1 for x, y in entry.points.values())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_layout_saved_by_an_editor_on_windows_is_read_or_named(raw, encoding):
    pairs, layout = read(raw).pairs, raw / "Layout" / "large" / "trn.txt"
    layout.write_bytes(layout.read_text().replace("\n", "\r\n").encode(encoding))
    if encoding != "utf-16-le":  # without a mark, the bytes say nothing
        assert read(raw).pairs == pairs
    else:
        with pytest.raises(UserError, match=r"trn\.txt: "):
            read(raw)


def test_hidden_files_beside_change_nothing(raw):
    pairs = read(raw).pairs
    for path in list(raw.rglob("*.*")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (raw / ".DS_Store").write_bytes(b"\0")
    assert read(raw).pairs == pairs


def test_ids_of_keypoints_may_be_numbers_or_text(raw):
    pairs = read(raw).pairs
    for path in raw.glob("PairAnnotation/*/*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"kps_ids": [int(key) for key in content["kps_ids"]]}))
    assert read(raw).pairs == pairs


def test_a_split_without_readable_images_is_refused(raw, tmp_path):
    for path in raw.glob("JPEGImages/*/val[12].jpg"):
        path.write_bytes(b"")
    message = r"SPair-71k: no pairs are left in split val; .*left out: 4 unreadable, 12 pairs with fewer"
    with pytest.raises(UserError, match=message):
        prepare(config(), raw=raw, out=tmp_path / "out", skip_bad=True)
    assert not (tmp_path / "out").exists()


def test_objects_that_lost_all_their_pairs_are_left_out(raw, tmp_path):
    for stem in ("trn0", "trn1"):
        (raw / "JPEGImages" / "cow" / f"{stem}.jpg").write_bytes(b"")
    report = prepare(config(), raw=raw, out=tmp_path / "out", skip_bad=True)
    assert report.counts["train"] == {"bus": 3, "cow": 0} and report.pairs["train"] == 6
    assert report.info.left_out == {
        "unreadable": 2,
        listed_pairs.FEW_COMMON: 6,
        "no other photograph with 2 common keypoints": 1,
    }
    pairs = eval_pairs(ObjectStore.open(tmp_path / "out"), DataConfig(), split="val")
    assert len(pairs) == 12 and check(tmp_path / "out").pairs == 30


def test_difficulty_is_read_from_the_command_line():
    assert spair.parse_difficulty(["mirror=0", "scale_variation=2,0"]) == {"mirror": [0], "scale_variation": [0, 2]}
    with pytest.raises(UserError, match="--difficulty miror=0: no such grading; did you mean 'mirror'"):
        spair.parse_difficulty(["miror=0"])
    with pytest.raises(UserError, match="--difficulty mirror=easy: expected levels, for instance mirror=0"):
        spair.parse_difficulty(["mirror=easy"])


def test_difficulty_needs_given_pairs(tmp_path):
    with pytest.raises(
        UserError, match="--difficulty: willow has no given pairs with gradings; those that have: spair, spair_small"
    ):
        prepare(config("willow"), raw=tmp_path, out=tmp_path / "out", difficulty={"mirror": [0]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src_imname": "absent.jpg"}, r"its image .*absent\.jpg does not exist"),
        ({"src_imname": "../bus/val0.jpg"}, r"src_imname must be a name .*, but is '\.\./bus"),
        ({"src_kps": [[1, 2]]}, "src_kps must be a list of 3"),
        ({"trg_kps": [[1, 2], [3], [4, 5]]}, "trg_kps must be a list of 2"),
        ({"trg_kps": [[1, "x"], [3, 4], [4, 5]]}, "trg_kps must be a number, but is 'x'"),
        ({"kps_ids": ["0", "0", "1"]}, "kps_ids names a keypoint twice"),
        ({"mirror": 0.5}, r"mirror must be a small whole number, but is 0\.5"),
        ({"occlusion": "none"}, "occlusion must be a number, but is 'none'"),
        (
            {"src_kps": [None, [1, 2], [3, 4]]},
            "src_kps has no coordinates of keypoint 0; a pair lists",
        ),
        ({"trg_kps": [[1, 2], [None, None], [3, 4]]}, "trg_kps has no coordinates of keypoint 1"),
        ({"trg_imname": f"{'x' * 300}.jpg"}, r"its image .*x\.jpg does not exist"),
        ({"category": ["cow"]}, "category must be a name"),
        ({"src_kps": [[20, 5], [30, 5], [20, 15]]}, r"keypoint 0 of val0\.jpg at \(20, 5\), elsewhere \(10, 5\)"),
    ],
)
def test_a_damaged_pair_is_named_or_skipped_and_counted(raw, changes, message):
    path = spair_pair(raw, "val", "cow", ("val0.jpg", "val1.jpg"), **changes)
    with pytest.raises(UserError, match=message) as error:
        read(raw)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    listing = read(raw, skip_bad=True)
    assert listing.left_out == {"unreadable": 1} and len(listing.pairs) == 36


def test_pairs_that_cannot_be_matched_are_counted(raw):
    spair_pair(raw, "trn", "cow", ("new0.jpg", "trn0.jpg"), src_kps=[[1, 1], ["nan", 1], [1, "inf"]])
    spair_pair(raw, "trn", "cow", ("trn1.jpg", "trn1.jpg"))
    spair_pair(raw, "trn", "cow", ("trn1.jpg", "test1.jpg"))
    listing = read(raw)
    assert listing.left_out == {
        listed_pairs.FEW_COMMON: 2,
        listed_pairs.OTHER_SPLIT: 1,
        "keypoints with NaN or infinite coordinates": 2,
    }
    assert len(listing.pairs) == 36 and len(listing.entries) == 18


def test_a_layout_that_names_an_absent_pair_is_named(raw):
    next(raw.glob("PairAnnotation/val/*.json")).unlink()
    with pytest.raises(UserError, match=r"large/val\.txt: names the pair '.*', but .*val has no file for it"):
        read(raw)
    assert read(raw, skip_bad=True).left_out == {"unreadable": 1}


def test_a_folder_of_something_else_says_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"not SPair-71k; looked for Layout/large/trn\.txt"):
        read(tmp_path)
    (tmp_path / "PairAnnotation").mkdir()
    (tmp_path / "Layout").mkdir()
    with pytest.raises(UserError, match=r"Layout/large/test\.txt: no such file"):
        read(tmp_path)


def test_report_and_store_know_the_given_pairs(raw, tmp_path):
    report = prepare(config("spair_small"), raw=raw, out=tmp_path / "small")
    assert report.pairs == {"train": 3, "val": 3, "test": 3} and "given pairs: 3 train, 3 val, 3 test" in str(report)
    assert report.info.options["layout"] == "small" and report.made
    assert not prepare(config("spair_small"), raw=raw, out=tmp_path / "small").made
    assert prepare(config("spair_small"), raw=raw, out=tmp_path / "small", difficulty={"mirror": [0]}).made


def test_the_same_input_gives_the_same_bytes(raw, tmp_path):
    for out in ("first", "second"):
        prepare(config(), raw=raw, out=tmp_path / out)
    for name in (OBJECTS_FILE, PAIRS_FILE):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_training_draws_given_pairs_alone_balanced_over_categories(raw, tmp_path):
    for path in sorted(raw.glob("PairAnnotation/trn/*cow.json"))[1:]:  # one cow pair, six bus pairs
        path.unlink()
    prepare(config(), raw=raw, out=tmp_path / "out", skip_bad=True)
    store = ObjectStore.open(tmp_path / "out")
    sampler = pair_sampler(store, "train")
    drawn = [sampler.draw(generator(0, 0, 0, k)) for k in range(1200)]
    counts = Counter((store.id(pair.row0), store.id(pair.row1)) for pair in drawn)
    assert len(counts) == 7 and set(counts) <= {(p.id0, p.id1) for p in read(raw, skip_bad=True).pairs}
    assert abs(counts["cow/trn0", "cow/trn1"] - 600) < 90 and min(counts.values()) > 60


def test_evaluation_takes_all_given_pairs_in_order(store, raw):
    pairs = eval_pairs(store, DataConfig(eval_pairs=2), split="val")
    given_val = [(p.id0, p.id1) for p in read(raw).pairs if p.split == "val"]
    assert sorted((store.id(p.row0), store.id(p.row1)) for p in pairs) == sorted(given_val) and len(pairs) == 12
    again = eval_pairs(store, DataConfig(), split="val")
    assert [p.keypoints0.tolist() for p in again] == [p.keypoints0.tolist() for p in pairs]
    assert all(sorted(p.keypoints0) == sorted(p.keypoints1) == [0, 1, 2] for p in pairs)


def test_a_pair_matches_the_keypoints_it_lists_and_no_others(raw, tmp_path):
    path = sorted(raw.glob("PairAnnotation/val/*.json"))[0]
    content = json.loads(path.read_text())
    for key in ("kps_ids", "src_kps", "trg_kps"):
        content[key] = content[key][:2]
    path.write_text(json.dumps(content))
    prepare(config(), raw=raw, out=tmp_path / "out")
    pairs = eval_pairs(ObjectStore.open(tmp_path / "out"), DataConfig(), split="val")
    assert Counter(len(pair.keypoints0) for pair in pairs) == {2: 1, 3: 11}


def test_image_batches_of_given_pairs_do_not_depend_on_who_asks(store):
    stream = PairStream(store, dataclasses.replace(config().data), split="train", seed=3)
    whole, alone = stream.batch(1, range(6)), stream.batch(1, [4])
    num = int(alone.source.num_B[0])
    np.testing.assert_array_equal(whole.source.image_B3HW[4], alone.source.image_B3HW[0])
    np.testing.assert_array_equal(whole.match_BN[4, :num], alone.match_BN[0])


def test_pairs_of_another_version_or_missing_are_refused_and_made_anew(raw, store, tmp_path):
    prepare(config(size=48), raw=raw, out=tmp_path / "other")
    (store.directory / PAIRS_FILE).write_bytes((tmp_path / "other" / PAIRS_FILE).read_bytes())
    with pytest.raises(UserError, match=r"pairs\.arrow: made with another version of the objects beside it"):
        pair_sampler(store, "val")
    (store.directory / PAIRS_FILE).unlink()
    with pytest.raises(UserError, match=r"pairs\.arrow: not there; make it with: python run\.py --prepare spair"):
        pair_sampler(store, "val")
    assert prepare(config(), raw=raw, out=store.directory).made
    assert pair_sampler(ObjectStore.open(store.directory), "val")


def test_pairs_whose_images_cannot_be_read_are_left_out(raw, tmp_path):
    (raw / "JPEGImages" / "cow" / "trn0.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cow/trn0\.jpg: not a readable image"):
        prepare(config(), raw=raw, out=tmp_path / "out")
    report = prepare(config(), raw=raw, out=tmp_path / "out", skip_bad=True)
    assert report.info.left_out == {"unreadable": 1, listed_pairs.FEW_COMMON: 4}
    assert report.pairs == {"train": 8, "val": 12, "test": 12}
    assert all(pair_sampler(ObjectStore.open(tmp_path / "out"), split).categories == [0, 1] for split in SPLITS)


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory) -> Path:
    return make_spair(tmp_path_factory.mktemp("fuzz"))


@settings(deadline=None, max_examples=150)
@given(st.booleans(), st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 6))
def test_any_bytes_of_an_annotation_give_a_listing_or_one_line(fuzzed, layout, place, inserted, removed):
    path = fuzzed / "Layout/large/val.txt" if layout else sorted(fuzzed.glob("PairAnnotation/trn/*.json"))[0]
    before = path.read_bytes()
    place %= len(before)
    path.write_bytes(before[:place] + inserted + before[place + removed :])
    try:
        with or_one_line():
            assert len(read(fuzzed).pairs) <= 37
    finally:
        path.write_bytes(before)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(["src_imname", "src_kps", "trg_kps", "kps_ids", "category", "mirror"]), values))
def test_any_values_in_a_pair_give_a_listing_or_one_line(fuzzed, changes):
    path = sorted(fuzzed.glob("PairAnnotation/trn/*.json"))[0]
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | changes))
    try:
        with or_one_line():
            assert len(read(fuzzed).pairs) <= 36
    finally:
        path.write_text(before)


def test_coordinates_that_are_shares_of_the_sides_are_refused(raw):
    for path in raw.glob("PairAnnotation/*/*.json"):
        content = json.loads(path.read_text())
        shares = {f"{side}_kps": [[x / 40, y / 20] for x, y in content[f"{side}_kps"]] for side in ("src", "trg")}
        path.write_text(json.dumps(content | shares))
    with pytest.raises(UserError, match="all coordinates lie between 0 and 1, but pixels are read") as error:
        read(raw)
    assert str(error.value).startswith(str(raw))


def read_unseen(raw: Path, *, difficulty=None, skip_bad=False):
    return spair.read_unseen(raw, difficulty=difficulty or {}, skip_bad=skip_bad)


def test_spair_u_is_read_from_its_folder_without_a_layout(tmp_path):
    unseen = make_spair_u(tmp_path)
    for raw in (unseen, tmp_path):
        listing = read_unseen(raw)
        assert Counter((p.split, p.keypoints) for p in listing.pairs) == {("test", ("0", "1", "2", "3")): 12}
    assert listing.entries[0].points["3"] == (5.0, 5.0) and len(listing.entries) == 6
    with pytest.raises(UserError, match="no pairs are left; left out: 12 pairs of another difficulty"):
        read_unseen(unseen, difficulty={"scale_variation": [2]})


def test_spair_u_is_for_evaluation_alone(tmp_path):
    report = prepare(config("spair_u"), raw=make_spair_u(tmp_path), out=tmp_path / "data")
    assert report.pairs == {"train": 0, "val": 0, "test": 12} and report.info.options[EVALUATION_ONLY]
    assert check(tmp_path / "data").pairs == 12


def test_spair_u_without_images_or_pairs_is_one_line(tmp_path):
    unseen = make_spair_u(tmp_path)
    (unseen / "JPEGImages").unlink()
    with pytest.raises(UserError, match="has no JPEGImages; SPair-U comes without images: link the folder"):
        read_unseen(unseen)
    with pytest.raises(UserError, match=r"not SPair-U; looked for PairAnnotation/test/\*.json"):
        read_unseen(tmp_path / "SPair-71k/Layout")
    (unseen / "JPEGImages").mkdir()
    with pytest.raises(UserError, match="its image .* does not exist"):
        read_unseen(unseen)
