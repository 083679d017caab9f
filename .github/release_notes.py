"""Prints the changelog's section for a tag: python .github/release_notes.py v0.2.0

Fails unless the tag is the version of the package and the changelog has a section for it, not only "Unreleased".
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(tag: str, version: str, changelog: str) -> str:
    """The text below "## VERSION ..." up to the next section. Raises SystemExit with the reason if there is none."""
    if tag != f"v{version}":
        sys.exit(f"the tag is {tag}, and zoo/version.py says {version}: expected v{version}")
    section = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None or not section[1].strip():
        sys.exit(f'CHANGELOG.md has no section "## {version}" with changes')
    return section[1].strip()


if __name__ == "__main__":
    found = re.search(r'__version__ = "(.*)"', (ROOT / "zoo" / "version.py").read_text())
    assert found
    print(notes(sys.argv[1], found[1], (ROOT / "CHANGELOG.md").read_text()))
