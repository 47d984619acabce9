"""Recipes: the configuration that a data set is trained with, by name.

A recipe is the `[base]` table of a TOML file. It says what differs from the published PascalVOC recipe, or, with
`from = "NAME"` at the top of the file, from another recipe. The other tables of such a file describe a search or an
ablation over the recipe; `tune` reads them. A name is looked up in the user's search_spaces/, below the working
directory, then among the recipes that come with the project.
Imports neither torch nor Ray, so that a mistake in a file is answered at once.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.commands import command
from nmt.config import Config, flatten, with_overrides
from nmt.errors import UserError, nearest
from nmt.settings import check_names


def _shipped() -> Path:
    """Return the folder of the project's recipes: in the package if a wheel put them there, else beside the package."""
    package = Path(__file__).resolve().parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


RECIPES = _shipped()
"""The TOML files of the project."""

OWN_FOLDER = Path("search_spaces")
"""Folder of the user's TOML files, below the working directory. One there wins over the project's of the same name."""

OWN_RECIPE = "laptop"
"""The recipe of a user's data set without a file of its own."""

_LONGEST = 100
"""most characters of a name: files are named after it, and a file's name has at most 255 bytes"""
_NAME = rf"[A-Za-z0-9_-]{{1,{_LONGEST}}}"
_TABLES = ("base", "features", "space", "variants", "search", "resources")


@dataclass(frozen=True)
class RecipeFile:
    """A TOML file with a recipe, its table names checked."""

    path: Path
    text: str
    """the file as given"""
    tables: dict[str, Any]

    @property
    def source(self) -> str:
        """The path as error messages show it: relative where it lies below the working directory."""
        return shown_path(self.path)

    @property
    def name(self) -> str:
        """The name that the file gives itself, by default its file name. Raises UserError."""
        name = self.tables.get("name", self.path.stem)
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            raise UserError(f"{self.source}: name must be letters, digits, _ or -, but got {name!r}")
        return name

    @property
    def description(self) -> str:
        return str(self.tables.get("description", ""))

    @property
    def is_ablation(self) -> bool:
        """True if the file lists `[variants]` to compare instead of a `[space]` to search."""
        return "variants" in self.tables

    def base(self) -> Config:
        """The default configuration: `[base]` over the recipe that `from` names, or over the published one.

        The data set has the name of this file, unless one of the files sets `data.name`.

        Raises:
            UserError: an unknown key or recipe, a value out of range, recipes that start from each other.
        """
        config, named = Config(), False
        for file in self._chain():
            source = f"{file.source}: [base]"
            values = flatten(file.tables.get("base", {}), source=source)
            config = with_overrides(config, values, source=source)
            named = named or "data.name" in values
        return config if named else with_overrides(config, {"data.name": self.name}, source=self.source)

    def _chain(self, above: tuple[Path, ...] = ()) -> list[RecipeFile]:
        """List the files that `from` leads through: the one that starts from none first, this one last.

        Args:
            above: files whose `from` led here, to refuse a circle.
        """
        start = self.tables.get("from")
        if start is None:
            return [self]
        if not isinstance(start, str) or not re.fullmatch(_NAME, start):
            raise UserError(f"{self.source}: from must name a recipe of {_places()}, but got {start!r}")
        path = self._start(start)
        if path.resolve() in (p.resolve() for p in (*above, self.path)):
            raise UserError(f"{self.source}: from = {start!r} leads back to this file")
        return [*read_recipe(path)._chain((*above, self.path)), self]

    def _start(self, name: str) -> Path:
        """Return the file that `from = name` means.

        A recipe of the project starts from one of the project. A user's file that has the name of the project's recipe
        starts from that one, not from itself.
        """
        shipped = RECIPES / f"{name}.toml"
        own = OWN_FOLDER / f"{name}.toml"
        inside = self.path.resolve().parent == RECIPES.resolve()
        if os.path.isfile(shipped) and (inside or self.path.resolve() == own.resolve()):
            return shipped
        return find_recipe(name, source=f"{self.source}: from")


def recipe(path_or_name: str | Path, *, own: bool = False) -> Config:
    """Return the configuration of a recipe, by name or by file.

    Args:
        own: a name that no file has is a data set of the user's, trained by the recipe `laptop`.

    Raises:
        UserError: no such recipe, a mistake in its file, or a name that no data set can have.
    """
    if own and not has_file(path_or_name):
        name = check_name(str(path_or_name))
        return with_overrides(read_recipe(OWN_RECIPE).base(), {"data.name": name}, source=name)
    return read_recipe(path_or_name).base()


def has_file(path_or_name: str | Path) -> bool:
    """True for a path of a TOML file, and for a name that a recipe has."""
    given = Path(path_or_name)
    if given.suffix == ".toml":
        return True
    if len(given.parts) != 1:
        return os.path.isfile(given)
    return _named(given.name) is not None


def recipe_names() -> list[str]:
    """List the names of all recipes, the user's and the project's."""
    return sorted({path.stem for folder in (OWN_FOLDER, RECIPES) for path in folder.glob("*.toml")})


def _named(name: str) -> Path | None:
    """Return the file of a name; None if no recipe has it."""
    paths = (folder / f"{name}.toml" for folder in (OWN_FOLDER, RECIPES))
    return next((path for path in paths if os.path.isfile(path)), None)  # Path.is_file raises for some names


def _places() -> str:
    """Name the folders that recipes are looked up in."""
    return " or ".join(dict.fromkeys(shown_path(folder) for folder in (OWN_FOLDER, RECIPES) if folder.is_dir()))


def check_name(name: str) -> str:
    """Return the name of a data set. Raises UserError where it has other characters than a folder's name may have."""
    if not re.fullmatch(_NAME, name):
        proposed = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:_LONGEST]
        like = f", such as {proposed}" if proposed else ""
        raise UserError(
            f"{name[:_LONGEST]!r} is no name of a data set: use up to {_LONGEST} letters, digits, _ and -{like}"
        )
    return name


def find_recipe(path_or_name: str | Path, *, source: str = "") -> Path:
    """Return the TOML file of a recipe, by path or by name. Raises UserError with the nearest name."""
    given = Path(path_or_name)
    if given.suffix == ".toml" or len(given.parts) != 1:
        if os.path.isfile(given):
            return given
        raise UserError(f"{given}: no such search space file")
    path = _named(str(path_or_name))
    if path is not None:
        return path
    hint = nearest(given.name, recipe_names())
    if re.fullmatch(_NAME, given.name) and not source:
        hint += " P" if hint.endswith("?") else "; p"
        prepare = command("--prepare", given.name, "--raw", "DIR")
        hint += f"ictures of your own need no recipe: {prepare}; to search, write one with --init {given.name}"
    at = f"{source}: " if source else ""
    raise UserError(f"{at}no recipe named {given.name!r} in {_places()}; {hint}")


def read_recipe(path_or_name: str | Path) -> RecipeFile:
    """Read a TOML file and check the names of its tables. Raises UserError."""
    path = find_recipe(path_or_name)
    source = shown_path(path)
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not valid TOML: {error}") from error
    check_names(tables, ("name", "description", "from", *_TABLES), source=source)
    for table in _TABLES:
        if not isinstance(tables.get(table, {}), dict):
            raise UserError(f"{source}: {table} must be a table, [{table}]")
    return RecipeFile(path, text, tables)


def shown_path(path: Path) -> str:
    """Return the path as an error names it: relative if it lies below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
