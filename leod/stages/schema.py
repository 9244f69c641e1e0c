"""Tool `schema`: what a study file may say."""

from __future__ import annotations

import json
import sys

from leod.config.load import study_schema


def schema() -> None:
    """Print the JSON schema of a study file, for editors that check and complete YAML."""
    sys.stdout.write(json.dumps(study_schema(), indent=2) + "\n")
