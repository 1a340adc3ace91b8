#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema compiler: what it refuses, in which words, and what it makes."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', '..')
sys.path.insert(0, os.path.join(SOURCE, 'qapi'))
sys.dont_write_bytecode = True

from gen.checker import Checker                     # noqa: E402
from gen.emit_docs import manual                    # noqa: E402
from gen.emit_introspect import Introspection       # noqa: E402
from gen.parser import Parser                       # noqa: E402
from gen.source import SchemaError                  # noqa: E402

MAIN = os.path.join(SOURCE, 'qapi', 'gen', 'main.py')


def doc(name, *members, extra=''):
    """A documentation comment."""
    lines = ['##', f'# @{name}:', '#', '# Text.', '#']
    lines += [f'# @{member}: text' for member in members]
    return '\n'.join(lines) + '\n' + extra + '##\n'


def definition(text, *members, extra=''):
    """@text with the documentation that its first name and @members need."""
    name = re.search(r": *'([^']+)'", text).group(1)
    return doc(name, *members, extra=extra) + text + '\n'


ENUM = definition("{ 'enum': 'Enu', 'data': [ 'a', 'b' ] }", 'a', 'b')
STRUCT = definition("{ 'struct': 'Str', 'data': { 'm': 'int' } }", 'm')


class Case(unittest.TestCase):
    """Writes schemas into a directory of its own."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def write(self, text, name='s.json'):
        file = os.path.join(self.directory, name)
        with open(file, 'w', encoding='utf-8') as stream:
            stream.write(text)
        return file

    def check(self, text, defines=()):
        return Checker(defines).check(Parser(self.write(text)))

    def refused(self, text, words, line=None):
        """@text is wrong in its last line that has code, unless @line says otherwise."""
        with self.assertRaises(SchemaError) as caught:
            self.check(text)
        self.assertIn(words, caught.exception.text)
        self.assertTrue(str(caught.exception).startswith(self.directory + '/s.json:'))
        if line:
            self.assertEqual(caught.exception.where.line, line)

    def refused_definition(self, text, words, *members, before=''):
        """A documented definition is wrong, at the line of @text."""
        whole = before + definition(text, *members)
        line = whole[:whole.index(text)].count('\n') + 1
        self.refused(whole, words, line)


class Syntax(Case):
    """The language below definitions."""

    def test_tokens(self):
        self.refused('\n\nfoo', "stray 'foo'", 3)
        self.refused("{ 'a': 'b\n", "missing terminating ' of a string", 1)
        self.refused('{ "a": 1 }', "stray '\"'", 1)
        self.refused("{ 'a\\n': 1 }", 'escapes are not allowed', 1)
        self.refused("{ 'é': 1 }", 'printable ASCII', 1)
        self.refused("{ 'a': null }", "stray 'null'", 1)

    def test_structure(self):
        self.refused("[ 'a' ]", "expected '{' of a definition, got '['", 1)
        self.refused("{ 'a' 'b' }", "expected ':', got 'b'", 1)
        self.refused("{ 'a': 'b'\n'c': 1 }", "expected ',' or '}', got 'c'", 2)
        self.refused("{ 'a': [ 'b' 'c' ] }", "expected ',' or ']', got 'c'", 1)
        self.refused("{ 'a': 'b', }", "expected a key, got '}'", 1)
        self.refused("{ 'a': [ 'b', ] }", "expected a string, boolean, integer", 1)
        self.refused("{ 'a': 'b'", 'got end of file', 1)
        self.refused("{ 'a': 1,\n'a': 2 }", "duplicate key 'a'", 2)
        self.refused('{ 1: 2 }', 'a key is a string', 1)

    def test_comments(self):
        self.check("# nothing\n## neither\n" + ENUM + '# nor this\n')
        self.refused('##\n# @A:\n', "must end with '##'", 1)
        self.refused("##\n# @A:\n{ 'enum': 'A' }\n##\n", "must end with '##'", 3)
        self.refused('##\n#@A:\n##\n', "missing space after '#'", 2)

    def test_include(self):
        self.write(ENUM, 'inner.json')
        schema = self.check("{ 'include': 'inner.json' }\n{ 'include': 'inner.json' }\n" + STRUCT)
        self.assertEqual(len(schema.enums), 1)
        self.refused("\n{ 'include': 'none.json' }", "can't read", 2)
        self.refused("{ 'include': 'inner.json', 'if': 'A' }", "'include' stands alone", 1)
        self.refused("{ 'include': true }", "'include' must be a string", 1)

    def test_an_error_names_the_included_file(self):
        self.write('\n\nfoo', 'inner.json')
        with self.assertRaises(SchemaError) as caught:
            self.check("{ 'include': 'inner.json' }")
        self.assertEqual(os.path.basename(caught.exception.where.file), 'inner.json')
        self.assertEqual(caught.exception.where.line, 3)

    def test_includes_may_go_in_circles(self):
        self.write("{ 'include': 's.json' }\n" + ENUM, 'inner.json')
        self.check("{ 'include': 'inner.json' }\n" + STRUCT)


class Docs(Case):
    """Documentation comments."""

    def test_everything_is_documented(self):
        self.refused("{ 'enum': 'E', 'data': [] }", 'has no documentation comment', 1)
        self.refused(definition("{ 'struct': 'Foo', 'data': { 'm': 'int' } }"),
                     "'m' of 'Foo' is not documented", 1)
        self.refused(definition("{ 'enum': 'Foo', 'data': [ 'a', 'b' ] }", 'a'),
                     "'b' of 'Foo' is not documented", 1)
        self.refused(definition("{ 'command': 'foo', 'data': { 'm': 'int' } }"),
                     "'m' of 'foo' is not documented", 1)
        self.refused(STRUCT + definition("{ 'alternate': 'Foo', 'data': { 's': 'Str' } }"),
                     "'s' of 'Foo' is not documented")

    def test_nothing_else_is_documented(self):
        self.refused(definition("{ 'struct': 'Foo', 'data': { 'm': 'int' } }", 'm', 'n'),
                     "'Foo' has no 'n' to document", 7)
        self.refused(doc('Bar') + "{ 'struct': 'Foo', 'data': { } }",
                     "documentation is of 'Bar' but the definition is of 'Foo'", 1)
        self.refused(definition("{ 'event': 'FOO' }", extra='#\n# Returns: x\n'),
                     'returns nothing to document')

    def test_layout(self):
        self.refused(doc('Foo') + doc('Bar') + ENUM, "'Foo' is not followed by", 1)
        self.refused(doc('Foo'), "'Foo' is not followed by", 1)
        self.refused('##\n# @Foo\n##\n', "is written '@NAME:'", 2)
        self.refused('##\n# @Foo:\n#\n# @a: x\n# @a: y\n##\n', "'a' is documented twice", 5)
        self.refused('##\n# @Foo:\n#\n# @a: x\n# y\n##\n', 'must be indented', 5)

    def test_features(self):
        text = "{ 'event': 'FOO', 'features': [ 'a' ] }"
        self.refused(definition(text), "feature 'a' of 'FOO' is not documented", 1)
        self.check(definition(text, extra='#\n# Features:\n#\n# @a: x\n'))
        self.refused(definition("{ 'event': 'FOO' }", extra='#\n# Features:\n#\n# @a: x\n'),
                     "'FOO' has no feature 'a' to document", 9)


class Definitions(Case):
    """What the checker refuses."""

    def test_names(self):
        for text, words in (
                ("{ 'struct': 'foo', 'data': { } }", 'must be CamelCase'),
                ("{ 'struct': 'FOO', 'data': { } }", 'must be CamelCase'),
                ("{ 'enum': 'int', 'data': [ ] }", 'is a built-in type'),
                ("{ 'command': 'Foo' }", 'must be lower-case'),
                ("{ 'event': 'foo' }", 'must be UPPER_CASE')):
            self.refused_definition(text, words)
        self.refused_definition("{ 'struct': 'Str', 'data': { } }", "'Str' is already defined",
                                before=STRUCT)

    def test_names_that_meet_in_c(self):
        self.refused_definition("{ 'struct': 'NBDServer', 'data': { } }", 'same name in C',
                                before=definition("{ 'struct': 'NbdServer', 'data': { } }"))

    def test_keys(self):
        self.refused_definition("{ 'struct': 'Foo', 'data': { }, 'x': 1 }", "unknown key 'x'")
        self.refused_definition("{ 'struct': 'Foo' }", "has no 'data'")
        self.refused_definition("{ 'struct': 'Foo', 'data': [ ] }", 'must be an object')
        self.refused_definition("{ 'enum': 'Foo', 'data': { } }", 'must be an array')
        self.refused_definition("{ 'struct': 'Foo', 'union': 'Foo' }", 'exactly one of')
        self.refused_definition("{ 'stuct': 'Foo' }", 'exactly one of')
        self.refused(doc('Foo') + "{ 'struct': [ 'Foo' ], 'data': { } }",
                     "'struct' must be a string")
        self.refused_definition("{ 'command': 'foo', 'allow-oob': false }", 'can only be true')

    def test_members(self):
        def member(name, spec, words):
            self.refused_definition(f"{{ 'struct': 'Foo', 'data': {{ '{name}': {spec} }} }}",
                                    words)
        member('m', "'Bar'", "unknown type 'Bar'")
        member('m', "[ 'Bar' ]", "unknown type 'Bar'")
        member('m', "[ 'int', 'str' ]", "an array type is ['TYPE']")
        member('m', "[ [ 'int' ] ]", "an array type is ['TYPE']")
        member('m', "[ 'null' ]", 'no arrays of null')
        member('m', 'true', 'a type is a name or an array')
        member('m', "'null'", "only a branch of an alternate can be 'null'")
        member('m', "{ 'if': 'A' }", "has no 'type'")
        member('m', "{ 'type': 'int', 'x': 1 }", "unknown key 'x'")
        member('-m', "'int'", 'the name is not valid')
        member('m.n', "'int'", 'the name is not valid')
        member('**m', "'int'", 'the name is not valid')
        member('u', "'int'", 'reserved')
        member('has-x', "'int'", 'reserved')
        member('m', "'int', '*m': 'str'", 'is defined twice')
        member('a-b', "'int', 'a_b': 'str'", "collides with 'a-b' in C")

    def test_ranges(self):
        def limits(kind, spec, words):
            self.refused_definition(
                f"{{ 'struct': 'Foo', 'data': {{ 'm': {{ 'type': '{kind}', 'range': {spec}"
                ' } } }', words)
        limits('str', '[ 0, 1 ]', "only an integer has a 'range'")
        limits('int', '[ 0 ]', "'range' is [min, max]")
        limits('int', "[ 0, 'x' ]", "'range' is [min, max]")
        limits('int', '[ 0, true ]', "'range' is [min, max]")
        limits('int', '[ 1, 0 ]', "'range' is empty")
        limits('uint8', '[ 0, 256 ]', "does not fit 'uint8'")
        limits('int8', '[ -129, 0 ]', "does not fit 'int8'")
        limits('size', '[ -1, 0 ]', "does not fit 'size'")
        limits('uint64', '[ 0, 0x10000000000000000 ]', "does not fit 'uint64'")

    def test_enums(self):
        self.refused_definition("{ 'enum': 'Foo', 'data': [ 'a', 'a' ] }", "'a' collides with 'a'")
        self.refused_definition("{ 'enum': 'Foo', 'data': [ 'a-b', 'a_b' ] }", 'collides with')
        self.refused_definition("{ 'enum': 'Foo', 'data': [ 'a b' ] }", "value 'a b' is not valid")
        self.refused_definition("{ 'enum': 'Foo', 'data': [ 1 ] }", 'is a string or an object')
        self.refused_definition("{ 'enum': 'Foo', 'data': [ { 'if': 'A' } ] }", "has no 'name'")

    def test_bases(self):
        self.refused_definition("{ 'struct': 'Foo', 'base': 'Enu', 'data': { } }",
                                "'Enu' is not a struct", before=ENUM)
        self.refused_definition("{ 'struct': 'Foo', 'base': 'int', 'data': { } }",
                                "'int' is not a struct")
        self.refused_definition("{ 'struct': 'Foo', 'base': 'Foo', 'data': { } }",
                                'contains itself')
        self.refused(definition("{ 'struct': 'Foo', 'base': 'Bar', 'data': { } }")
                     + definition("{ 'struct': 'Bar', 'base': 'Foo', 'data': { } }"),
                     'contains itself')
        self.refused_definition("{ 'struct': 'Foo', 'base': 'Str', 'data': { 'm': 'str' } }",
                                "is also in its base 'Str'", before=STRUCT)

    def test_unions(self):
        def union(rest, words):
            self.refused_definition(f"{{ 'union': 'Foo', {rest} }}", words, 'k',
                                    before=ENUM + STRUCT)
        union("'data': { }", "has no 'base'")
        union("'base': { 'k': 'Enu' }, 'data': { }", "has no 'discriminator'")
        union("'base': { 'k': 'Enu' }, 'discriminator': 'x', 'data': { }", 'is not in the base')
        union("'base': { 'k': 'str' }, 'discriminator': 'k', 'data': { }", 'must be an enum')
        union("'base': { '*k': 'Enu' }, 'discriminator': 'k', 'data': { }", 'not optional')
        union("'base': { 'k': 'Enu' }, 'discriminator': 'k', 'data': { 'z': 'Str' }",
              "branch 'z' is not a value of 'Enu'")
        union("'base': { 'k': 'Enu' }, 'discriminator': 'k', 'data': { 'a': 'int' }",
              "branch 'a' must be a struct")
        union("'base': { 'k': 'Enu' }, 'discriminator': 'k', 'data': { 'a': 'Foo' }",
              "of branch 'a' is also in the base")
        self.refused(ENUM + STRUCT + definition(
            "{ 'union': 'Foo', 'base': { 'k': 'Enu', 'm': 'int' }, 'discriminator': 'k',"
            " 'data': { 'a': 'Str' } }", 'k', 'm'), "of branch 'a' is also in the base")

    def test_alternates(self):
        def alternate(data, words):
            self.refused_definition(f"{{ 'alternate': 'Foo', 'data': {{ {data} }} }}", words,
                                    before=ENUM + STRUCT)
        alternate('', 'has no branches')
        alternate("'a': 'Str', 'b': 'Foo'", "'Foo' can't be a branch")
        alternate("'a': [ 'str' ]", "can't be a branch")
        alternate("'a': 'any'", "can't be a branch")
        alternate("'a': 'Str', 'b': 'Str'", "'b' can't be told apart from 'a'")
        alternate("'a': 'str', 'b': 'Enu'", "can't be told apart")
        alternate("'a': 'str', 'b': 'bool'", "can't be told apart")
        alternate("'a': 'int', 'b': 'number'", "can't be told apart")
        alternate("'*a': 'str'", 'branches are not optional')
        switch = definition("{ 'enum': 'Switch', 'data': [ 'on', '1st' ] }", 'on', '1st')
        self.refused(switch + definition(
            "{ 'alternate': 'Foo', 'data': { 'a': 'Switch', 'b': 'bool' } }"),
            "can't be told apart from a bool")
        self.refused(switch + definition(
            "{ 'alternate': 'Foo', 'data': { 'a': 'Switch', 'b': 'int' } }"),
            "can't be told apart from a number")

    def test_commands_and_events(self):
        self.refused_definition("{ 'command': 'foo', 'returns': 'int' }", 'must be an object')
        self.refused_definition("{ 'command': 'foo', 'returns': 'Enu' }", 'must be an object',
                                before=ENUM)
        self.refused_definition("{ 'command': 'foo', 'data': 'Enu' }",
                                'must be an object or a struct', before=ENUM)
        self.refused_definition("{ 'command': 'foo', 'data': { }, 'boxed': true }",
                                "'boxed' needs a named type")
        self.refused_definition("{ 'event': 'FOO', 'data': [ 'int' ] }",
                                'must be an object or a struct')
        self.refused(definition("{ 'struct': 'StrArray', 'data': { } }") + STRUCT
                     + definition("{ 'command': 'foo', 'returns': [ 'Str' ] }"),
                     'have the same name in C')
        self.refused(definition("{ 'struct': 'FooEvent', 'data': { } }")
                     + definition("{ 'event': 'FOO', 'data': { } }"), 'is already defined')

    def test_conditions(self):
        text = "{ 'struct': 'Foo', 'data': { }, 'if': %s }"
        self.assertIn('Foo', self.check(definition(text % "'A'"), ['A']).types)
        self.assertNotIn('Foo', self.check(definition(text % "'A'")).types)
        self.assertIn('Foo', self.check(definition(text % "{ 'not': 'A' }")).types)
        self.refused_definition(text % "'a'", 'not a name in capitals')
        self.refused_definition(text % "{ 'xor': [ 'A' ] }", "unknown operator 'xor'")
        self.refused_definition(text % "{ 'all': 'A' }", 'needs an array')
        self.refused_definition(text % "[ 'A' ]", 'a condition is a name or an object')

    def test_features(self):
        self.refused_definition("{ 'event': 'FOO', 'features': 'a' }", 'must be an array')
        self.refused_definition("{ 'event': 'FOO', 'features': [ 'a', 'a' ] }",
                                "duplicate feature 'a'")
        self.refused_definition("{ 'event': 'FOO', 'features': [ 1 ] }",
                                'a string or an object')


class Program(Case):
    """The command line."""

    def run_main(self, *args):
        return subprocess.run([sys.executable, MAIN, *args], capture_output=True, text=True,
                              check=False)

    def test_an_error_is_one_line_and_a_status(self):
        file = self.write('\nfoo')
        done = self.run_main(file, '-o', self.directory)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, f"qapi-gen: {file}:2: stray 'foo'\n")
        self.assertEqual(os.listdir(self.directory), ['s.json'])

    def test_the_depfile_names_what_was_read(self):
        inner = self.write(ENUM, 'inner.json')
        file = self.write("{ 'include': 'inner.json' }")
        depfile = os.path.join(self.directory, 'd')
        done = self.run_main(file, '--docs', os.path.join(self.directory, 'out'), '--depfile',
                             depfile)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(depfile, encoding='utf-8') as stream:
            self.assertEqual(stream.read(), f'{self.directory}/out: {file} {inner}\n')


def names_in(entity):
    """Types that an entry of introspection refers to."""
    for key in ('arg-type', 'ret-type', 'element-type'):
        if key in entity:
            yield entity[key]
    for part in entity.get('members', []) + entity.get('variants', []):
        if 'type' in part:
            yield part['type']


class RealSchema(unittest.TestCase):
    """The schema of the project."""

    @classmethod
    def setUpClass(cls):
        cls.schema = Checker().check(Parser(os.path.join(SOURCE, 'qapi', 'tandem.json')))
        cls.entities = Introspection(cls.schema).entities

    def test_each_type_referred_to_exists_once(self):
        names = [entity['name'] for entity in self.entities]
        self.assertEqual(len(names), len(set(names)))
        for entity in self.entities:
            for name in names_in(entity):
                self.assertIn(name, names)

    def test_type_names_say_nothing(self):
        for entity in self.entities:
            name, meta = entity['name'], entity['meta-type']
            if meta in ('object', 'enum', 'alternate'):
                self.assertRegex(name, r'^[0-9]+$')
            elif meta == 'array':
                self.assertEqual(name, f"[{entity['element-type']}]")
            elif meta == 'builtin':
                self.assertIn(name, ('int', 'str', 'bool', 'number', 'any', 'null'))

    def test_members_by_kind(self):
        expected = {
            'builtin': {'json-type'}, 'array': {'element-type'}, 'enum': {'members', 'values'},
            'object': {'members'}, 'alternate': {'members'},
            'command': {'arg-type', 'ret-type'}, 'event': {'arg-type'}}
        optional = {'features', 'tag', 'variants', 'allow-oob'}
        for entity in self.entities:
            keys = set(entity) - {'name', 'meta-type'} - optional
            self.assertEqual(keys, expected[entity['meta-type']])
            self.assertEqual('tag' in entity, 'variants' in entity)

    def test_every_value_of_a_tag_has_a_case(self):
        by_name = {entity['name']: entity for entity in self.entities}
        unions = [entity for entity in self.entities if 'tag' in entity]
        self.assertTrue(unions)
        for union in unions:
            tag, = [m for m in union['members'] if m['name'] == union['tag']]
            self.assertEqual([v['case'] for v in union['variants']],
                             by_name[tag['type']]['values'])

    def test_optional_members_have_a_null_default(self):
        members = [m for e in self.entities if e['meta-type'] == 'object' for m in e['members']]
        self.assertTrue(any('default' in m for m in members))
        for member in members:
            self.assertIsNone(member.get('default'))

    def test_all_commands_and_events_are_there(self):
        for meta, wanted in (('command', self.schema.commands), ('event', self.schema.events)):
            found = {e['name'] for e in self.entities if e['meta-type'] == meta}
            self.assertEqual(found, {definition.name for definition in wanted})

    def test_it_is_json(self):
        self.assertEqual(json.loads(json.dumps(self.entities)), self.entities)

    def test_the_manual_has_everything(self):
        text = manual(self.schema)
        for item in self.schema.enums + self.schema.commands + self.schema.events:
            self.assertIn(f'### {item.name}\n', text)
        for kind in re.findall(r'\]\(#([a-z0-9]+)\)', text):
            self.assertRegex(text.lower(), f'\n### {kind}\n')


if __name__ == '__main__':
    unittest.main()
