"""What pyproject.toml cannot say: the recipes of search_spaces/ go into a wheel, where an installed nmt finds them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = "search_spaces"


class BuildWithRecipes(build_py):
    """Copies search_spaces/ to nmt/search_spaces; an editable installation reads it where it is."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        recipes = sorted(Path(RECIPES).glob("*.toml"))
        if not recipes:
            raise FileNotFoundError(f"{RECIPES}/: no recipes there, and a wheel without them is of no use")
        for recipe in recipes:
            self.mkpath(f"{self.build_lib}/nmt/{RECIPES}")
            self.copy_file(str(recipe), f"{self.build_lib}/nmt/{RECIPES}/{recipe.name}")


setup(cmdclass={"build_py": BuildWithRecipes})
