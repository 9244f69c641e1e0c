"""What is compared: a folder of results, a pack, or a folder that a pack was unpacked into."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leod.errors import DataError
from leod.packs.archive import study_of, unpack_archive, unpacked_study
from leod.packs.names import CONTENTS_NAME
from leod.packs.study_files import StudyFiles


@contextmanager
def opened(place: Path) -> Iterator[StudyFiles]:
    """The study at ``place``.

    Raises:
        DataError: There is none, or a pack is damaged or was altered.
    """
    if place.is_file():
        with tempfile.TemporaryDirectory(prefix="leod-compare-") as temporary:
            folder = Path(temporary) / "pack"
            yield study_of(folder, unpack_archive(place, folder))
    elif (place / CONTENTS_NAME).is_file():
        yield unpacked_study(place)
    elif place.is_dir():
        yield StudyFiles(place)
    else:
        raise DataError(place, "does not exist. Give a folder of results, results/<study>, or a pack.")
