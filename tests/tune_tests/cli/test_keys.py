"""The list of configuration keys: complete, aligned, and the same in the documentation."""

from __future__ import annotations

import dataclasses
import json

import pytest

from nmt.config import SETTINGS
from nmt.errors import UserError
from tests.paths import ROOT
from tune.cli.keys import default_text, kind_and_range, markdown, sections, select, table
from tune.cli.main import main
from tune.spaces.settings import Resources, SearchSettings


def test_the_page_of_the_documentation_is_the_one_that_the_module_writes():
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == markdown(), "run: python -m tune.cli.keys > docs/configuration.md"


def test_every_key_is_listed_once():
    listed = [key for section in sections() for key in section.settings]
    search = {f"search.{f.name}" for f in dataclasses.fields(SearchSettings)}
    resources = {f"resources.{f.name}" for f in dataclasses.fields(Resources) if f.metadata}
    assert set(listed) == {*SETTINGS, *search, *resources} and len(listed) == len(set(listed))


def test_every_meaning_stands_alone():
    for section in sections():
        assert section.meaning.endswith(".") and len(section.meaning.split()) > 3, section.name
        for key, setting in section.settings.items():
            assert len(setting.doc.split()) >= 3 and not setting.doc.startswith(("of ", "that ", "the same")), key


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("optim.lr", "number, above 0, at most 1", "0.0005"),
        ("model.heads", "integer, at least 1", "12"),
        ("train.seed", "integer, 0 to 2147483647", "0"),
        ("optim.milestones", "list of integers, at least 0", "[2, 5]"),
        ("train.loggers", "list of names", '["tensorboard"]'),
        ("decode.assignment", "argmax, hungarian", "argmax"),
        ("train.compile", "true or false", "false"),
        ("search.trials", "integer, at least 1", "none"),
        ("search.warm_start", "text", "none"),
        (
            "search.objectives",
            "list of val/accuracy, val/f1, decoder_parameters, inference_seconds",
            '["val/accuracy"]',
        ),
        ("resources.gpus", "number, at least 0", "0"),
    ],
)
def test_type_range_and_default_are_short(key, kind, default):
    setting = next(section.settings[key] for section in sections() if key in section.settings)
    assert (kind_and_range(setting), default_text(setting)) == (kind, default)


def test_a_prefix_selects_a_section_a_key_or_keys_that_begin_so():
    def keys(prefix: str) -> list[str]:
        return [key for section in select(prefix) for key in section.settings]

    assert keys("optim") == keys("optim.") == [key for key in SETTINGS if key.startswith("optim.")]
    assert keys("optim.lr") == ["optim.lr"]
    assert keys("model.spl") == ["model.spline", "model.spline_backend"]
    assert keys("resources") == ["resources.cpus", "resources.gpus", "resources.workers", "resources.packed"]
    assert len(keys("")) == sum(len(section.settings) for section in sections())


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [("optm", "did you mean 'optim'?"), ("optim.lrr", "did you mean 'optim.lr'?"), ("serch", "did you mean 'search'?")],
)
def test_an_unknown_prefix_is_one_line_with_the_nearest(refused, prefix, hint):
    with pytest.raises(UserError, match="no configuration key begins so"):
        select(prefix)
    assert hint in refused("--keys", prefix)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_table_is_aligned_and_keeps_to_the_terminal(width):
    lines = table(select("optim"), width).splitlines()
    assert max(map(len, lines[1:])) <= width
    start = next(line for line in lines if line.startswith("key ")).index("type")
    for line in lines[1:]:
        assert line[start - 2 : start] == "  " or not line.startswith("optim."), line
    text = " ".join(" ".join(lines).split())
    assert "freezes the backbone" in text and "optim.backbone_lr_scale" in text


def test_the_table_is_as_wide_as_the_terminal_allows(capsys, monkeypatch):
    printed = {}
    for columns in ("70", "150"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["--keys", "model"]) == 0
        printed[columns] = capsys.readouterr().out.splitlines()
        assert max(map(len, printed[columns])) <= int(columns)
    assert len(printed["150"]) < len(printed["70"])


def test_json_has_every_chosen_key(capsys):
    assert main(["--keys", "decode", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {key for key in SETTINGS if key.startswith("decode.")}
    assert found["decode.epsilon"] == {
        "type and range": "number, above 0",
        "default": "0.035",
        "meaning": SETTINGS["decode.epsilon"].doc,
    }


def test_a_key_with_a_form_of_its_own_shows_it():
    (key,) = [s for section in select("decode.unmatched") for s in section.settings.values()]
    assert kind_and_range(key) == key.allowed and key.allowed.startswith("off, f1, precision=P")
