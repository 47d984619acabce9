"""Check README.md and docs/*.md: links lead somewhere, commands parse, lines are short."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tune.cli.job import given_flags, parse
from tune.cli.main import check_flags, find_job

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WIDTH = 120
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)


def code_lines(page: Path) -> Iterator[str]:
    """The lines of fenced and indented code blocks, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line


def commands(page: Path) -> list[str]:
    """The arguments of every call of `run.py` or `nmt` in code, and of the README's table of jobs."""
    called = [line.split("run.py ", 1)[1] for line in code_lines(page) if "run.py -" in line]
    called += re.findall(r"`(?:\S*python )?(?:run\.py|nmt) (--[a-z]+ [A-Za-z][^`]*)`", page.read_text())
    return called + re.findall(r"^\| `(--[^`]+)` \|", page.read_text(), re.MULTILINE) * (page.name == "README.md")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_relative_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in (first or second for first, second in LINK.findall(prose)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize(
    ("page", "arguments"),
    [(name, found) for name, page in zip(NAMES, PAGES, strict=True) for found in commands(page)],
    ids=str,
)
def test_every_command_uses_flags_that_exist(page, arguments):
    words = shlex.split(arguments, comments=True)
    job = find_job(words)
    assert job is not None
    check_flags(job, given_flags(words))
    parse(job, words)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_target_and_extra_of_make_exists(page):
    makefile, project = (ROOT / "Makefile").read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())
    code = [*code_lines(page), *re.findall(r"`([^`\n]+)`", page.read_text())]
    for target in (word for line in code for word in re.findall(r"^make ([a-z-]+)", line)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"
    for extra in (word for line in code for word in re.findall(r"EXTRAS=([a-z]+)", line)):
        assert extra in project["project"]["optional-dependencies"], f"{page.name}: EXTRAS={extra}"


def test_the_pages_have_commands():
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lines_are_short_except_tables_and_links(page):
    for number, line in enumerate(page.read_text().splitlines(), 1):
        assert len(line) <= WIDTH or line.startswith("|") or "](" in line, f"{page.name}:{number}"
