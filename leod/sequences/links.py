"""Links to the frames of sequences: where they lead, and what to say where they lead nowhere.

Our pseudo-labelled sets hold links that are relative to their own folder, so that a project can be moved as a whole.
The programs of the public repository Wuziyi616/LEOD write the path of the original as it was given to them, as a rule
relative to the folder that they run in, and read links in the same way: by their text, from the working folder.
"""

from __future__ import annotations

from pathlib import Path

from leod.errors import DataError

_PARTS_IN_DATASET = 5
"""A file of frames is <data set>/<split>/<sequence>/event_representations_v2/<representation>/<file>."""


def missing_file(path: Path) -> str:
    """Say why there is no file at ``path``, and what to do."""
    path = Path(path)
    if not path.is_symlink():
        return "the file does not exist. Preprocess again."
    target = path.readlink()
    seen_from = "" if target.is_absolute() else " (seen from the link; LEOD's program looks from its working folder)"
    return (
        f"is a link to {target}, which does not exist{seen_from}. Put the file back, or have the links made anew: "
        "leod export-dataset DATASET --sequences ORIGINAL_DATASET --output NEW_DATASET"
    )


def frames_behind(path: Path, originals: Path | None) -> Path:
    """The file of frames that a pseudo-labelled sequence stands on.

    Args:
        path: The file in the pseudo-labelled set, as a rule a link.
        originals: The original data set. Where ``path`` is a link that leads nowhere, the file of the same split,
            sequence and representation is taken from there; None: such links are an error.

    Raises:
        DataError: There is no such file.
    """
    path = Path(path)
    if path.is_file():
        return path
    if originals is None or not path.is_symlink():
        raise DataError(path, missing_file(path))
    target = path.readlink()
    inside = target.parts[-_PARTS_IN_DATASET:]
    original = Path(originals).joinpath(*inside)
    if inside[-2:] != path.parts[-2:] or not original.is_file():
        raise DataError(
            path,
            f"is a link to {target}, which does not exist, and {original}, where these frames would be, does not "
            "exist either. Give the data set that the links were made from as the sequences, or put the file back.",
        )
    return original
