from __future__ import annotations

import sys

import pytest

from nmt import extensions
from nmt.config import Config, with_overrides
from nmt.errors import UserError
from nmt.extensions import LOSS_TERMS, VARIABLE, Registry


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(name, text) puts a module on the path and names it in the environment."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write_module(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)
        monkeypatch.setenv(VARIABLE, ",".join(written))

    yield write_module
    for name in written:
        sys.modules.pop(name, None)


def first() -> int:
    return 1


def second() -> int:
    return 2


def test_a_name_is_found_without_an_extension_and_an_unknown_one_named(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    registry = Registry("number")
    registry.add("first", first)
    assert registry.find("first") is first and registry.find("second") is None and registry.names() == ["first"]
    with pytest.raises(UserError, match=r"^here: no number 'frist'; did you mean 'first'\? .*NMT_EXTENSIONS"):
        registry.get("frist", source="here")


def test_a_taken_name_is_refused_and_the_same_again_accepted():
    registry = Registry("number")
    registry.add("one", first)
    registry.add("one", first)
    with pytest.raises(UserError, match=r"number 'one' is registered twice: by .*\.first and by .*\.second"):
        registry.add("one", second)
    assert registry.find("one") is first


def test_modules_are_imported_at_the_first_unknown_name(write, monkeypatch):
    registry = Registry("number")
    registry.add("first", first)
    monkeypatch.setattr(extensions, "LOSS_TERMS", registry)
    for name in ("ext_one", "ext_two"):
        write(name, f"from nmt import extensions\nextensions.LOSS_TERMS.add('{name}', lambda: 0)\n")
    registry.get("first", source="test")
    assert "ext_one" not in sys.modules
    assert registry.find("ext_two") is not None and "ext_one" in sys.modules
    assert registry.names() == ["first", "ext_one", "ext_two"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import absent_module",
            r"'ext_bad' cannot be imported \(ModuleNotFoundError: No module named 'absent_module'\)",
        ),
        ("def f(:", r"'ext_bad' cannot be imported \(SyntaxError"),
        ("from nmt.errors import UserError\nraise UserError('taken')", "^taken$"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(write, text, message):
    write("ext_bad", text)
    with pytest.raises(UserError, match=message) as raised:
        Registry("number").find("x")
    assert "\n" not in str(raised.value)


def test_a_loss_term_is_checked_with_the_configuration(monkeypatch):
    monkeypatch.setattr(LOSS_TERMS, "_items", {"mine": first})
    monkeypatch.delenv(VARIABLE, raising=False)
    off = {"loss.info_nce": 0.0, "loss.hyperspherical": 0.0, "loss.layer": 0.0}
    assert with_overrides(Config(), off | {"loss.extra": "mine"}, source="--set").loss.extra_weight == 1.0
    with pytest.raises(UserError, match="nothing to train on"):
        with_overrides(Config(), off | {"loss.extra": "mine", "loss.extra_weight": 0.0}, source="--set")
    with pytest.raises(UserError, match="--set: loss.extra: no loss term 'min'"):
        with_overrides(Config(), {"loss.extra": "min"}, source="--set")
    with pytest.raises(UserError, match="loss.extra_weight must be a number at least 0"):
        with_overrides(Config(), {"loss.extra_weight": -1}, source="--set")
