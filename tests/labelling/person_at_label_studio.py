"""What a person does in Label Studio, through its own SDK. Runs in the environment of Label Studio, not in ours.

Usage: python person_at_label_studio.py URL TOKEN FOLDER OUTPUT [CONVERSION...]

Makes a project of FOLDER's labelling interface and tasks. Submits the first task's predictions as they are; moves the
box of the third task by a tenth of a percent to the right; finds nothing on the second; skips the fourth; leaves the
fifth alone. Exports the project to OUTPUT as JSON, and in other formats of the server beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from label_studio_sdk import LabelStudio


def main(url: str, token: str, folder: Path, output: Path, conversions: list[str]) -> None:
    """Do all of it."""
    client = LabelStudio(base_url=url, api_key=token)
    project = client.projects.create(title="events", label_config=(folder / "config.xml").read_text(encoding="utf-8"))
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    client.projects.import_tasks(id=project.id, request=tasks, return_task_ids=True)
    found = {task.data["t_us"]: task for task in client.tasks.list(project=project.id, fields="all")}
    times = [task["data"]["t_us"] for task in tasks]
    for number, time in enumerate(times):
        task = client.tasks.get(id=found[time].id)
        predictions = [entry if isinstance(entry, dict) else entry.dict() for entry in task.predictions or []]
        result = predictions[0]["result"] if predictions else []
        if number == 0:
            client.annotations.create(id=task.id, result=result, was_cancelled=False, lead_time=1.0)
        elif number == 1:
            client.annotations.create(id=task.id, result=[], was_cancelled=False, lead_time=1.0)
        elif number == 2:
            result[0]["value"]["x"] += 0.1
            client.annotations.create(id=task.id, result=result, was_cancelled=False, lead_time=1.0)
        elif number == 3:
            client.annotations.create(id=task.id, result=[], was_cancelled=True, lead_time=1.0)
    content = b"".join(client.projects.exports.download_sync(project.id, export_type="JSON", download_all_tasks=True))
    output.write_bytes(content)
    for name in conversions:
        pieces = client.projects.exports.download_sync(project.id, export_type=name, download_resources=False)
        output.with_name(f"{output.stem}-{name}.zip").write_bytes(b"".join(pieces))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
