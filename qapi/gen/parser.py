# SPDX-License-Identifier: GPL-2.0-or-later
"""Schema files into expressions: each a dictionary with its documentation.

Includes are followed once each, in order. Nothing is checked here but syntax.
"""

import os
from dataclasses import dataclass

from .doc import Doc
from .lexer import Lexer
from .source import SchemaError, Where


class Object(dict):
    """A {...} of the schema: a dict that knows where it and its keys are."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.key_where = {}


@dataclass
class Expr:
    """A top-level expression and the documentation before it (or None)."""

    value: Object
    doc: Doc
    where: Where


class Parser:
    """Reads one file and what it includes.

    exprs: all expressions; items: expressions and free documentation in the
    order of the text; files: what was read.
    """

    def __init__(self, file):
        self.exprs = []
        self.items = []
        self.files = []
        self._seen = set()
        self._read(file, Where(file, 1))

    def _read(self, file, included_from):
        if os.path.abspath(file) in self._seen:
            return
        self._seen.add(os.path.abspath(file))
        try:
            with open(file, encoding='utf-8') as stream:
                text = stream.read()
        except OSError as err:
            raise SchemaError(included_from, f"can't read {file}: {err.strerror}") from err
        except UnicodeDecodeError as err:
            raise SchemaError(included_from, f'{file} is not UTF-8') from err
        self.files.append(file)
        _File(self, text, file).parse()

    def include(self, name, file, where):
        self._read(os.path.join(os.path.dirname(file), name), where)


class _File:
    """Recursive descent over the tokens of one file."""

    def __init__(self, parser, text, file):
        self.parser = parser
        self.file = file
        self.lexer = Lexer(text, file)
        self.token = self.lexer.next()

    def _take(self):
        token = self.token
        self.token = self.lexer.next()
        return token

    def _expect(self, kind, what):
        if self.token.kind != kind:
            raise SchemaError(self.token.where, f'expected {what}, got {self.token}')
        return self._take()

    def parse(self):
        doc = None
        while self.token.kind != 'end':
            if self.token.kind == 'doc':
                self._no_dangling(doc)
                doc = self._doc()
                continue
            where = self.token.where
            if self.token.kind != '{':
                raise SchemaError(where, f"expected '{{' of a definition, got {self.token}")
            value = self._object()
            if 'include' in value:
                self._no_dangling(doc)
                self._include(value)
                continue
            expr = Expr(value, doc, where)
            self.parser.exprs.append(expr)
            self.parser.items.append(expr)
            doc = None
        self._no_dangling(doc)

    def _doc(self):
        doc = Doc(self._take())
        if doc.symbol is None:
            self.parser.items.append(doc)
            return None
        return doc

    @staticmethod
    def _no_dangling(doc):
        if doc:
            raise SchemaError(doc.where, f"documentation of '{doc.symbol}' is not followed by "
                              'its definition')

    def _include(self, value):
        if len(value) != 1:
            raise SchemaError(value.where, "'include' stands alone")
        if not isinstance(value['include'], str):
            raise SchemaError(value.where, "value of 'include' must be a string")
        self.parser.include(value['include'], self.file, value.where)

    def _value(self):
        if self.token.kind == '{':
            return self._object()
        if self.token.kind == '[':
            return self._array()
        return self._expect('value', "a string, boolean, integer, '[' or '{'").value

    def _object(self):
        result = Object(self._take().where)
        if self.token.kind == '}':
            self._take()
            return result
        while True:
            key = self._expect('value', 'a key')
            if not isinstance(key.value, str):
                raise SchemaError(key.where, 'a key is a string')
            if key.value in result:
                raise SchemaError(key.where, f"duplicate key '{key.value}'")
            self._expect(':', "':'")
            result[key.value] = self._value()
            result.key_where[key.value] = key.where
            if self.token.kind == '}':
                self._take()
                return result
            self._expect(',', "',' or '}'")

    def _array(self):
        self._take()
        result = []
        if self.token.kind == ']':
            self._take()
            return result
        while True:
            result.append(self._value())
            if self.token.kind == ']':
                self._take()
                return result
            self._expect(',', "',' or ']'")
