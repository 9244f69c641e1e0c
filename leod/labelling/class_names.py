"""What class names of tools and box files stand for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path

from leod.boxes.dtypes import IGNORED_CLASS_ID, LEFT_OUT_CLASS_ID
from leod.config.schema import IGNORED_CLASS_NAME
from leod.errors import ConfigError, DataError

_LEFT_OUT = "null"


def parse_mapping(entries: Iterable[str], classes: SequenceOf[str]) -> dict[str, str | None]:
    """Read a mapping such as ``["truck,bus=car", "rider=ignored", "sign=null"]``.

    Args:
        entries: Each ``NAME[,NAME...]=CLASS``; instead of a class, ``ignored`` makes boxes neither object nor
            background, and ``null`` leaves them out.
        classes: Class names that there are.

    Returns:
        Name → class; None: left out. As `DatasetConfig.class_map`.

    Raises:
        ConfigError: An entry is not of this form, a class does not exist, or a name is mapped twice.
    """
    mapping: dict[str, str | None] = {}
    for entry in entries:
        names, equals, target = (part.strip() for part in entry.partition("="))
        sources = [name.strip() for name in names.split(",")]
        if not equals or not target or not all(sources):
            raise ConfigError(
                f"--map {entry!r}: expected NAME[,NAME...]=CLASS, for example truck,bus=car; =ignored makes boxes "
                "neither object nor background, =null leaves them out"
            )
        if target not in (*classes, IGNORED_CLASS_NAME, _LEFT_OUT):
            raise ConfigError(
                f"--map {entry!r}: {target!r} is not one of the classes {list(classes)}{_similar(target, classes)}. "
                "Other classes than those of the export are given by --classes."
            )
        for name in sources:
            if name in mapping:
                raise ConfigError(f"--map {entry!r}: {name!r} is mapped twice")
            mapping[name] = None if target == _LEFT_OUT and _LEFT_OUT not in classes else target
    return mapping


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names in label-id order, separated by commas.

    Raises:
        ConfigError: A name is empty, doubled, or the one of ignored boxes.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) != len(names) or IGNORED_CLASS_NAME in names:
        raise ConfigError(
            f"--classes {text!r}: expected names separated by commas, each once, for example car,pedestrian; "
            f"{IGNORED_CLASS_NAME!r} is always there"
        )
    return names


class ClassNames:
    """Label ids of class names.

    Args:
        classes: Class names in label-id order.
        mapping: See `parse_mapping`.
    """

    def __init__(self, classes: SequenceOf[str], mapping: Mapping[str, str | None]) -> None:
        self.classes = tuple(classes)
        self.mapping = dict(mapping)

    def id_of(self, name: str, file: Path, where: str) -> int:
        """Label id of a name; `LEFT_OUT_CLASS_ID` for what is left out.

        Args:
            name: As the tool has it.
            file: Where it stands, for messages.
            where: Place in the file.

        Raises:
            DataError: The name is neither a class nor mapped.
        """
        if name in self.mapping:
            target = self.mapping[name]
            if target is None:
                return LEFT_OUT_CLASS_ID
            name = target
        if name in self.classes:
            return self.classes.index(name)
        if name == IGNORED_CLASS_NAME:
            return IGNORED_CLASS_ID
        known = [*self.classes, IGNORED_CLASS_NAME, *self.mapping]
        target = next(iter(difflib.get_close_matches(name, self.classes, n=1)), "CLASS")
        target = next((entry for entry in known if entry.casefold() == name.casefold()), target)
        raise DataError(
            file,
            f"{where}: class {name!r} is not one of {list(self.classes)}{_similar(name, known)}. Rename it in the "
            f"tool, or say what it stands for: --map '{name}={target}', or --map '{name}=null' to leave it out.",
        )


def _similar(name: str, known: SequenceOf[str]) -> str:
    """A hint at a name that is meant; nothing if none is close."""
    same = [entry for entry in known if entry.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}? Case counts.)" if same else f" (did you mean {close[0]!r}?)" if close else ""
