"""The README stays short, and its pictures show on a package index."""

import re
import tomllib

from support.pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 1200
MOST_LINES = 200


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS
    assert len(README.splitlines()) <= MOST_LINES


def test_pictures_are_absolute_addresses_of_files_of_the_repository() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    raw = project["urls"]["Repository"].replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert picture.startswith(raw), picture
        assert (ROOT / picture.removeprefix(raw)).is_file(), picture
