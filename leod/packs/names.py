"""What the files of a pack are called that no study has."""

CONTENTS_NAME, METADATA_NAME, README_NAME = "contents.json", "ro-crate-metadata.json", "README.md"
STUDY_FILE = "study.json"
"""The configuration that a pack is run again with."""
