"""From a function to its command: the signature is the command line, the Google docstring is the help.

A parameter becomes an option: `seed: NonNegativeInt = 0` → ``--seed``. Settings come out of a study (``--study``,
``--set``) or exactly as given (``--settings``, ``--hardware``, …). `leod.options` has what else a parameter may say in
`Annotated`.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import typer
from pydantic.fields import FieldInfo

from leod.cli.docstrings import argument_help, description
from leod.config.load import load_settings, load_study, validate
from leod.config.schema import (
    HardwareConfig,
    ModelConfig,
    NonNegativeInt,
    PlausibilityConfig,
    PositiveInt,
    SequenceConfig,
    Settings,
    StudyConfig,
)
from leod.errors import ConfigError
from leod.options import Argument, FromOptions, FromStudy, Names

M = TypeVar("M")

_PARTS: dict[type[Settings], tuple[str, Callable[[StudyConfig], Settings]]] = {
    HardwareConfig: ("hardware", lambda study: study.hardware),
    PlausibilityConfig: ("plausibility", lambda study: study.dataset.plausibility),
    ModelConfig: ("model", lambda study: study.model),
    SequenceConfig: ("settings", lambda study: study.dataset.sequence_config()),
}
"""Settings that several stages share → the option that gives them, and where they are in a study."""


@dataclass(frozen=True)
class _Parameter:
    """One parameter of a function.

    Attributes:
        name: Its name.
        annotation: Its type, free of `Annotated`.
        markers: What stood in `Annotated`.
        default: Its default, or `inspect.Parameter.empty`.
        help: What the docstring says about it.
    """

    name: str
    annotation: Any
    markers: tuple[Any, ...]
    default: Any
    help: str

    @classmethod
    def all_of(cls, function: Callable[..., Any]) -> list[_Parameter]:
        """The parameters of ``function``."""
        helps = argument_help(function)
        return [
            cls(entry.name, *_split(entry.annotation), entry.default, helps.get(entry.name, ""))
            for entry in inspect.signature(function, eval_str=True).parameters.values()
        ]

    def marker(self, kind: type[M]) -> M | None:
        """The marker of that kind, if there is one."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)

    @property
    def settings_type(self) -> type[Settings] | None:
        """The settings that the parameter holds; None if it holds something else."""
        candidates = (self.annotation, *typing.get_args(self.annotation))
        return next((each for each in candidates if isinstance(each, type) and issubclass(each, Settings)), None)

    @property
    def pick(self) -> Callable[..., Any] | None:
        """What takes the value out of a study; None if it does not come from there."""
        if (marker := self.marker(FromStudy)) is not None:
            return marker.pick
        if self.settings_type is None or self.marker(FromOptions) is not None:
            return None
        return _PARTS[self.settings_type][1] if self.settings_type in _PARTS else self.settings_type.from_study

    @property
    def option(self) -> str:
        """The option that gives the value."""
        if self.settings_type is None:
            return self.name
        return _PARTS[self.settings_type][0] if self.settings_type in _PARTS else "settings"

    def for_typer(self) -> inspect.Parameter:
        """The option or argument as typer takes it."""
        annotation, default, help_text, show_default = self.annotation, self.default, self.help, True
        if self.pick is not None:
            annotation, default = annotation if self.settings_type is None else str, None
            annotation |= None
            if self.settings_type is not None:
                help_text += " A YAML/JSON file or JSON text, in place of the study's."
            else:
                show_default = f"the study's, else {self.default}"
        if self.marker(Argument) is not None:
            information = typer.Argument(help=help_text)
        else:
            names = self.marker(Names)
            switch = [_flag(self.option)] if annotation is bool else []
            information = typer.Option(
                *(switch if names is None else names.names),
                help=help_text,
                show_default=show_default,
                min=next((limit for marker in self.markers if (limit := _least(marker)) is not None), None),
            )
        return inspect.Parameter(
            self.option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, information]
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type free of `Annotated`, also inside of a union, and what stood there."""
    if typing.get_origin(annotation) is Annotated:
        inner, markers = _split(annotation.__origin__)
        return inner, (*annotation.__metadata__, *markers)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        parts = [_split(part) for part in typing.get_args(annotation)]
        return Union[tuple(part for part, _ in parts)], tuple(marker for _, found in parts for marker in found)  # noqa: UP007
    return annotation, ()


def _least(marker: Any) -> float | None:
    """The least value that pydantic's constraint allows."""
    if not isinstance(marker, FieldInfo):
        return None
    return next((limit for entry in marker.metadata if (limit := getattr(entry, "ge", None)) is not None), None)


def _read_study(
    study: Annotated[Path | None, Names("--study", "-s")] = None,
    overrides: Annotated[list[str] | None, Names("--set")] = None,
) -> StudyConfig | None:
    """The study, if there is one.

    Args:
        study: Study file, for example configs/quickstart.yaml.
        overrides: KEY=VALUE changes a value of the study, e.g. pretrain.steps=100.
    """
    if study is not None:
        return load_study(study, overrides or ())
    if overrides:
        raise ConfigError("--set changes a value of a study: give --study FILE too")
    return None


def _adapt_hardware(
    hardware: HardwareConfig,
    threads: PositiveInt | None = None,
    on_terminate: Literal["exit", "wait"] | None = None,
    time_limit: NonNegativeInt = 0,
) -> HardwareConfig:
    """What a job is told about its machine in place of what holds for all.

    Args:
        hardware: What holds for all.
        threads: CPU threads; replaces the value in --hardware.
        on_terminate: What to do after saving on SIGTERM; replaces the value in --hardware.
        time_limit: The job is killed after so many minutes, so training saves before; replaces the value in --hardware.
            0: as it says.
    """
    told = {
        "threads": threads,
        "on_terminate": on_terminate,
        "time_limit_s": 60.0 * time_limit if time_limit else None,
    }
    return hardware.model_copy(update={key: value for key, value in told.items() if value is not None})


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """All options and arguments of ``function``, as typer takes them."""
    found: dict[str, inspect.Parameter] = {}

    def add(parameter: _Parameter) -> None:
        if (source := parameter.marker(FromOptions)) is not None:
            further = _Parameter.all_of(source.make)
        else:
            found.setdefault(parameter.option, parameter.for_typer())
            further = []
            if parameter.pick is not None:
                further += [*_Parameter.all_of(parameter.pick)[1:], *_Parameter.all_of(_read_study)]
            if parameter.settings_type is HardwareConfig:
                further += _Parameter.all_of(_adapt_hardware)[1:]
        for entry in further:
            add(entry)

    # What comes out of a study comes last: it may take options that are there already.
    for parameter in sorted(_Parameter.all_of(function), key=lambda entry: entry.pick is not None):
        add(parameter)
    return inspect.Signature(list(found.values()))


class _Call:
    """One run of a command.

    Args:
        given: Name of each option → its value.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._study = self.run(_read_study) if "study" in given else None

    def run(self, function: Callable[..., Any], *first: Any) -> Any:
        """Call ``function`` with what was given; ``first`` are its first arguments."""
        further = {entry.name: self._value(entry) for entry in _Parameter.all_of(function)[len(first) :]}
        if isinstance(function, type) and issubclass(function, Settings):
            return validate(function, further, ", ".join(_flag(name) for name in further))
        return function(*first, **further)

    def _value(self, parameter: _Parameter) -> Any:
        source, pick = parameter.marker(FromOptions), parameter.pick
        if source is not None:
            return self.run(source.make)
        value = self._given[parameter.option]
        if pick is None:
            return value
        settings_type = parameter.settings_type
        if value is None:
            value = self._from_study(parameter, pick)
        elif settings_type is not None:
            if parameter.option == "settings" and self._study is not None:
                raise ConfigError("--settings holds everything the stage uses; give either it or --study with --set")
            value = load_settings(settings_type, value)
        return self.run(_adapt_hardware, value) if settings_type is HardwareConfig else value

    def _from_study(self, parameter: _Parameter, pick: Callable[..., Any]) -> Any:
        if self._study is not None:
            return self.run(pick, self._study)
        if parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"give --study FILE (with --set KEY=VALUE to change values) or {_flag(parameter.option)}")
        return parameter.default


def build_command(function: Callable[..., Any]) -> Any:
    """The command of ``function``, as typer's groups hold it."""

    def run(**given: Any) -> None:
        _Call(given).run(function)

    run.__signature__ = _signature(function)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=description(function))(run)
    return typer.main.get_command(app)
