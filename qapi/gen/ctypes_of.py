# SPDX-License-Identifier: GPL-2.0-or-later
"""How types of the schema look in C, for all emitters."""

from . import names
from .schema import Alternate, Array, Builtin, Enum, Struct


def is_pointer(kind):
    """Held by pointer, NULL when absent."""
    return (isinstance(kind, (Struct, Alternate))
            or isinstance(kind, Builtin) and kind.c_type.endswith('*'))


def c_type(kind):
    """C type of a value; ends in '*' if it is a pointer, without space after it."""
    if isinstance(kind, Builtin):
        return kind.c_type
    if isinstance(kind, Enum):
        return kind.name
    return f'{kind.name} *'


def declare(kind, name):
    """Declaration of a variable or member, without ';'."""
    text = c_type(kind)
    return f'{text}{name}' if text.endswith('*') else f'{text} {name}'


def declare_array(kind, name):
    """Declaration of a pointer to the elements."""
    text = c_type(kind)
    return f'{text}*{name}' if text.endswith('*') else f'{text} *{name}'


def returned_array(element):
    """(C type, snake name) of the struct that a command returns for [element]."""
    if isinstance(element, Builtin):
        base = names.camel(element.name)
    else:
        base = element.name
    return base + 'Array', names.snake(base) + '_array'


def descriptor(kind):
    """Name of the QapiType that describes @kind."""
    if isinstance(kind, Builtin):
        return f'qapi_builtin_{kind.name}'
    return f'qapi_type_{names.snake(kind.name)}'


def is_array(kind):
    return isinstance(kind, Array)
