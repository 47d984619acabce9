"""`--keys [PREFIX]`: print every configuration key with its type, range, default and meaning.

`python -m tune.cli.keys > docs/configuration.md` writes the same as a page of the documentation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nmt.config import SETTINGS, Config
from nmt.errors import UserError, nearest
from nmt.settings import Setting
from tune.cli import names
from tune.cli.flags import JSON
from tune.cli.job import Job
from tune.spaces.settings import Resources, SearchSettings, table_settings

HEADER = ("key", "type and range", "default", "meaning")
KINDS = {int: "integer", float: "number", bool: "true or false", str: "text", tuple: "list of integers"}
KIND_WIDTH, DEFAULT_WIDTH, MEANING_WIDTH = 28, 16, 36
"""widths of columns, in characters: most, most, least; if less is left, the meaning gets lines of its own"""
GAP = "  "

DOCUMENT_HEAD = """\
# Configuration keys

<!-- Written by `python -m tune.cli.keys > docs/configuration.md`; change the texts in nmt/config.py and
tune/spaces/settings.py. -->

Every key with its type, range, default and meaning; `python run.py --keys [PREFIX]` prints the same. The defaults of
the first six sections are the published PascalVOC recipe. Set those keys with `--set KEY=VALUE` or in the `[base]`
table of a file in `search_spaces/`, or search them in its `[space]` table. `[search]` and `[resources]` are tables of
such a file: `search.trials` is `trials` below `[search]`. `docs/search.md` describes `fidelity` of `[search]` and the
`seeds` of an ablation.
"""


@dataclass(frozen=True)
class Section:
    """A group of keys: a branch of the configuration, or a table of a search's TOML file."""

    name: str
    meaning: str
    settings: dict[str, Setting]
    """key as users write it -> its definition"""


def sections() -> list[Section]:
    """Return all keys: the branches of the configuration, then `[search]` and `[resources]` of a TOML file."""
    found = [
        Section(
            branch,
            kind.__doc__ or "",
            {key: setting for key, setting in SETTINGS.items() if key.startswith(f"{branch}.")},
        )
        for branch, kind in typing.get_type_hints(Config).items()
    ]
    for name, kind in (("search", SearchSettings), ("resources", Resources)):
        settings = {f"{name}.{key}": setting for key, setting in table_settings(kind).items()}
        found.append(Section(name, kind.__doc__ or "", settings))
    return found


def select(prefix: str) -> list[Section]:
    """Return the sections and keys that begin with the prefix: a section, a whole key, or the start of keys.

    Raises:
        UserError: no key begins so; the message names the nearest.
    """
    everything = sections()
    chosen = [s for s in everything if s.name == prefix.removesuffix(".")]
    if not chosen:
        parts = [Section(s.name, s.meaning, _beginning(s, prefix)) for s in everything]
        chosen = [part for part in parts if part.settings]
    if not chosen:
        section = next((s for s in everything if s.name == prefix.partition(".")[0]), None)
        known = section.settings if section else [s.name for s in everything]
        raise UserError(f"--keys {prefix}: no configuration key begins so; {nearest(prefix, known)}")
    return chosen


def _beginning(section: Section, prefix: str) -> dict[str, Setting]:
    return {key: setting for key, setting in section.settings.items() if key.startswith(prefix)}


def kind_and_range(setting: Setting) -> str:
    """Return the allowed values in short: "integer, 1 to 64"."""
    if setting.text is not None:
        return setting.text.allowed
    if setting.choices:
        return ("list of " if setting.type is tuple else "") + ", ".join(setting.choices)
    low, high, above = setting.low, setting.high, setting.above
    if low is not None and high is not None:
        bounds = [f"{low:.10g} to {high:.10g}"]
    else:
        bounds = [f"above {above:g}"] if above is not None else []
        bounds += [f"at least {low:g}"] if low is not None else []
        bounds += [f"at most {high:g}"] if high is not None else []
    return ", ".join(["list of names" if setting.of_names else KINDS[setting.type], *bounds])


def default_text(setting: Setting) -> str:
    """Return the default as a user would write it; "none" if only leaving the key out gives the default."""
    try:
        value = setting.check(setting.default, source="")
    except UserError:
        return "none"
    if isinstance(value, str):
        return value or "none"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def row(key: str, setting: Setting) -> tuple[str, str, str, str]:
    """Return the cells of a key, in the order of HEADER."""
    return key, kind_and_range(setting), default_text(setting), setting.doc


def table(chosen: Sequence[Section], width: int) -> str:
    """Return the sections as aligned tables, wrapped to `width` columns (at least 60)."""
    rows = [HEADER, *(row(name, setting) for section in chosen for name, setting in section.settings.items())]
    key, kind, default = (max(len(cells[column]) for cells in rows) for column in range(3))
    default = min(DEFAULT_WIDTH, default)
    widths = [key, min(KIND_WIDTH, kind, width - key - default - 2 * len(GAP)), default]
    meaning = width - sum(widths) - len(GAP) * len(widths)
    blocks = []
    for section in chosen:
        lines = textwrap.wrap(f"{section.name}: {section.meaning}", width)
        for cells in [HEADER, *(row(name, setting) for name, setting in section.settings.items())]:
            if meaning >= MEANING_WIDTH:
                lines += wrapped(cells, [*widths, meaning])
            else:
                lines += wrapped(cells[:3], widths)
                lines += textwrap.wrap(cells[3], max(width - 4, 20), initial_indent=" " * 4, subsequent_indent=" " * 4)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def wrapped(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return one row of a table as lines, each cell wrapped to its width."""
    columns = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, columns))
    padded = [column + [""] * (height - len(column)) for column in columns]
    return [
        GAP.join(f"{line:{width}}" for line, width in zip(lines, widths, strict=True)).rstrip()
        for lines in zip(*padded, strict=True)
    ]


def markdown() -> str:
    """Return the page docs/configuration.md."""
    parts = [DOCUMENT_HEAD]
    for section in sections():
        title = f"`[{section.name}]`" if section.name in ("search", "resources") else f"`{section.name}`"
        lines = [f"## {title}", "", section.meaning, "", _markdown_row(HEADER), _markdown_row(["---"] * len(HEADER))]
        for key, setting in section.settings.items():
            name, kind, default, meaning = row(key, setting)
            lines.append(_markdown_row([f"`{name}`", kind, f"`{default}`" if default != "none" else default, meaning]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Print the table of the chosen keys."""
    chosen = select(args.name)
    print(table(chosen, max(60, shutil.get_terminal_size((100, 24)).columns)))
    return {
        key: dict(zip(HEADER[1:], row(key, setting)[1:], strict=True))
        for section in chosen
        for key, setting in section.settings.items()
    }


JOB = Job(
    flag="--keys",
    metavar="[PREFIX]",
    argument="print only the keys of a branch (optim, search) or those that begin so (optim.l)",
    argument_options=(("nargs", "?"), ("const", "")),
    summary="print every configuration key with its range, default and meaning",
    description=(
        "Print the configuration keys that --set, [base] and [space] take, each with type, range, default and meaning, "
        "and those of the tables [search] and [resources] of a search's file."
    ),
    examples=("--keys optim", "--keys search"),
    names=names.keys,
    flags=(JSON,),
    run=run,
)

if __name__ == "__main__":
    print(markdown(), end="")
