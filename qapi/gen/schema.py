# SPDX-License-Identifier: GPL-2.0-or-later
"""The checked schema: what emitters work on. Everything here is consistent."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from . import names
from .doc import Doc
from .source import Where


@dataclass
class Builtin:
    """c_type: C type of a value; json: QMP's json-type; is_int: takes a range."""

    name: str
    c_type: str
    json: str
    is_int: bool = False


BUILTINS = {b.name: b for b in (
    Builtin('str', 'char *', 'string'),
    Builtin('number', 'double', 'number'),
    Builtin('bool', 'bool', 'boolean'),
    Builtin('null', '', 'null'),
    Builtin('any', 'json_t *', 'value'),
    Builtin('int', 'int64_t', 'int', True),
    Builtin('int8', 'int8_t', 'int', True),
    Builtin('int16', 'int16_t', 'int', True),
    Builtin('int32', 'int32_t', 'int', True),
    Builtin('int64', 'int64_t', 'int', True),
    Builtin('uint8', 'uint8_t', 'int', True),
    Builtin('uint16', 'uint16_t', 'int', True),
    Builtin('uint32', 'uint32_t', 'int', True),
    Builtin('uint64', 'uint64_t', 'int', True),
    Builtin('size', 'uint64_t', 'int', True),
)}
INT_LIMITS = {
    'int': (-2**63, 2**63 - 1), 'int64': (-2**63, 2**63 - 1),
    'int32': (-2**31, 2**31 - 1), 'int16': (-2**15, 2**15 - 1), 'int8': (-128, 127),
    'uint64': (0, 2**64 - 1), 'size': (0, 2**64 - 1),
    'uint32': (0, 2**32 - 1), 'uint16': (0, 2**16 - 1), 'uint8': (0, 255),
}


@dataclass
class Feature:
    """A mark on a definition or member that introspection shows."""

    name: str


@dataclass
class EnumValue:
    """One value of an enum; index is its place."""

    name: str
    index: int
    features: List[Feature] = field(default_factory=list)


@dataclass
class Enum:
    """A set of names."""

    name: str
    where: Where
    doc: Optional[Doc]
    values: List[EnumValue] = field(default_factory=list)
    prefix: Optional[str] = None
    features: List[Feature] = field(default_factory=list)

    def constant(self, value):
        return f'{self.prefix or names.upper(names.snake(self.name))}_{names.upper(value)}'

    def value(self, name):
        return next((v for v in self.values if v.name == name), None)


@dataclass
class Array:
    """A list of element."""

    element: Any

    @property
    def name(self):
        return f'[{self.element.name}]'


@dataclass
class Member:
    """A member of a struct. limits: (min, max) or None."""

    name: str
    type: Any
    optional: bool
    where: Where
    limits: Optional[tuple] = None
    features: List[Feature] = field(default_factory=list)


@dataclass
class Struct:
    """A struct, or a union if tag is set.

    members: all, the base's first. variants: value of the tag -> Struct, only
    for values that have one. implicit: has no name in the schema; its members
    are documented by the command or event owner.
    """

    name: str
    where: Where
    doc: Optional[Doc]
    members: List[Member] = field(default_factory=list)
    base: Optional['Struct'] = None
    tag: Optional[Member] = None
    variants: Dict[str, 'Struct'] = field(default_factory=dict)
    features: List[Feature] = field(default_factory=list)
    implicit: bool = False

    @property
    def snake(self):
        return names.snake(self.name)

    @property
    def is_empty(self):
        return not self.members and not self.variants

    def own_variants(self):
        """Values whose branch has members, with the branch."""
        return [(value, branch) for value, branch in self.variants.items() if not branch.is_empty]


@dataclass
class Alternate:
    """One of several types, told apart by the JSON type of the value."""

    name: str
    where: Where
    doc: Optional[Doc]
    branches: List[Member] = field(default_factory=list)
    features: List[Feature] = field(default_factory=list)

    @property
    def snake(self):
        return names.snake(self.name)

    def kind(self, branch):
        return f'{names.upper(self.snake)}_{names.upper(branch.name)}'


@dataclass
class Command:
    """args: Struct or None; returns: Struct, Alternate, Array, str, any or None."""

    name: str
    where: Where
    doc: Optional[Doc]
    args: Optional[Struct] = None
    returns: Any = None
    allow_oob: bool = False
    features: List[Feature] = field(default_factory=list)


@dataclass
class Event:
    """data: Struct or None."""

    name: str
    where: Where
    doc: Optional[Doc]
    data: Optional[Struct] = None
    features: List[Feature] = field(default_factory=list)


@dataclass
class Schema:
    """Everything, in the order of the text. items: definitions and free Docs."""

    enums: List[Enum] = field(default_factory=list)
    structs: List[Struct] = field(default_factory=list)
    alternates: List[Alternate] = field(default_factory=list)
    commands: List[Command] = field(default_factory=list)
    events: List[Event] = field(default_factory=list)
    items: List[Any] = field(default_factory=list)
    types: Dict[str, Any] = field(default_factory=dict)

    def returned_arrays(self):
        """Element types of arrays that commands return, each once."""
        found = {}
        for command in self.commands:
            if isinstance(command.returns, Array):
                found.setdefault(command.returns.element.name, command.returns.element)
        return list(found.values())
