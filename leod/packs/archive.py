"""The file that a study is handed over in: written the same from the same, read without trust."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, ValidationError

from leod.config.schema import Settings
from leod.errors import DataError
from leod.files import atomic_directory, atomic_file, file_digest, read_json
from leod.packs.names import CONTENTS_NAME, METADATA_NAME, STUDY_FILE
from leod.packs.study_files import StudyFiles

FORMAT = "leod-pack-1"
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_LEVEL = 6
_STORED = (".ckpt",)
_PIECE = 1 << 20


class Contents(Settings):
    """What a pack holds and what it leaves out (`contents.json`).

    Attributes:
        format: Of the pack.
        study: Name of the study.
        results: Folder of the results in the pack.
        files: Each file but this one → SHA-256 of its bytes.
        content: Each result of a stage, in the pack or not → digest of what it says, see `StudyFiles.digest`.
        provenance: Records of results that are not in the pack.
        sequences: Split → sequence → file → SHA-256; None where they were not at hand.
    """

    format: str
    study: str
    results: str
    files: dict[str, str]
    content: dict[str, str]
    provenance: dict[str, dict[str, Any]] = Field(default={})
    sequences: dict[str, dict[str, dict[str, str]]] | None = None


@dataclass
class PackWriter:
    """Collects the files of a pack.

    Attributes:
        files: Name → content.
    """

    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, content: bytes | str) -> None:
        """Add a file."""
        self.files[name] = content.encode() if isinstance(content, str) else content

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(self.files.items())}

    def write(self, path: Path) -> None:
        """Write the pack, atomically. The same files make the same bytes.

        Raises:
            ResourceError: The disk is full or not writable.
        """
        with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(self.files.items()):
                member = zipfile.ZipInfo(name, _TIME)
                member.create_system, member.external_attr = 3, _MODE << 16
                member.compress_type = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
                archive.writestr(member, content, compresslevel=_LEVEL)


def unpack_archive(pack: Path, folder: Path) -> Contents:
    """Write the files of a pack to a folder, which appears when all of them are complete and as they were packed.

    Args:
        pack: The file.
        folder: Must not exist, or be empty.

    Raises:
        DataError: The file is no pack, damaged or altered, or a name in it leads out of the folder; or ``folder`` holds
            something.
        ResourceError: The disk is full or not writable.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(folder, "exists and is not empty. Give a new folder, so that nothing is mixed up.")
    try:
        with zipfile.ZipFile(pack) as archive, atomic_directory(folder) as temporary:
            members = _checked_members(pack, archive)
            contents = _read_contents(pack, archive.read(CONTENTS_NAME))
            _check_names(pack, set(members) - {CONTENTS_NAME}, contents)
            for name, member in members.items():
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with archive.open(member) as source, target.open("wb") as copy:
                    while piece := source.read(_PIECE):
                        digest.update(piece)
                        copy.write(piece)
                if name != CONTENTS_NAME and digest.hexdigest() != contents.files[name]:
                    raise DataError(pack, f"{name} is not as it was packed: its SHA-256 differs. {_AGAIN}")
    except FileNotFoundError:
        raise DataError(pack, "no such file. Give a file that leod pack wrote.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(pack, f"is no ZIP file, or damaged ({error}). {_AGAIN}") from None
    return contents


_AGAIN = "Get the pack again."


def _checked_members(pack: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        path = PurePosixPath(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0:1] or "\0" in name
        if unsafe or name != str(path) or kind not in (0, stat.S_IFREG):
            raise DataError(pack, f"holds {name!r}, which is no plain file inside the pack. Do not trust it.")
        if name in members:
            raise DataError(pack, f"holds {name!r} twice. {_AGAIN}")
        members[name] = member
    for needed in (CONTENTS_NAME, METADATA_NAME, STUDY_FILE):
        if needed not in members:
            raise DataError(pack, f"holds no {needed}: it is no pack of leod, or only a part of one. {_AGAIN}")
    return members


def _read_contents(pack: Path, text: bytes) -> Contents:
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(
                pack, f"has another format than {FORMAT}: it is no pack of leod, or one of a newer version."
            )
        return Contents.model_validate(content)
    except (ValidationError, ValueError) as error:
        raise DataError(pack, f"its {CONTENTS_NAME} is damaged ({str(error).splitlines()[0]}). {_AGAIN}") from None


def _check_names(pack: Path, names: set[str], contents: Contents) -> None:
    for name in sorted(names ^ set(contents.files)):
        problem = "is missing" if name in contents.files else "was added"
        raise DataError(pack, f"{name} {problem}. {_AGAIN}")


def unpacked_study(folder: Path) -> StudyFiles:
    """The study in a folder that a pack was unpacked into.

    Raises:
        DataError: A file is missing or was altered.
    """
    content = read_json(folder / CONTENTS_NAME)
    contents = _read_contents(folder, json.dumps(content).encode())
    for name, digest in contents.files.items():
        path = folder / name
        if not path.is_file() or file_digest(path).hex() != digest:
            raise DataError(path, "is not as it was packed: it was altered or deleted. Unpack it again.")
    return study_of(folder, contents)


def study_of(folder: Path, contents: Contents) -> StudyFiles:
    """The study whose pack was unpacked into ``folder``."""
    sequences: Mapping[str, Mapping[str, Mapping[str, str]]] = contents.sequences or {}
    return StudyFiles(folder / contents.results, contents.content, contents.provenance, sequences)
