# SPDX-License-Identifier: GPL-2.0-or-later
"""'if': which parts of the schema this build wants.

A condition is a name that the build defines or not, {'all': [...]},
{'any': [...]} or {'not': COND}. It is decided when the generator runs.
"""

import re

from .parser import Object
from .source import SchemaError

_NAME = re.compile(r'[A-Z][A-Z0-9_]*$')


def wanted(value, defines):
    """Does the 'if' of @value (an Object), if any, hold?"""
    if 'if' not in value:
        return True
    return _holds(value['if'], defines, value.key_where['if'])


def _holds(cond, defines, where):
    if isinstance(cond, str):
        if not _NAME.match(cond):
            raise SchemaError(where, f"condition '{cond}' is not a name in capitals")
        return cond in defines
    if not isinstance(cond, Object) or len(cond) != 1:
        raise SchemaError(where, "a condition is a name or an object with one of 'all', 'any', "
                          "'not'")
    (operator, operand), = cond.items()
    if operator == 'not':
        return not _holds(operand, defines, where)
    if operator not in ('all', 'any'):
        raise SchemaError(where, f"unknown operator '{operator}' in a condition")
    if not isinstance(operand, list) or not operand:
        raise SchemaError(where, f"'{operator}' needs an array of conditions")
    results = [_holds(entry, defines, where) for entry in operand]
    return all(results) if operator == 'all' else any(results)
