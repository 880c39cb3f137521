"""Option dataclasses from and to plain nested dictionaries, as configs hold them. No JAX here."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from world_models.core.errors import ConfigError, UserError, config_error


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A block that is one of several dataclasses.

    Attributes:
      tag: the field that says which, "kind" for example.
      types: dataclass by value of the tag.
    """

    tag: str
    types: Mapping[str, type]

    def name_of(self, options: Any) -> str:
        """The value of the tag for an instance."""
        for name, cls in self.types.items():
            if type(options) is cls:
                return name
        raise TypeError(f"{type(options).__name__} is none of {[cls.__name__ for cls in self.types.values()]}")


@dataclasses.dataclass(frozen=True)
class MapOf:
    """A block whose fields have any names and hold one dataclass each.

    Attributes:
      type: the dataclass.
    """

    type: type


Schema = type | OneOf | MapOf


def config_fields(cls: type) -> Iterator[dataclasses.Field]:
    """The fields of a dataclass that a config holds: all but those with metadata {"config": False}."""
    return (field for field in dataclasses.fields(cls) if field.metadata.get("config", True))


def schema_of(field: dataclasses.Field) -> Schema | None:
    """The schema that a field names with metadata {"schema": …}, where its type alone does not say it."""
    return field.metadata.get("schema")


def to_dict(options: Any, schema: Schema | None = None) -> dict[str, Any]:
    """The fields of an option dataclass as a nested dictionary; the tag of a `OneOf` comes first."""
    if isinstance(schema, MapOf):
        return {name: to_dict(value) for name, value in options.items()}
    tag = {schema.tag: schema.name_of(options)} if isinstance(schema, OneOf) else {}
    fields = config_fields(type(options))
    return tag | {field.name: _plain(getattr(options, field.name), schema_of(field)) for field in fields}


def _plain(value: Any, schema: Schema | None) -> Any:
    is_block = value is not None and (schema or dataclasses.is_dataclass(value))
    return to_dict(value, schema) if is_block else value


def from_dict(schema: Schema, values: Mapping[str, Any], field: str) -> Any:
    """An instance of an option dataclass from the block of a config.

    Lists become tuples and whole numbers floats where a field asks for them; fields that are left out have their
    defaults.

    Args:
      schema: the dataclass, or several to choose from.
      values: the block.
      field: dotted name of the block, for errors.

    Raises:
      ConfigError: naming a field that is unknown, missing or of another type, or a block that its dataclass refuses.
    """
    values = dict(values)
    if isinstance(schema, MapOf):
        return {name: from_dict(schema.type, value, f"{field}.{name}") for name, value in values.items()}
    if isinstance(schema, OneOf):
        name = values.pop(schema.tag, None)
        if name not in schema.types:
            raise config_error(f"{field}.{schema.tag}", name, f"be one of {', '.join(map(repr, schema.types))}")
        schema = schema.types[name]
    hints, fields = typing.get_type_hints(schema), {own.name: own for own in config_fields(schema)}
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{field}.{name}", f"{field} has no field {name!r}: {hint}It has {', '.join(fields)}.")
    missing = [
        name
        for name, own in fields.items()
        if name not in values and own.default is dataclasses.MISSING and own.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{field}.{missing[0]}", f"{field}.{missing[0]} is missing and has no default.")

    def read(name: str, value: Any) -> Any:
        own = fields[name]
        if value is None and own.default is None:
            return None
        return _coerced(schema_of(own) or hints[name], value, f"{field}.{name}")

    own = {name: read(name, value) for name, value in values.items()}
    try:
        return schema(**own)
    except ConfigError:
        raise
    except UserError as error:  # of the dataclass itself, which does not know where it stands
        raise ConfigError(field, f"{field}: {error}") from error


def _coerced(hint: Any, value: Any, field: str) -> Any:
    """`value` as the type or schema that a field declares."""
    if isinstance(hint, OneOf | MapOf) or dataclasses.is_dataclass(hint):
        if dataclasses.is_dataclass(value):
            return value
        if not isinstance(value, Mapping):
            raise config_error(field, value, "be a block of fields")
        return from_dict(hint, value, field)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        errors = []
        for each in arguments:
            try:
                return _coerced(each, value, field)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise config_error(field, value, "be a tuple")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_coerced(arguments[0], one, f"{field}[{i}]") for i, one in enumerate(value))
        if len(value) != len(arguments):
            raise config_error(field, value, f"have {len(arguments)} values")
        return tuple(_coerced(each, one, f"{field}[{i}]") for i, (each, one) in enumerate(zip(arguments, value)))
    if hint is Any or origin is not None:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        wanted = "None" if hint is types.NoneType else f"of type {hint.__name__}"
        raise config_error(field, value, f"be {wanted}")
    return value
