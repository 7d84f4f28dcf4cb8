"""From layers to validated settings, with the origin of each value and errors people can act on.

Owns the order in which layers override each other and the wording of every configuration error:
one line that names the file with its line, the variable or the option; the key; what is wrong; and
what would be allowed. Must not be used twice for one process's settings: the result is passed on.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from usenetfs.config.models import Settings
from usenetfs.config.sources import KeyPath, Layer, Tree, read_layers
from usenetfs.errors import ConfigurationError

DEFAULT_PLACE: Final = "default"


class LayerSource(PydanticBaseSettingsSource):
    """A layer, as pydantic-settings wants its sources."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._layer.tree.get(field_name), field_name, False

    def __call__(self) -> Tree:
        return self._layer.tree


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings and where they came from."""

    settings: Settings
    layers: tuple[Layer, ...]

    def origin(self, path: KeyPath) -> str:
        """``file:line``, variable or option that set ``path``; ``default`` when nobody did."""
        for layer in self.layers:
            if layer.holds(path):
                return layer.place(path)
        return DEFAULT_PLACE

    def values(self) -> Iterator[tuple[KeyPath, Any, str]]:
        """Every leaf: its path, its value as a configuration file spells it, its origin."""
        yield from self._leaves((), self.settings.model_dump(mode="json"))

    def _leaves(self, path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from self._leaves((*path, key), inner)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, inner in enumerate(value):
                yield from self._leaves((*path, index), inner)
        else:
            yield path, value, self.origin(path)


def load(
    *,
    config_file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, tuple[KeyPath, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read, merge and validate all sources; ConfigurationError names the first thing wrong."""
    return validate(
        read_layers(
            config_file=config_file,
            assignments=assignments,
            options=options,
            environment=environment,
        )
    )


def validate(layers: tuple[Layer, ...]) -> LoadedSettings:
    """Merge ``layers`` (strongest first) and validate the result."""
    kept = tuple(_without_foreign_variables(layer) for layer in layers)

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(LayerSource(settings_cls, layer) for layer in kept)

    try:
        settings = Layered()
    except ValidationError as error:
        raise _translated(error.errors(include_url=False), kept) from None
    return LoadedSettings(settings=settings, layers=kept)


def _without_foreign_variables(layer: Layer) -> Layer:
    """Drop variables that merely share our prefix; keep typing errors, so that they are reported.

    ``USENETFS_BENCH_SIZE`` may be anybody's. ``USENETFS_CAHCE__MAX_SIZE`` can only be meant for us,
    and so can a name that nearly is one of ours.
    """
    if layer.kind != "environment":
        return layer
    known = Settings.model_fields
    foreign = {
        name
        for name, value in layer.tree.items()
        if name not in known
        and not isinstance(value, dict)
        and not difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    }
    tree = {name: value for name, value in layer.tree.items() if name not in foreign}
    return Layer(kind=layer.kind, tree=tree, places=layer.places)


# --- errors --------------------------------------------------------------------------------------


def _translated(details: list[ErrorDetails], layers: tuple[Layer, ...]) -> ConfigurationError:
    first = details[0]
    path: KeyPath = first["loc"]
    name = ".".join(_spelled(path))
    problem, hint = _problem(first)
    place = _place(path, layers)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    subject = f"{name}: " if name else ""
    return ConfigurationError(f"{place}: {subject}{problem}{more}", hint=hint)


def _place(path: KeyPath, layers: tuple[Layer, ...]) -> str:
    """Where to look: the layer that set ``path``, or that set the table in which it is missing."""
    for length in range(len(path), 0, -1):
        for layer in layers:
            if layer.holds(path[:length]):
                return layer.place(path)
    return "configuration"


def _spelled(path: KeyPath) -> list[str]:
    """``servers[0]`` rather than ``servers.0``; elements are counted from 1, as people do."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int) and parts:
            parts[-1] += f"[{step + 1}]"
        else:
            parts.append(str(step))
    return parts


def _problem(detail: ErrorDetails) -> tuple[str, str | None]:
    """What is wrong, and what to do about it."""
    kind, given = detail["type"], _shown(detail["input"])
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"])
    if kind == "missing":
        return "is missing", None
    if kind == "value_error":
        return str(context["error"]), None
    if kind in {"literal_error", "enum"}:
        return f"{given} is not one of {context['expected']}", None
    if kind in _EXPECTED:
        return f"{given} is not {_EXPECTED[kind]}", None
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{given} is out of range; it must be {words} {context[key]}", None
    if kind in {"string_too_short", "too_short"}:
        return "must not be empty", None
    if kind == "string_pattern_mismatch":
        return f"{given} has characters that are not allowed here", None
    return f"{given}: {detail['msg']}", None


_EXPECTED: Final = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "is_instance_of": "a path in quotes",
    "tuple_type": 'a list such as ["a", "b"]',
    "list_type": 'a list such as ["a", "b"]',
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
    "dict_type": "a section with keys of its own",
}
"""What pydantic's type errors mean to the writer of a configuration file."""

_BOUNDS: Final = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}


def _unknown_key(path: KeyPath) -> tuple[str, str | None]:
    known = sorted(_model_at(path[:-1]).model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    if path[-1] == "password":
        return (
            "passwords do not belong in configuration",
            "remove it and store it encrypted with: usenetfs server add",
        )
    if close:
        meant = ".".join([*_spelled(path)[:-1], close[0]])
        return f'unknown key; did you mean "{meant}"?', None
    return f"unknown key; known here: {', '.join(known)}", None


def _model_at(path: KeyPath) -> type[BaseModel]:
    """The model whose keys are written directly below ``path``."""
    model: type[BaseModel] = Settings
    for step in path:
        if isinstance(step, str) and step in model.model_fields:
            model = next(_models_in(model.model_fields[step].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions: itself, or inside ``tuple[…]``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
