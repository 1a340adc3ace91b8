# SPDX-License-Identifier: GPL-2.0-or-later
"""Documentation comments.

    ##
    # @BlockdevOptionsRaw:
    #
    # What it is.
    #
    # @offset, @size: several members may share a description,
    #     whose further lines are indented
    #
    # Features:
    #
    # @unstable: why
    #
    # Returns: what
    #
    # Since: 0.1
    ##

A block whose first line does not start with '@' is free text between
definitions; '= Title' in it begins a section of the manual.
"""

import re

from .source import SchemaError

_SYMBOL = re.compile(r'@([A-Za-z0-9_.-]+):$')
_ARGUMENT = re.compile(r'((?:@[A-Za-z0-9_.-]+,\s*)*@[A-Za-z0-9_.-]+):(?:\s+(.*))?$')
_TAGGED = re.compile(r'(Returns|Errors|Since|Note|Example):\s*(.*)$')


class Doc:
    """One block. symbol is None for free text.

    body: lines of text; members, features: name -> lines; tags: [(tag, lines)].
    member_where: name -> where it was described.
    """

    def __init__(self, token):
        self.where = token.where
        self.symbol = None
        self.body = []
        self.members = {}
        self.member_where = {}
        self.features = {}
        self.tags = []
        lines = list(token.value)
        while lines and not lines[0][1]:
            lines.pop(0)
        match = _SYMBOL.match(lines[0][1]) if lines else None
        if match:
            self.symbol = match.group(1)
            self._parse(lines[1:])
        elif lines and lines[0][1].startswith('@'):
            raise SchemaError(lines[0][0], "a documented name is written '@NAME:'")
        else:
            self.body = [text for _, text in lines]

    def _parse(self, lines):
        current = self.body
        in_features = False
        for where, text in lines:
            tagged = _TAGGED.match(text)
            argument = _ARGUMENT.match(text)
            if text == 'Features:':
                in_features = True
                current = self.body
            elif tagged:
                current = self._start_tag(tagged)
            elif argument:
                current = self._start_argument(where, argument, in_features)
            elif text and not text.startswith(' ') and current is not self.body:
                if current and current[-1] != '':
                    raise SchemaError(where, 'further lines of a description must be indented')
                current = self.body
                current += ['', text]
            else:
                current.append(text.strip() if current is not self.body else text)

    def _start_tag(self, match):
        tag, text = match.groups()
        lines = [text]
        self.tags.append((tag, lines))
        return lines

    def _start_argument(self, where, match, in_features):
        lines = [match.group(2) or '']
        into = self.features if in_features else self.members
        for name in re.findall(r'@([A-Za-z0-9_.-]+)', match.group(1)):
            if name in into:
                raise SchemaError(where, f"'{name}' is documented twice")
            into[name] = lines
            self.member_where[name] = where
        return lines

    def since(self):
        for tag, lines in self.tags:
            if tag == 'Since':
                return ' '.join(lines).strip()
        return None
