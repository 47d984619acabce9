import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.store.manifest import MANIFEST_FILE, data_files, parse_manifest, write_manifest
from nmt.errors import UserError
from tests.nmt_tests.data.readers.raw_sets import or_one_line


@pytest.mark.parametrize("name", ["/etc/passwd.arrow", "../objects.arrow", "script.py"])
def test_a_manifest_that_points_elsewhere_is_refused(name):
    content = f'{{"files": {{"{name}": {{"bytes": 1, "sha256": "0"}}}}}}'.encode()
    with pytest.raises(UserError, match="which is not a file of a data set"):
        parse_manifest(content, "there")


def test_a_manifest_lists_every_arrow_file_by_size_and_hash(tmp_path):
    contents = {"objects.arrow": b"objects", "features/a.arrow": b"", "features/b.arrow": bytes(1000)}
    others = ("notes.txt", ".hidden.arrow", "features/.half.arrow", "deep/er/c.arrow")
    for name in (*contents, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(contents.get(name, b"other"))
    write_manifest(tmp_path)
    found = parse_manifest((tmp_path / MANIFEST_FILE).read_bytes(), "here")
    expected = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    assert {name: (record.bytes, record.sha256) for name, record in found.items()} == expected
    assert list(found) == [str(path) for path in data_files(tmp_path)] == sorted(contents)


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["bytes", "sha256", "x.arrow"]), inner),
    max_leaves=8,
)


@given(st.binary(max_size=40) | st.builds(lambda files: json.dumps({"files": files}).encode(), values))
def test_any_content_gives_records_or_one_line(content):
    with or_one_line():
        assert isinstance(parse_manifest(content, "there"), dict)
