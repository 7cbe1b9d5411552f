# SPDX-License-Identifier: Apache-2.0
"""Print requirements of pyproject.toml, one a line, as input for `pip install -r`.

    python tools/requirements.py [--only NAME | --without NAME] GROUP...

GROUP is `build`, `runtime` or the name of an extra. Needed because `pip install ".[demo]"` cannot
leave out the dependencies of one package (see the extra `demo` in pyproject.toml), and because
dependencies should not be installed again whenever a source file changes.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pip carries the same parser
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def group(pyproject: dict[str, Any], name: str) -> list[str]:
    """Return the requirements of one group; KeyError if there is none of this name."""
    if name == "build":
        return list(pyproject["build-system"]["requires"])
    if name == "runtime":
        return list(pyproject["project"]["dependencies"])
    return list(pyproject["project"]["optional-dependencies"][name])


def distribution(requirement: str) -> str:
    """Return the normalised distribution name at the start of a requirement."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--without")
    parser.add_argument("groups", nargs="+")
    arguments = parser.parse_args()
    with PYPROJECT.open("rb") as file:
        pyproject = tomllib.load(file)
    requirements = {text: None for name in arguments.groups for text in group(pyproject, name)}
    for text in requirements:
        name = distribution(text)
        if arguments.only not in (None, name) or arguments.without == name:
            continue
        print(text)


if __name__ == "__main__":
    main()
