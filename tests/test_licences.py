"""docs/licences.md: every library that is served, and no licence that nobody has decided on."""

import re

from packaging.utils import canonicalize_name

from tests.server import ROOT
from tests.test_lock import locked

# In the words of SPDX, and of the older classifiers. None binds a program that uses the library.
DECIDED = {
    "0BSD",
    "3-Clause BSD License",
    "Apache Software License",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "MIT License",
    "MIT",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Zlib",
}
ROW = re.compile(r"^\| (\S+) +\| (\S+) +\| (.+?) +\|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    [_, *found] = ROW.findall((ROOT / "docs" / "licences.md").read_text())
    return found


def test_every_library_that_is_served_is_listed_in_its_version() -> None:
    listed = {canonicalize_name(name): version for name, version, _ in rows()}
    served = {name: version for name, version in locked().items() if name != "setuptools"}  # which only builds
    assert listed == served, "run `make licences`"


def test_every_licence_is_one_that_was_decided_on() -> None:
    licences = {part for _, _, licence in rows() for part in re.split(r" AND | OR |; ", licence)}
    assert licences == DECIDED
