"""Reading configuration files: YAML in, typed settings out, errors that name file, key, value and what is allowed."""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from leod.config.schema import DatasetConfig, ModelConfig, Settings, StudyConfig
from leod.errors import ConfigError

S = TypeVar("S", bound=Settings)

ARM_SECTIONS = ("rounds", "pretrain", "pseudo_labels", "track_filter", "self_train")
"""What an arm may change of its study."""
SHIPPED = Path(__file__).resolve().parents[1] / "configs"
"""Studies, data sets and models that come with the package; in a checkout a link to its folder `configs`."""
MAIN, CONTROL, CEILING, ORACLE, CHOOSER = "main", "control", "fully_supervised", "oracle", "chooser"
"""What arms are called that no study defines: the study's own chain of rounds, and its references."""

_UNION_TAGS = ("function-", "literal", "constrained", "union")


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            # Keys that a merge (`<<: *block`) brings along may be given again: that is how they are changed.
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 5e-4 as a string, because it has no dot; everyone who writes a learning rate means a number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML (or JSON, its subset).

    Args:
        text: The document.
        source: What to call it in errors.

    Raises:
        ConfigError: It is not YAML or gives a key twice.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: The file is missing, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' pairs at the top, got {type(content).__name__}")
    return content


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes`` laid over it, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Turn ``a.b=value`` strings into nested mappings; values are YAML.

    Raises:
        ConfigError: An entry has no ``=`` or no key.
    """
    result: dict[str, Any] = {}
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {entry!r}: expected KEY=VALUE, for example pretrain.steps=100")
        nested: Any = parse_yaml(value, f"--set {entry}")
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        result = merge(result, nested)
    return result


def validate(settings_type: type[S], content: Any, source: str, place: tuple[str, ...] = ()) -> S:
    """Validate ``content`` as ``settings_type``.

    Args:
        settings_type: The typed settings.
        content: Plain data as YAML gives it.
        source: File (and overrides) that it came from, for errors.
        place: Keys under which the content stands in the file, for errors.

    Raises:
        ConfigError: One line for each unknown key or wrong value.
    """
    try:
        return settings_type.model_validate(content)
    except ValidationError as error:
        lines = [_describe(problem, settings_type, place) for problem in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines))) from None


def load_settings(settings_type: type[S], text_or_path: str) -> S:
    """Read a stage's settings from a YAML or JSON file, or from the text itself."""
    text = text_or_path.strip()
    if text.startswith("{"):
        return validate(settings_type, parse_yaml(text, "--settings"), "--settings")
    return validate(settings_type, read_yaml(Path(text)), text)


def load_study(path: Path, overrides: Iterable[str] = ()) -> StudyConfig:
    """Read a study file.

    Args:
        path: The study's YAML file. Data sets and models that it names are looked up in ``datasets/`` and ``models/``
            beside it, then in ``configs/`` of the working directory, then among those that come with the package.
        overrides: ``key.subkey=value`` strings that win over the file.

    Raises:
        ConfigError: See `resolve_study`.
    """
    return resolve_study(*study_content(path, overrides))


def study_content(path: Path, overrides: Iterable[str] = ()) -> tuple[dict[str, Any], list[Path], str]:
    """What `resolve_study` takes, of a study file and its overrides; see `load_study`."""
    path = Path(path)
    return merge(read_yaml(path), parse_overrides(overrides)), [path.parent, Path("configs")], str(path)


def resolve_study(content: Mapping[str, Any], folders: list[Path], source: str) -> StudyConfig:
    """Turn a study's plain content into typed settings, with its data set and model read in.

    ``dataset`` and ``model`` are a name, a path to a YAML file, or a mapping: ``{base: NAME, key: changed value}``.
    ``base`` of the study itself is another study, of which it says only what it changes.

    Args:
        content: The study as YAML gives it.
        folders: Folders with ``datasets/NAME.yaml``, ``models/NAME.yaml`` and, for ``base``, ``NAME.yaml``, in order of
            preference; `SHIPPED` is the last one. Paths to files are relative to the working directory, else to these.
        source: The study's file, for errors.

    Raises:
        ConfigError: A file is missing, a key unknown, a value wrong; all problems of one file are told at once.
    """
    folders = [*folders, SHIPPED]
    resolved, source = _based(content, folders, source)
    parts: list[tuple[str, type[Settings]]] = [("dataset", DatasetConfig), ("model", ModelConfig)]
    for key, settings_type in parts:
        if key not in resolved:
            raise ConfigError(f"{source}: the key {key!r} is missing; name a file of configs/{key}s/")
        plain, origin = _with_base(key, resolved[key], folders, source)
        resolved[key] = validate(settings_type, plain, origin)
    study = validate(StudyConfig, resolved, source)
    _check_arms(study, source)
    return study


def study_of_arm(study: StudyConfig, name: str) -> StudyConfig:
    """What the experiments of an arm are run with: the study with the arm's changes laid over it.

    Raises:
        ConfigError: The changes do not fit the study; never for one that `resolve_study` returned.
    """
    return _study_of_arm(study, name, f"study {study.name!r}")


def _study_of_arm(study: StudyConfig, name: str, source: str) -> StudyConfig:
    content = study.model_dump(by_alias=True, exclude={"arms"})
    return validate(StudyConfig, merge(content, study.arms[name]), source, ("arms", name))


def _check_arms(study: StudyConfig, source: str) -> None:
    """Refuse arms that are no studies or change what is not theirs; all problems are told at once."""
    lines = []
    for name, changes in study.arms.items():
        if name in (MAIN, CONTROL, CEILING, ORACLE, CHOOSER):
            lines.append(f"{source}: arms.{name}: this name is taken by the study itself; choose another one")
        wrong = [key for key in changes if key not in ARM_SECTIONS]
        lines += [
            f"{source}: unknown key 'arms.{name}.{key}' (value {changes[key]!r}). Allowed here: "
            f"{', '.join(ARM_SECTIONS)}"
            for key in wrong
        ]
        if wrong:
            continue
        try:
            arm = _study_of_arm(study, name, source)
        except ConfigError as error:
            lines.append(str(error))
            continue
        if arm.pseudo_labels.shards != study.pseudo_labels.shards:
            lines.append(
                f"{source}: arms.{name}.pseudo_labels.shards = {arm.pseudo_labels.shards}: shards are those of the "
                f"whole study, {study.pseudo_labels.shards}; remove the key"
            )
        lines += [f"{source}: arms.{name}.pretrain.{line}" for line in _without_effect(study, arm)]
    if lines:
        raise ConfigError("\n".join(lines))


def _without_effect(study: StudyConfig, arm: StudyConfig) -> list[str]:
    """Changes of pretraining that no experiment would see, since each label budget says something else."""
    before, after = study.pretrain, arm.pretrain
    changed = {
        "steps": (before.steps, after.steps),
        "sequence_length": (before.sequence_length, after.sequence_length),
        "time_reversal": (before.augmentation.time_reversal, after.augmentation.time_reversal),
    }
    return [
        f"{'augmentation.' if key == 'time_reversal' else ''}{key} = {value}: every entry of 'labels' has a "
        f"pretrain.{key} of its own, so this changes nothing"
        for key, (old, value) in changed.items()
        if value != old and all(getattr(budget.pretrain, key) not in (None, "all_rounds") for budget in study.labels)
    ]


def _based(
    content: Mapping[str, Any], folders: list[Path], source: str, seen: tuple[str, ...] = ()
) -> tuple[dict[str, Any], str]:
    """Lay a study over the one that it names as its base; also returns what to call the result."""
    changes = dict(content)
    base = changes.pop("base", None)
    if base is None:
        return changes, source
    if not isinstance(base, str):
        raise ConfigError(f"{source}: base must be the name of a study or a YAML file, got {base!r}")
    path = _find(base, "", folders, f"{source}: base")
    if str(path) in seen:
        raise ConfigError(f"{source}: base: {' → '.join((*seen, str(path)))} leads in a circle")
    below, origin = _based(read_yaml(path), folders, str(path), (*seen, str(path)))
    return merge(below, changes), f"{origin} (changed by {source})" if changes else origin


def _find(name: str, kind: str, folders: list[Path], asked_by: str) -> Path:
    """The file that ``name`` stands for: a path, or ``NAME.yaml`` in the folder ``kind`` of one of the folders."""
    if name.endswith((".yaml", ".yml")):
        candidates = [Path(name), *(folder / name for folder in folders)]
    else:
        candidates = [folder / kind / f"{name}.yaml" for folder in folders]
    candidates = list(dict.fromkeys(candidates))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = sorted({path.stem for folder in folders for path in (folder / kind).glob("*.yaml")})
    hint = f"; known: {', '.join(known)}" if known else ""
    raise ConfigError(f"{asked_by} {name!r}: no such file: {', '.join(map(str, candidates))}{hint}")


def _with_base(key: str, value: Any, folders: list[Path], source: str) -> tuple[dict[str, Any], str]:
    """Read the file that ``value`` names and lay its own keys over it; also returns what to call the result."""
    changes: dict[str, Any] = {}
    base = value
    if isinstance(value, Mapping):
        changes = {name: entry for name, entry in value.items() if name != "base"}
        base = value.get("base")
        if base is None:
            return changes, f"{source} ({key})"
    if not isinstance(base, str):
        raise ConfigError(f"{source}: {key} must be a name, a YAML file, or {{base: NAME, …}}, got {base!r}")
    path = _find(base, f"{key}s", folders, f"{source}: {key}")
    origin = f"{path} (changed by {source})" if changes else str(path)
    return merge(read_yaml(path), changes), origin


def study_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors; `workflow/schemas/study.schema.json` holds it."""
    schema = StudyConfig.model_json_schema()
    for key in ("dataset", "model"):
        schema["properties"][key] = {
            "description": f"a name in configs/{key}s/, a YAML file, or a mapping with 'base' and changed values",
            "anyOf": [{"type": "string"}, {"type": "object"}],
        }
    schema["properties"]["base"] = {
        "description": "another study, a name in configs/ or a YAML file; this one then says only what it changes",
        "type": "string",
    }
    schema["anyOf"] = [{"required": ["base", "name"]}, {"required": schema.pop("required")}]
    # What an arm leaves out is as in the study: nothing of it is required.
    sections = {key: schema["properties"][key] for key in ARM_SECTIONS}
    for key, section in sections.items():
        if "$ref" in section:
            definition = schema["$defs"][section["$ref"].removeprefix("#/$defs/")]
            sections[key] = {name: value for name, value in definition.items() if name != "required"}
    schema["properties"]["arms"]["additionalProperties"] = {
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
    }
    return json.loads(json.dumps(schema))


# ----------------------------------------------------------------------------------------------------- messages


def _describe(problem: Any, settings_type: type[BaseModel], place: tuple[str, ...]) -> str:
    """One line for one of pydantic's complaints: key, value, what is allowed."""
    location = [part for part in problem["loc"] if not (isinstance(part, str) and _is_union_tag(part))]
    key = ".".join(str(part) for part in (*place, *location)) or "(the whole)"
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        allowed = _allowed_keys(settings_type, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown key {key!r} (value {value!r}){meant} Allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return f"the key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if kind in ("value_error", "assertion_error") and not location:
        return f"{key}: {message}" if place else message
    shown = repr(value)
    return f"{key} = {shown if len(shown) < 200 else shown[:200] + '…'}: {message[0].lower() + message[1:]}"


def _is_union_tag(part: str) -> bool:
    """Pydantic puts the branch of a union that it tried into the location; users do not write these."""
    return part in ("float", "int", "str", "bool", "ScoreThreshold") or part.startswith(_UNION_TAGS)


def _allowed_keys(settings_type: type[BaseModel], location: list[Any]) -> list[str]:
    """Names of the fields at ``location`` inside ``settings_type``."""
    current: Any = settings_type
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel) and isinstance(part, str):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            current = _model_inside(fields[part].annotation) if part in fields else None
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _model_inside(annotation: Any) -> Any:
    """The settings class in an annotation such as ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            if (found := _model_inside(argument)) is not None:
                return found
    return None
