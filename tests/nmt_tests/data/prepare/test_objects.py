import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import scipy.io
from PIL import Image

from nmt.config import Config, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.data.prepare.shards import make_shards, write_shard
from nmt.data.readers.demo import render as demo
from nmt.data.store.objects import OBJECTS_FILE, ObjectStore
from nmt.data.store.verify import check
from nmt.errors import UserError


def config(name: str, size: int = 32) -> Config:
    return with_overrides(Config(), {"data.name": name, "data.image_size": size}, source="test")


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two WILLOW categories of ten photographs."""
    rng = np.random.default_rng(0)
    for category in ("Car", "Duck"):
        folder = tmp_path / "raw" / category
        folder.mkdir(parents=True)
        for k in range(10):
            Image.fromarray(rng.integers(0, 256, (20, 40, 3), dtype=np.uint8)).save(folder / f"{k}.png")
            scipy.io.savemat(folder / f"{k}.mat", {"pts_coord": rng.random((2, 10)) * [[40], [20]]})
    return tmp_path / "raw"


def test_report_counts_objects_by_split_and_category(raw, tmp_path):
    report = prepare(config("willow"), raw=raw, out=tmp_path / "data" / "willow")
    by_category = {"train": 5, "val": 2, "test": 3}
    assert report.counts == {split: {"Car": n, "Duck": n} for split, n in by_category.items()}
    assert report.left_out == 0 and report.made
    store = ObjectStore.open(tmp_path / "data" / "willow")
    assert [[len(rows) for rows in store.rows(split)] for split in by_category] == [[5, 5], [2, 2], [3, 3]]
    assert str(report).splitlines()[3].split() == ["all", "10", "4", "6"]


def test_a_finished_data_set_is_left_as_it_is(raw, tmp_path):
    first = prepare(config("willow"), raw=raw, out=tmp_path / "out")
    written = (tmp_path / "out" / OBJECTS_FILE).stat().st_mtime_ns
    again = prepare(config("willow"), raw=raw, out=tmp_path / "out")
    assert not again.made and again.info == first.info
    assert (tmp_path / "out" / OBJECTS_FILE).stat().st_mtime_ns == written


def test_other_input_options_or_size_make_it_anew(raw, tmp_path):
    def made(**options) -> bool:
        size = options.pop("size", 32)
        return prepare(config("willow", size), raw=raw, out=tmp_path / "out", **options).made

    assert made() and not made()
    assert made(size=48) and made(seed=1) and made(skip_bad=True) and not made(skip_bad=True, size=32)
    (raw / "Car" / "0.png").write_bytes((raw / "Car" / "1.png").read_bytes())
    assert made(skip_bad=True)


def test_a_data_set_of_an_earlier_version_gets_sizes_and_keeps_its_identity(raw, tmp_path):
    first, path = prepare(config("willow"), raw=raw, out=tmp_path / "out"), tmp_path / "out" / OBJECTS_FILE
    table = pa.ipc.open_file(path.read_bytes()).read_all().drop_columns(["sizes"])
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)
    assert not ObjectStore.open(tmp_path / "out").has_sizes
    again = prepare(config("willow"), raw=raw, out=tmp_path / "out")
    assert again.made and again.info.identity == first.info.identity and ObjectStore.open(tmp_path / "out").has_sizes


def test_the_same_input_gives_the_same_bytes(raw, tmp_path):
    for out in ("first", "second"):
        prepare(config("willow_rotated"), raw=raw, out=tmp_path / out)
    first, second = ((tmp_path / out / OBJECTS_FILE).read_bytes() for out in ("first", "second"))
    assert first == second


def test_a_bad_file_leaves_nothing_behind(raw, tmp_path):
    (raw / "Duck" / "7.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"7\.png: not a readable image"):
        prepare(config("willow"), raw=raw, out=tmp_path / "data" / "willow")
    assert not (tmp_path / "data").exists()
    report = prepare(config("willow"), raw=raw, out=tmp_path / "data" / "willow", skip_bad=True)
    assert report.left_out == 1 and "left out: 1 unreadable" in str(report)


def test_a_failure_keeps_the_data_set_that_was_there(raw, tmp_path):
    prepare(config("willow"), raw=raw, out=tmp_path / "out")
    before = (tmp_path / "out" / OBJECTS_FILE).read_bytes()
    (raw / "Duck" / "7.png").write_bytes(b"")
    with pytest.raises(UserError):
        prepare(config("willow"), raw=raw, out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.arrow", "manifest.json", OBJECTS_FILE]
    assert (tmp_path / "out" / OBJECTS_FILE).read_bytes() == before


def test_a_category_that_cannot_pair_is_named(raw, tmp_path):
    for k in range(4, 10):
        (raw / "Duck" / f"{k}.mat").unlink()
    with pytest.raises(UserError, match=r"category Duck has 1 photograph\(s\) in val; a pair needs two"):
        prepare(config("willow"), raw=raw, out=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_output_that_cannot_be_written_is_one_line(raw, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/out: cannot be made"):
        prepare(config("willow"), raw=raw, out=tmp_path / "file" / "out")


def test_the_demo_is_rendered_in_order_by_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "OBJECTS_PER_CATEGORY", 20)
    report = prepare(config("demo", 48), raw=None, out=tmp_path / "demo", seed=5)
    store = ObjectStore.open(tmp_path / "demo")
    assert store.info.categories == list(demo.CATEGORIES) and report.info.seed == 5
    assert [store.id(row) for row in range(len(store))] == [f"{c}_{k:04}" for c, k, _ in demo.object_list()]
    alone = demo.render_object("chair", 3, size=48, seed=5)
    row = [store.id(row) for row in range(len(store))].index(alone.id)
    np.testing.assert_array_equal(store.image(row), alone.image)


def test_real_photographs_prepare_in_seconds(shared_data, tmp_path):
    started = time.perf_counter()
    report = prepare(config("willow_rotated", 96), raw=shared_data / "willow", out=tmp_path / "out")
    assert {split: sum(counts.values()) for split, counts in report.counts.items()} == {
        "train": 350,
        "val": 170,
        "test": 180,
    }
    assert report.left_out == 0 and time.perf_counter() - started < 60


def run_prepare(raw: Path, out: Path, *, size: int = 32) -> subprocess.Popen:
    """`prepare` of willow_rotated in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from nmt.config import Config, with_overrides\n"
        "from nmt.data.prepare.objects import prepare\n"
        f"config = with_overrides(Config(), {{'data.name': 'willow_rotated', 'data.image_size': {size}}}, source='-')\n"
        "print(prepare(config, raw=Path(sys.argv[1]), out=Path(sys.argv[2])).made)"
    )
    return subprocess.Popen([sys.executable, "-c", code, raw, out], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def one_task_shards(monkeypatch):
    monkeypatch.setattr("nmt.data.prepare.shards.SHARD_TASKS", 1)


def made_now(shards: list[int], *, then_die_after: int = 10**9):
    """A shard maker that notes what it makes, and dies."""

    def make(make_rows, missing, folder):
        for k, (shard, tasks) in enumerate(missing.items()):
            if k == then_die_after:
                raise KeyboardInterrupt
            write_shard(folder, shard, make_rows(tasks))
            shards.append(shard)
            yield shard

    return make


def test_an_interrupted_prepare_goes_on_with_the_shards_that_are_missing(raw, tmp_path, one_task_shards):
    first, second = [], []
    with pytest.raises(KeyboardInterrupt):
        prepare(config("willow"), raw=raw, out=tmp_path / "out", make=made_now(first, then_die_after=12))
    assert not (tmp_path / "out" / OBJECTS_FILE).exists()
    assert prepare(config("willow"), raw=raw, out=tmp_path / "out", make=made_now(second)).made
    assert first == list(range(12)) and second == list(range(12, 20))
    prepare(config("willow"), raw=raw, out=tmp_path / "whole")
    assert (tmp_path / "out" / OBJECTS_FILE).read_bytes() == (tmp_path / "whole" / OBJECTS_FILE).read_bytes()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["index.arrow", "manifest.json", OBJECTS_FILE]


def test_what_was_made_of_other_input_is_not_used(raw, tmp_path, one_task_shards):
    shards = []
    with pytest.raises(KeyboardInterrupt):
        prepare(config("willow"), raw=raw, out=tmp_path / "out", make=made_now([], then_die_after=12))
    prepare(config("willow"), raw=raw, out=tmp_path / "out", seed=1, make=made_now(shards))
    assert shards == list(range(20)) and not list((tmp_path / "out").glob(".partial*"))


def test_a_killed_prepare_is_continued_by_the_same_command(tmp_path, shared_data):
    out = tmp_path / "out"
    process = run_prepare(shared_data / "willow", out, size=128)
    deadline = time.monotonic() + 60
    while not list(out.glob(".partial-*/*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(children) >= 2 and not psutil.wait_procs(children, timeout=30)[1]
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob(".partial-*/0*.arrow")}
    assert kept and not (out / OBJECTS_FILE).exists()
    made = []

    def make(make_rows, missing, folder):
        assert not kept.keys() & {f"{shard:06}.arrow" for shard in missing}
        for shard in make_shards(make_rows, missing, folder):
            made.append(shard)
            yield shard

    assert prepare(config("willow_rotated", 128), raw=shared_data / "willow", out=out, make=make).made
    assert made and check(out).rows == 700


def test_two_at_once_make_a_data_set_once(raw, tmp_path):
    processes = [run_prepare(raw, tmp_path / "out") for _ in range(2)]
    assert sorted(process.communicate(timeout=60)[0].strip() for process in processes) == ["False", "True"]
    prepare(config("willow_rotated"), raw=raw, out=tmp_path / "alone")
    assert (tmp_path / "out" / OBJECTS_FILE).read_bytes() == (tmp_path / "alone" / OBJECTS_FILE).read_bytes()
    assert not list((tmp_path / "out").glob(".*"))
