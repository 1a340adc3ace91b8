# SPDX-License-Identifier: GPL-2.0-or-later
"""Text of one generated file."""

from . import names

_TOP = '''/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Made from the schema by qapi/gen; {what}. Changes here are lost. */
'''


class CFile:
    """Collects lines; text() is the file."""

    def __init__(self, what, guard=None):
        self._parts = [_TOP.format(what=what)]
        self._guard = names.upper(guard).replace('/', '_') if guard else None
        if self._guard:
            self._parts.append(f'#ifndef {self._guard}\n#define {self._guard}\n\n')

    def include(self, *headers):
        for header in headers:
            quoted = header if header.startswith('<') else f'"{header}"'
            self._parts.append(f'#include {quoted}\n')
        self._parts.append('\n')

    def add(self, text):
        self._parts.append(text if text.endswith('\n') else text + '\n')

    def text(self):
        end = '\n#endif\n' if self._guard else ''
        return ''.join(self._parts).rstrip('\n') + '\n' + end
