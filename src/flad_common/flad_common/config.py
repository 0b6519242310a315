# SPDX-License-Identifier: Apache-2.0
"""One frozen dataclass per component: the only place a knob is declared.

YAML keys, ROS parameter names and the text of ``ros2 param describe`` are all read from its fields,
so a config file means the same thing to a node, to the evaluation CLI and to a test. The ROS side
stands in :mod:`flad_common.ros.parameters`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")

_SCALARS = (bool, int, float, str)


def knob(default: Any = MISSING, *, unit: str, doc: str) -> Any:
    """Declare one config field; ``unit="1"`` marks a dimensionless one.

    A list of knobs is a ``tuple[float, ...]`` with a tuple as its default, so that the config
    stays frozen.
    """
    return field(default=default, metadata={"unit": unit, "doc": doc})


def section(cls: Callable[[], Any], *, doc: str) -> Any:
    """Declare one nested config; its default is ``cls()``, which must need no arguments."""
    return field(default_factory=cls, metadata={"unit": "", "doc": doc})


def from_mapping(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build ``cls`` from plain values, as YAML or ROS parameters give them.

    Nested configs take mappings; tuples and frozen dataclasses in tuples take lists.

    Raises:
        ValueError: on a key that is not a field (a typo must not silently mean "use the default"),
            on a field without a default that is missing, and on what the class itself refuses.
        TypeError: on a value of the wrong type, as ROS would: an integer is not a float.
    """
    config: C = _build(cls, values, cls.__name__)
    return config


def from_yaml(cls: type[C], path: Path, node_name: str | None = None) -> C:
    """Read a config file without ROS.

    Args:
        cls: the config to build.
        path: a YAML file.
        node_name: read this node's block of a ROS parameter file (``/**/name: ros__parameters:``);
            without it, the whole file is one plain mapping.

    Raises:
        ValueError: if the file is not YAML, has no such block, or does not fit ``cls``; the
            message starts with the path.
    """
    values = read_yaml(path)
    if node_name is not None:
        for key, block in values.items():
            if str(key).rsplit("/", 1)[-1] == node_name:
                values = block["ros__parameters"]
                break
        else:
            raise ValueError(f"{path} has no block for node {node_name!r}; it has {sorted(values)}")
    try:
        return from_mapping(cls, values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ValueError: if it cannot be parsed, or its top level is something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping of keys to values, got {values!r}")
    return values


def to_mapping(config: DataclassInstance) -> dict[str, Any]:
    """Plain values of ``config``: what ``from_mapping`` takes, what is written beside results."""
    plain = _plain(config)
    assert isinstance(plain, dict)
    return plain


def to_yaml(config: DataclassInstance) -> str:
    """``config`` as YAML text, each key with its sentence, for the folder of a run.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Horn:
        ...     loud_db: float = knob(90.0, unit="dB", doc="Sound level at one metre.")
        >>> print(to_yaml(Horn()), end="")
        loud_db: 90.0  # Sound level at one metre. [dB]
    """
    text = yaml.safe_dump(to_mapping(config), sort_keys=False, width=1000)
    comments = {k.name: k for k in knobs(type(config)) if "." not in k.name}
    lines = []
    for line in text.splitlines():
        described = comments.get(line.split(":", 1)[0])
        lines.append(f"{line}  # {described.text}" if described else line)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One declared field: what documentation and ROS parameters are made from."""

    name: str
    """Dotted through nested configs, as ROS writes it: ``speed.kp``."""
    type: Any
    default: Any
    """``dataclasses.MISSING`` where a value must be given."""
    unit: str
    doc: str

    @property
    def text(self) -> str:
        """The sentence and the unit, for ``ros2 param describe`` and comments."""
        return f"{self.doc} [{self.unit}]" if self.unit else self.doc

    @property
    def type_name(self) -> str:
        """``float`` or ``tuple[float, ...]``, for people."""
        return self.type.__name__ if isinstance(self.type, type) else str(self.type)


def knobs(cls: type[Any], prefix: str = "") -> Iterator[Knob]:
    """Every knob of ``cls``, nested ones under their dotted names."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from knobs(hint, f"{prefix}{f.name}.")
        else:
            yield Knob(
                name=prefix + f.name,
                type=hint,
                default=default,
                unit=f.metadata.get("unit", ""),
                doc=f.metadata.get("doc", ""),
            )


def _build(cls: type[Any], values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise TypeError(f"{where} is a mapping of its fields, got {values!r}")
    hints = typing.get_type_hints(cls)
    declared = {f.name: f for f in dataclasses.fields(cls) if f.init}
    if unknown := sorted(str(key) for key in values.keys() - declared.keys()):
        raise ValueError(f"{where} has no {unknown}; its fields are {sorted(declared)}")
    needed = {
        name
        for name, f in declared.items()
        if f.default is MISSING and f.default_factory is MISSING
    }
    if missing := sorted(needed - values.keys()):
        raise ValueError(f"{where} needs {missing}, which have no default")
    return cls(**{n: _convert(hints[n], v, f"{where}.{n}") for n, v in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as ``hint`` says, or an error that says what it should have been."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if type(value) is hint else _build(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_optional(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments or type(value) not in {type(a) for a in arguments}:
            raise ValueError(f"{where} is one of {list(arguments)}, got {value!r}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise TypeError(f"{where} is a mapping, got {value!r}")
        return {
            _convert(arguments[0], k, where): _convert(arguments[1], v, f"{where}[{k!r}]")
            for k, v in value.items()
        }
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint in _SCALARS and type(value) is hint:
        return value
    if hint is Any:
        return value
    raise TypeError(f"{where} is a {getattr(hint, '__name__', hint)}, got {value!r}")


def _convert_optional(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """``X | None``: the only union a file can say without guessing."""
    kinds = [a for a in arguments if a is not type(None)]
    if len(kinds) != 1 or len(kinds) == len(arguments):
        raise TypeError(f"{where}: a config field may be X or X | None, not {arguments}")
    return None if value is None else _convert(kinds[0], value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    # ROS hands arrays over as array.array, YAML as lists.
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{where} is a list, got {value!r}")
    items = list(value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        hints = [arguments[0]] * len(items)
    elif len(arguments) == len(items):
        hints = list(arguments)
    else:
        raise ValueError(f"{where} has {len(arguments)} values, got {len(items)}: {items!r}")
    pairs = zip(hints, items, strict=True)
    return tuple(_convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(pairs))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
