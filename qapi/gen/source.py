# SPDX-License-Identifier: GPL-2.0-or-later
"""Where something in the schema was written, and errors that say so."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Where:
    """A line of a schema file."""

    file: str
    line: int

    def __str__(self):
        return f'{self.file}:{self.line}'


class SchemaError(Exception):
    """The schema is wrong; str() is 'file:line: what is wrong'."""

    def __init__(self, where, text):
        super().__init__(f'{where}: {text}')
        self.where = where
        self.text = text
