"""Files without the machine they were made on: no absolute path, nothing that names a user or a host."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from leod.errors import DataError

ELSEWHERE = "elsewhere"
"""Folder that stands for places outside of the study."""
_ABSOLUTE = re.compile(r"""(?<![\w.:/~<>*-])(?:file://)?/(?:[^\s/"'<>|,;:()\[\]{}]+/)+[^\s/"'<>|,;:()\[\]{}]*""")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:\\\S*")
_INDEX_OPTIONS = ("--index-url", "-i ", "--extra-index-url", "--find-links", "-f ", "--trusted-host")


@dataclass(frozen=True)
class PortablePaths:
    """Rewrites the paths of one machine.

    Attributes:
        names: Absolute folder or file → what it is called in a pack, relative; the longest one that fits is taken.
        private: Texts that no file of a pack may hold.
    """

    names: Mapping[str, str]
    private: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Mapping[str | Path, str], folders: Iterable[Path | None]) -> PortablePaths:
        """Of a study's places.

        Args:
            names: Place as the study spells it → what it is called in a pack.
            folders: Folders that relative paths start from: what lies in them is called by its relative path.
        """
        found = {str(place): name for place, name in names.items()}
        private = []
        for folder in folders:
            if folder is None:
                continue
            for spelling in dict.fromkeys((str(folder), str(folder.resolve()))):
                found.setdefault(spelling, "")
                private.append(spelling)
        home = str(Path.home())
        # The file system's own root says nothing about anybody.
        private = [text for text in dict.fromkeys((*private, home)) if len(PurePath(text).parts) > 1]
        return cls(dict(sorted(found.items(), key=lambda item: -len(item[0]))), tuple(private))

    def text(self, text: str) -> str:
        """A text with the study's own places renamed; also where they stand in HTML."""
        for place, name in self.names.items():
            for spelling in dict.fromkeys((place, html.escape(place))):
                if name:
                    text = re.sub(re.escape(spelling) + r"(?![\w.-])", lambda _, name=name: name, text)
                elif len(spelling) > 1:
                    text = re.sub(re.escape(spelling) + r"(/|(?![\w./-]))", lambda found: "" if found[1] else ".", text)
        return text

    def value(self, value: Any) -> Any:
        """JSON data whose texts name no absolute path."""
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(entry) for entry in value]
        return self.strict_text(value) if isinstance(value, str) else value

    def strict_text(self, text: str) -> str:
        """A text that names no absolute path at all."""
        text = self.text(text)
        if text.startswith(("/", "~")) and "\n" not in text and len(text) > 1:
            return f"{ELSEWHERE}/{PurePath(text).name}"
        if ".." in PurePath(text).parts:
            return f"{ELSEWHERE}/{PurePath(text).name}"
        text = _ABSOLUTE.sub(lambda found: f"{ELSEWHERE}/{PurePath(found[0]).name}", text)
        return _WINDOWS.sub(ELSEWHERE, text)

    def lock(self, text: str) -> str:
        """A file of locked versions without the package index that it was made with."""
        lines = [line for line in text.splitlines() if not line.lstrip().startswith(_INDEX_OPTIONS)]
        return "".join(f"{self.strict_text(line)}\n" for line in lines)

    def check(self, name: str, text: str) -> None:
        """Check that a file of a pack names none of the private places.

        Raises:
            DataError: It does.
        """
        for place in self.private:
            if re.search(re.escape(place) + r"(?![\w.-])", text):
                raise DataError(name, f"names the folder {place} of this machine, which must not go into a pack.")
