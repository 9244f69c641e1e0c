"""Print the dependencies of pyproject.toml, one a line: those that are named, or without names all of them."""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
wanted = set(sys.argv[1:])
for requirement in tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]:
    if not wanted or re.match(r"[\w.-]+", requirement)[0] in wanted:
        sys.stdout.write(f"{requirement}\n")
