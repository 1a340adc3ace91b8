# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions into a Schema. Whatever is wrong is a SchemaError at its line.

Three passes: names of all definitions; their content; what needs content of
others (bases, variants, collisions). Conditions are decided in the first: what
is not wanted does not exist for the others.
"""

import re

from . import names
from .conditions import wanted
from .ctypes_of import returned_array
from .docs_check import check_doc
from .parser import Expr, Object
from .schema import (BUILTINS, INT_LIMITS, Alternate, Array, Builtin, Command, Enum, EnumValue,
                     Event, Feature, Member, Schema, Struct)
from .source import SchemaError

_KEYS = {
    'enum': {'data', 'prefix', 'if', 'features'},
    'struct': {'data', 'base', 'if', 'features'},
    'union': {'data', 'base', 'discriminator', 'if', 'features'},
    'alternate': {'data', 'if', 'features'},
    'command': {'data', 'returns', 'boxed', 'allow-oob', 'coroutine', 'if', 'features'},
    'event': {'data', 'boxed', 'if', 'features'},
}
_VENDOR = r'(__)?'
_MEMBER = re.compile(_VENDOR + r'[A-Za-z][A-Za-z0-9_-]*$')
_VALUE = re.compile(_VENDOR + r'[A-Za-z0-9][A-Za-z0-9_-]*$')
_TYPE = re.compile(r'[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*$')
_COMMAND = re.compile(_VENDOR + r'[a-z][a-z0-9_-]*$')
_EVENT = re.compile(r'[A-Z][A-Z0-9_]*$')


class Checker:
    """Use: Checker(defines).check(parser) -> Schema."""

    def __init__(self, defines=()):
        self.defines = frozenset(defines)
        self.schema = Schema()
        self.defined_at = {}
        self.snakes = {}
        self.exprs = {}     # name -> expression
        self.unwanted = set()   # (definition, member) that a condition removed

    def check(self, parser):
        """Raise SchemaError or return the Schema of what @parser has read."""
        pending = []
        for item in parser.items:
            if not isinstance(item, Expr):
                self.schema.items.append(item)
                continue
            definition = self._declare(item)
            if definition is not None:
                pending.append((item.value, definition))
                self.schema.items.append(definition)
        for expr, definition in pending:
            self._fill(expr, definition)
        for expr, definition in pending:
            self._link(expr, definition)
        for _, definition in pending:
            self._finish(definition)
        self._claim_derived()
        self._order_structs()
        for _, definition in pending:
            check_doc(definition, self.unwanted)
        return self.schema

    # First pass: names

    def _declare(self, expr):
        value = expr.value
        meta = [key for key in value if key in _KEYS]
        if len(meta) != 1:
            raise SchemaError(expr.where, 'a definition has exactly one of '
                              + ', '.join(f"'{key}'" for key in _KEYS))
        meta = meta[0]
        name = self._string(value, meta)
        self._known_keys(value, _KEYS[meta] | {meta}, f"{meta} '{name}'")
        if expr.doc is None:
            raise SchemaError(expr.where, f"{meta} '{name}' has no documentation comment")
        if expr.doc.symbol != name:
            raise SchemaError(expr.doc.where, f"documentation is of '{expr.doc.symbol}' but the "
                              f"definition is of '{name}'")
        if not wanted(value, self.defines):
            return None
        self._check_name(meta, name, expr.where)
        self._claim(name, expr.where)
        features = self._features(value)
        self.exprs[name] = value
        definition = self._new(meta, name, expr)
        definition.features = features
        return definition

    def _new(self, meta, name, expr):
        schema = self.schema
        kinds = {
            'enum': (Enum, schema.enums), 'struct': (Struct, schema.structs),
            'union': (Struct, schema.structs), 'alternate': (Alternate, schema.alternates),
            'command': (Command, schema.commands), 'event': (Event, schema.events),
        }
        kind, into = kinds[meta]
        definition = kind(name, expr.where, expr.doc)
        into.append(definition)
        if meta not in ('command', 'event'):
            schema.types[name] = definition
            self._claim_snake(name, expr.where)
        return definition

    def _claim(self, name, where):
        if name in self.defined_at:
            raise SchemaError(where, f"'{name}' is already defined at {self.defined_at[name]}")
        self.defined_at[name] = where

    def _claim_snake(self, name, where):
        snake = names.snake(name)
        if snake in self.snakes:
            raise SchemaError(where, f"'{name}' and '{self.snakes[snake]}' have the same name in C")
        self.snakes[snake] = name

    @staticmethod
    def _check_name(meta, name, where):
        if meta == 'command':
            if not _COMMAND.match(name):
                raise SchemaError(where, f"command name '{name}' must be lower-case")
        elif meta == 'event':
            if not _EVENT.match(name):
                raise SchemaError(where, f"event name '{name}' must be UPPER_CASE")
        elif name in BUILTINS:
            raise SchemaError(where, f"'{name}' is a built-in type")
        elif not _TYPE.match(name):
            raise SchemaError(where, f"type name '{name}' must be CamelCase")

    # Pieces

    @staticmethod
    def _string(value, key):
        if not isinstance(value[key], str):
            raise SchemaError(value.key_where[key], f"'{key}' must be a string")
        return value[key]

    @staticmethod
    def _flag(value, key):
        if key not in value:
            return False
        if value[key] is not True:
            raise SchemaError(value.key_where[key], f"'{key}' can only be true")
        return True

    @staticmethod
    def _known_keys(value, known, what):
        for key in value:
            if key not in known:
                raise SchemaError(value.key_where[key], f"{what} has unknown key '{key}'")

    def _required(self, value, key, what):
        if key not in value:
            raise SchemaError(value.where, f"{what} has no '{key}'")
        return value[key]

    def _features(self, value):
        if 'features' not in value:
            return []
        where = value.key_where['features']
        if not isinstance(value['features'], list):
            raise SchemaError(where, "'features' must be an array")
        result = []
        for entry in value['features']:
            if isinstance(entry, str):
                name = entry
            elif isinstance(entry, Object) and 'name' in entry:
                self._known_keys(entry, {'name', 'if'}, 'feature')
                name = self._string(entry, 'name')
                if not wanted(entry, self.defines):
                    continue
            else:
                raise SchemaError(where, "a feature is a string or an object with 'name'")
            if not _MEMBER.match(name):
                raise SchemaError(where, f"feature name '{name}' is not valid")
            if any(name == other.name for other in result):
                raise SchemaError(where, f"duplicate feature '{name}'")
            result.append(Feature(name))
        return result

    def _type(self, spec, where, what):
        """A type named in the schema: 'T' or ['T']."""
        if isinstance(spec, list):
            if len(spec) != 1 or not isinstance(spec[0], str):
                raise SchemaError(where, f"{what}: an array type is ['TYPE']")
            element = self._type(spec[0], where, what)
            if element is BUILTINS['null']:
                raise SchemaError(where, f'{what}: there are no arrays of null')
            return Array(element)
        if not isinstance(spec, str):
            raise SchemaError(where, f'{what}: a type is a name or an array')
        if spec in BUILTINS:
            return BUILTINS[spec]
        if spec not in self.schema.types:
            raise SchemaError(where, f"{what}: unknown type '{spec}'")
        return self.schema.types[spec]

    def _members(self, data, owner):
        """The members that an object 'data' or inline base describes."""
        result = []
        for key, spec in data.items():
            where = data.key_where[key]
            optional = key.startswith('*')
            name = key[1:] if optional else key
            what = f"member '{name}' of '{owner}'"
            self._check_member_name(name, where, what)
            if any(name == other.name for other in result):
                raise SchemaError(where, f'{what} is defined twice')
            member = self._member(name, optional, spec, where, what)
            if member:
                result.append(member)
            else:
                self.unwanted.add((owner, name))
        return result

    @staticmethod
    def _check_member_name(name, where, what):
        if not _MEMBER.match(name):
            raise SchemaError(where, f'{what}: the name is not valid')
        if name == 'u' or re.match(r'(has|q|n)[-_.]', name):
            raise SchemaError(where, f"{what}: 'u', 'has-', 'n-' and 'q-' are reserved")

    def _member(self, name, optional, spec, where, what):
        if not isinstance(spec, Object):
            spec_type, spec = spec, Object(where)
        else:
            self._known_keys(spec, {'type', 'if', 'features', 'range'}, what)
            spec_type = self._required(spec, 'type', what)
        if not wanted(spec, self.defines):
            return None
        member = Member(name, self._type(spec_type, where, what), optional, where)
        if member.type is BUILTINS['null']:
            raise SchemaError(where, f"{what}: only a branch of an alternate can be 'null'")
        member.features = self._features(spec)
        if 'range' in spec:
            member.limits = self._range(spec['range'], member.type, where, what)
        return member

    @staticmethod
    def _range(limits, kind, where, what):
        if not isinstance(kind, Builtin) or not kind.is_int:
            raise SchemaError(where, f"{what}: only an integer has a 'range'")
        if (not isinstance(limits, list) or len(limits) != 2
                or any(type(limit) is not int for limit in limits)):
            raise SchemaError(where, f"{what}: 'range' is [min, max]")
        low, high = INT_LIMITS[kind.name]
        if limits[0] > limits[1]:
            raise SchemaError(where, f"{what}: 'range' is empty")
        if limits[0] < low or limits[1] > high:
            raise SchemaError(where, f"{what}: 'range' does not fit '{kind.name}'")
        return tuple(limits)

    # Second pass: content

    def _fill(self, expr, definition):
        if isinstance(definition, Enum):
            self._fill_enum(expr, definition)
        elif isinstance(definition, Alternate):
            self._fill_alternate(expr, definition)
        elif isinstance(definition, Struct) and 'struct' in expr:
            data = self._object(expr, 'data', f"struct '{definition.name}'")
            definition.members = self._members(data, definition.name)
        elif isinstance(definition, Struct):
            base = self._required(expr, 'base', f"union '{definition.name}'")
            if isinstance(base, Object):
                definition.members = self._members(base, definition.name)

    def _object(self, expr, key, what):
        value = self._required(expr, key, what)
        if not isinstance(value, Object):
            raise SchemaError(expr.key_where[key], f"'{key}' of {what} must be an object")
        return value

    def _fill_enum(self, expr, enum):
        what = f"enum '{enum.name}'"
        data = self._required(expr, 'data', what)
        if not isinstance(data, list):
            raise SchemaError(expr.key_where['data'], f"'data' of {what} must be an array")
        if 'prefix' in expr:
            enum.prefix = self._string(expr, 'prefix')
        seen = {}
        for entry in data:
            where = entry.where if isinstance(entry, Object) else expr.key_where['data']
            if isinstance(entry, str):
                name, entry = entry, Object(where)
            elif isinstance(entry, Object):
                self._known_keys(entry, {'name', 'if', 'features'}, f'value of {what}')
                self._required(entry, 'name', f'value of {what}')
                name = self._string(entry, 'name')
            else:
                raise SchemaError(where, f"a value of {what} is a string or an object with 'name'")
            if not _VALUE.match(name):
                raise SchemaError(where, f"{what}: value '{name}' is not valid")
            if names.upper(name) in seen:
                raise SchemaError(where, f"{what}: '{name}' collides with "
                                  f"'{seen[names.upper(name)]}'")
            seen[names.upper(name)] = name
            if wanted(entry, self.defines):
                enum.values.append(EnumValue(name, len(enum.values), self._features(entry)))
            else:
                self.unwanted.add((enum.name, name))

    def _fill_alternate(self, expr, alternate):
        what = f"alternate '{alternate.name}'"
        data = self._object(expr, 'data', what)
        taken = {}
        for key, spec in data.items():
            where = data.key_where[key]
            if key.startswith('*'):
                raise SchemaError(where, f'{what}: branches are not optional')
            if not _MEMBER.match(key):
                raise SchemaError(where, f"{what}: branch name '{key}' is not valid")
            if isinstance(spec, Object):
                self._known_keys(spec, {'type', 'if'}, what)
                if not wanted(spec, self.defines):
                    self.unwanted.add((alternate.name, key))
                    continue
                spec = self._required(spec, 'type', what)
            branch = Member(key, self._type(spec, where, what), False, where)
            for json in self._json_types(branch.type, where, what):
                if json in taken:
                    raise SchemaError(where, f"{what}: branch '{key}' can't be told apart from "
                                      f"'{taken[json]}'")
                taken[json] = key
            alternate.branches.append(branch)
        if not alternate.branches:
            raise SchemaError(expr.where, f'{what} has no branches')

    @staticmethod
    def _json_types(kind, where, what):
        """What JSON may look like for a branch; text forms count as well."""
        if isinstance(kind, Struct):
            return {'object'}
        if isinstance(kind, Enum):
            return {'string'}
        if isinstance(kind, Builtin) and kind.name in ('str', 'int', 'number', 'bool', 'null'):
            same_as_text = {'str': {'string', 'int', 'bool'}, 'number': {'int'}}
            return same_as_text.get(kind.name, {kind.name})
        raise SchemaError(where, f"{what}: '{kind.name}' can't be a branch")

    # Third pass: what looks into others

    def _link(self, expr, definition):
        if isinstance(definition, Struct):
            self._link_base(expr, definition, [])
            if 'union' in expr:
                self._link_variants(expr, definition)
        elif isinstance(definition, Command):
            self._link_command(expr, definition)
        elif isinstance(definition, Event):
            self._flag(expr, 'boxed')
            if 'data' in expr:
                definition.data = self._arguments(expr, definition.name,
                                                  names.camel(definition.name) + 'Event')
        elif isinstance(definition, Alternate):
            self._check_enum_branches(definition)

    @staticmethod
    def _check_enum_branches(alternate):
        kinds = {branch.type.name for branch in alternate.branches}
        for branch in alternate.branches:
            if not isinstance(branch.type, Enum):
                continue
            for value in branch.type.values:
                if value.name in ('on', 'off') and 'bool' in kinds:
                    raise SchemaError(branch.where, f"alternate '{alternate.name}': value "
                                      f"'{value.name}' can't be told apart from a bool")
                if value.name[0].isdigit() and kinds & {'int', 'number'}:
                    raise SchemaError(branch.where, f"alternate '{alternate.name}': value "
                                      f"'{value.name}' can't be told apart from a number")

    def _link_base(self, expr, struct, chain):
        """Put the base's members first. Bases link when first needed."""
        base = expr.get('base')
        if base is None or isinstance(base, Object) or struct.base:
            return
        what = f"base of '{struct.name}'"
        where = expr.key_where['base']
        found = self._type(base, where, what)
        if not isinstance(found, Struct) or found.tag or 'union' in self._expr_of(found):
            raise SchemaError(where, f"{what}: '{base}' is not a struct")
        if found is struct or found in chain:
            raise SchemaError(where, f"{what}: '{struct.name}' contains itself")
        self._link_base(self._expr_of(found), found, chain + [struct])
        struct.base = found
        for member in struct.members:
            if any(member.name == other.name for other in found.members):
                raise SchemaError(member.where, f"member '{member.name}' of '{struct.name}' is "
                                  f"also in its base '{found.name}'")
        struct.members = found.members + struct.members

    def _expr_of(self, struct):
        return self.exprs[struct.name]

    def _link_variants(self, expr, union):
        what = f"union '{union.name}'"
        tag_name = self._required(expr, 'discriminator', what)
        where = expr.key_where['discriminator']
        tag = next((m for m in union.members if m.name == tag_name), None)
        if tag is None:
            raise SchemaError(where, f"{what}: discriminator '{tag_name}' is not in the base")
        if tag.optional or not isinstance(tag.type, Enum):
            raise SchemaError(where, f"{what}: discriminator '{tag_name}' must be an enum that is "
                              'not optional')
        union.tag = tag
        data = self._object(expr, 'data', what)
        for key, spec in data.items():
            where = data.key_where[key]
            if isinstance(spec, Object):
                self._known_keys(spec, {'type', 'if'}, what)
                if not wanted(spec, self.defines):
                    continue
                spec = self._required(spec, 'type', what)
            if not tag.type.value(key):
                raise SchemaError(where, f"{what}: branch '{key}' is not a value of "
                                  f"'{tag.type.name}'")
            branch = self._type(spec, where, what)
            if not isinstance(branch, Struct):
                raise SchemaError(where, f"{what}: branch '{key}' must be a struct")
            union.variants[key] = branch

    def _arguments(self, expr, owner, implicit_name):
        """'data' of a command or event as a Struct."""
        data = expr['data']
        where = expr.key_where['data']
        if isinstance(data, Object):
            if expr.get('boxed'):
                raise SchemaError(where, f"'{owner}': 'boxed' needs a named type")
            self._claim(implicit_name, where)
            self._claim_snake(implicit_name, where)
            struct = Struct(implicit_name, where, None, self._members(data, owner), implicit=True)
            self.schema.structs.append(struct)
            return struct
        found = self._type(data, where, f"data of '{owner}'")
        if not isinstance(found, Struct):
            raise SchemaError(where, f"data of '{owner}' must be an object or a struct")
        return found

    def _link_command(self, expr, command):
        self._flag(expr, 'boxed')
        self._flag(expr, 'coroutine')
        command.allow_oob = self._flag(expr, 'allow-oob')
        if 'data' in expr:
            command.args = self._arguments(expr, command.name,
                                           f'Qmp{names.camel(command.name)}Args')
        if 'returns' not in expr:
            return
        where = expr.key_where['returns']
        what = f"returns of '{command.name}'"
        found = self._type(expr['returns'], where, what)
        if (isinstance(found, Enum)
                or isinstance(found, Builtin) and found.name not in ('str', 'any')):
            raise SchemaError(where, f"{what}: must be an object, an array, 'str' or 'any'")
        command.returns = found

    def _finish(self, definition):
        """Collisions that only the complete picture shows."""
        if isinstance(definition, Command):
            definition = definition.args
        elif isinstance(definition, Event):
            definition = definition.data
        if not isinstance(definition, Struct):
            return
        fields = {}
        for member in definition.members:
            for name in c_fields(member):
                if name in fields:
                    raise SchemaError(member.where, f"member '{member.name}' of "
                                      f"'{definition.name}' collides with '{fields[name]}' in C")
                fields[name] = member.name
        for value, branch in definition.variants.items():
            for member in branch.members:
                if any(member.name == other.name for other in definition.members):
                    raise SchemaError(member.where, f"member '{member.name}' of branch '{value}' "
                                      f"is also in the base of '{definition.name}'")

    def _claim_derived(self):
        """Names that C has and the schema has not."""
        for alternate in self.schema.alternates:
            self._claim_snake(alternate.name + 'Kind', alternate.where)
        for element in self.schema.returned_arrays():
            name, _ = returned_array(element)
            where = next(c.where for c in self.schema.commands
                         if isinstance(c.returns, Array) and c.returns.element is element)
            self._claim_snake(name, where)

    def _order_structs(self):
        """A union holds its branches by value, so they come first in C."""
        done, ordered = set(), []

        def visit(struct, path):
            if struct in path:
                raise SchemaError(struct.where, f"'{struct.name}' contains itself")
            if struct.name in done:
                return
            for branch in struct.variants.values():
                visit(branch, path + [struct])
            done.add(struct.name)
            ordered.append(struct)

        for struct in self.schema.structs:
            visit(struct, [])
        self.schema.structs = ordered


def c_fields(member):
    """Names that a member takes in its C struct."""
    flag = names.flag_name(member.name)
    result = [names.c_name(member.name)]
    if isinstance(member.type, Array):
        result.append('n_' + flag)
    if has_flag(member):
        result.append('has_' + flag)
    return result


def has_flag(member):
    """Is there a 'bool has_x'? Pointers are NULL instead."""
    if not member.optional:
        return False
    if isinstance(member.type, (Array, Enum)):
        return True
    return isinstance(member.type, Builtin) and not member.type.c_type.endswith('*')
