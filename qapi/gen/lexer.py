# SPDX-License-Identifier: GPL-2.0-or-later
"""Schema text into tokens.

The language is JSON's objects, arrays, strings in single quotes, booleans and
integers, with comments from '#' to the end of the line. A block of comment
lines between two lines '##' is documentation and a token of its own.
"""

import re
from dataclasses import dataclass
from typing import Any

from .source import SchemaError, Where

_SKIP = re.compile(r'[ \r]+|#(?!#\s*$).*|##(?!\s*$).*', re.MULTILINE)
_INT = re.compile(r'-?(0[xX][0-9a-fA-F]+|[0-9]+)')
_WORD = re.compile(r'[A-Za-z_]+')


@dataclass
class Token:
    """kind: one of '{}[]:,', 'value' (string, bool, int), 'doc' (lines), 'end'."""

    kind: str
    value: Any
    where: Where

    def __str__(self):
        if self.kind == 'end':
            return 'end of file'
        if self.kind == 'doc':
            return 'documentation comment'
        return f"'{self.value}'"


class Lexer:
    """Tokens of one file, in order."""

    def __init__(self, text, file):
        self.text = text
        self.file = file
        self.pos = 0
        self.line = 1

    def where(self):
        return Where(self.file, self.line)

    def _skip_blank(self):
        while self.pos < len(self.text):
            if self.text[self.pos] == '\n':
                self.pos += 1
                self.line += 1
                continue
            match = _SKIP.match(self.text, self.pos)
            if not match:
                return
            self.pos = match.end()

    def _line_text(self):
        end = self.text.find('\n', self.pos)
        return self.text[self.pos:] if end < 0 else self.text[self.pos:end]

    def _next_line(self):
        end = self.text.find('\n', self.pos)
        self.pos = len(self.text) if end < 0 else end + 1
        self.line += 1

    def _doc(self):
        """The lines between '##' and '##', each with its place."""
        start = self.where()
        lines = []
        self._next_line()
        while self.pos < len(self.text):
            line = self._line_text().rstrip()
            where = self.where()
            if line == '##':
                self._next_line()
                return Token('doc', lines, start)
            if not line.startswith('#'):
                raise SchemaError(where, "documentation comment must end with '##'")
            if len(line) > 1 and line[1] != ' ':
                raise SchemaError(where, "missing space after '#'")
            lines.append((where, line[2:]))
            self._next_line()
        raise SchemaError(start, "documentation comment must end with '##'")

    def _string(self):
        where = self.where()
        end = self.pos + 1
        while end < len(self.text) and self.text[end] not in "'\n":
            if self.text[end] == '\\':
                raise SchemaError(where, 'escapes are not allowed in schema strings')
            if not ' ' <= self.text[end] <= '~':
                raise SchemaError(where, 'schema strings are printable ASCII')
            end += 1
        if end >= len(self.text) or self.text[end] == '\n':
            raise SchemaError(where, "missing terminating ' of a string")
        value = self.text[self.pos + 1:end]
        self.pos = end + 1
        return Token('value', value, where)

    def next(self):
        """The next token; an 'end' token at the end."""
        self._skip_blank()
        where = self.where()
        if self.pos >= len(self.text):
            return Token('end', None, where)
        char = self.text[self.pos]
        if char == '#':
            return self._doc()
        if char in '{}[]:,':
            self.pos += 1
            return Token(char, char, where)
        if char == "'":
            return self._string()
        match = _INT.match(self.text, self.pos)
        if match:
            self.pos = match.end()
            return Token('value', int(match.group(), 0), where)
        match = _WORD.match(self.text, self.pos)
        if match and match.group() in ('true', 'false'):
            self.pos = match.end()
            return Token('value', match.group() == 'true', where)
        word = match.group() if match else char
        raise SchemaError(where, f"stray '{word}'")
