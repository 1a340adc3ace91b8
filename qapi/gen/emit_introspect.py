# SPDX-License-Identifier: GPL-2.0-or-later
"""introspect.h, introspect.c: the answer to query-qmp-schema.

Only what commands and events lead to is shown. Types lose their names, which
are not interface: they are called by numbers, arrays by their element in [].
"""

import json

from . import names
from .cwriter import CFile
from .schema import Alternate, Array, Builtin, Enum, Struct

_EMPTY = Struct('', None, None)


class Introspection:
    """entities: list of SchemaInfo as dictionaries."""

    def __init__(self, schema):
        self.entities = []
        self._named = {}
        self._queue = []
        for command in schema.commands:
            self._command(command)
        for event in schema.events:
            self._add('event', event.name, event.features,
                      {'arg-type': self._name(event.data or _EMPTY)})
        while self._queue:
            self._type(*self._queue.pop(0))

    def _add(self, meta, name, features, rest):
        info = {'name': name, 'meta-type': meta, **rest}
        if features:
            info['features'] = [feature.name for feature in features]
        self.entities.append(info)

    def _name(self, kind):
        """The public name of a type, which is queued when first met."""
        if isinstance(kind, Array):
            name = f'[{self._name(kind.element)}]'
        elif isinstance(kind, Builtin):
            kind = _shown(kind)
            name = kind.name
        elif kind.name in self._named:
            return self._named[kind.name]
        else:
            name = str(sum(1 for n in self._named.values() if n.isdigit()))
        key = name if isinstance(kind, (Array, Builtin)) else kind.name
        if key not in self._named:
            self._named[key] = name
            self._queue.append((kind, name))
        return name

    def _command(self, command):
        rest = {'arg-type': self._name(command.args or _EMPTY),
                'ret-type': self._name(command.returns or _EMPTY)}
        if command.allow_oob:
            rest['allow-oob'] = True
        self._add('command', command.name, command.features, rest)

    def _type(self, kind, name):
        features = getattr(kind, 'features', [])
        if isinstance(kind, Builtin):
            self._add('builtin', name, [], {'json-type': kind.json})
        elif isinstance(kind, Array):
            self._add('array', name, [], {'element-type': self._name(kind.element)})
        elif isinstance(kind, Enum):
            self._add('enum', name, features, {
                'members': [_with_features({'name': v.name}, v) for v in kind.values],
                'values': [v.name for v in kind.values]})
        elif isinstance(kind, Alternate):
            self._add('alternate', name, features, {
                'members': [{'type': self._name(b.type)} for b in kind.branches]})
        else:
            self._add('object', name, features, self._struct(kind))

    def _struct(self, struct):
        members = []
        for member in struct.members:
            info = {'name': member.name, 'type': self._name(member.type)}
            if member.optional:
                info['default'] = None
            members.append(_with_features(info, member))
        rest = {'members': members}
        if struct.tag:
            rest['tag'] = struct.tag.name
            rest['variants'] = [
                {'case': value.name, 'type': self._name(struct.variants.get(value.name, _EMPTY))}
                for value in struct.tag.type.values]
        return rest


def _shown(builtin):
    """All integers look alike to clients."""
    return Builtin('int', 'int64_t', 'int', True) if builtin.is_int else builtin


def _with_features(info, owner):
    if owner.features:
        info['features'] = [feature.name for feature in owner.features]
    return info


def _symbol(prefix):
    return 'qapi_' + prefix.replace('-', '_') + 'introspection'


def introspect_header(_schema, prefix):
    out = CFile('introspection', f'qapi/{prefix}introspect.h')
    out.add('/* The answer to query-qmp-schema: lines of JSON that follow each other. */\n'
            f'extern const char *const {_symbol(prefix)}[];\n'
            f'extern const unsigned {_symbol(prefix)}_lines;')
    return out.text()


def introspect_source(schema, prefix):
    out = CFile('introspection')
    out.include(f'qapi/{prefix}introspect.h')
    entities = Introspection(schema).entities
    out.add(f'const char *const {_symbol(prefix)}[] = {{')
    for entity in entities:
        out.add(f'    {names.c_string(json.dumps(entity))},')
    out.add(f'}};\nconst unsigned {_symbol(prefix)}_lines = {len(entities)};')
    return out.text()
