import pytest

from nmt.data.store.manifest import parse_manifest
from nmt.errors import UserError


@pytest.mark.parametrize("name", ["/etc/passwd.arrow", "../objects.arrow", "script.py"])
def test_a_manifest_that_points_elsewhere_is_refused(name):
    content = f'{{"files": {{"{name}": {{"bytes": 1, "sha256": "0"}}}}}}'.encode()
    with pytest.raises(UserError, match="which is not a file of a data set"):
        parse_manifest(content, "there")
