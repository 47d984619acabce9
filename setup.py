"""What pyproject.toml cannot say: the recipes of search_spaces/ go into a wheel, where an installed nmt finds them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDER = "search_spaces"


class BuildWithRecipes(build_py):
    """Copies search_spaces/ to nmt/search_spaces; an editable installation reads it where it is."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        recipes = self._recipes()
        if not recipes:
            raise FileNotFoundError(f"{FOLDER}/: no recipes there, and a wheel without them is of no use")
        target = Path(self.build_lib, "nmt", FOLDER)
        self.mkpath(str(target))
        for recipe in recipes:
            self.copy_file(recipe, str(target))

    def get_source_files(self) -> list[str]:
        """List what a source archive needs."""
        return [*super().get_source_files(), *self._recipes()]

    def _recipes(self) -> list[str]:
        return sorted(map(str, Path(FOLDER).glob("*.toml")))


setup(cmdclass={"build_py": BuildWithRecipes})
