#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qapi-gen: make C code, or the reference manual, from a schema.

    main.py SCHEMA -o DIR [-p PREFIX] [-D NAME]... [--depfile FILE]
    main.py SCHEMA --docs FILE
"""

import argparse
import os
import sys

if __package__ in (None, ''):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    __package__ = 'gen'  # pylint: disable=redefined-builtin
    import gen  # noqa: F401  pylint: disable=unused-import

from .checker import Checker
from .emit_commands import commands_header, commands_source
from .emit_docs import manual
from .emit_drivers import drivers_header, drivers_source
from .emit_events import events_header, events_source
from .emit_introspect import introspect_header, introspect_source
from .emit_types import types_header, types_source
from .emit_walk import walk_header, walk_source
from .parser import Parser
from .source import SchemaError

EMITTERS = {
    'types.h': types_header, 'types.c': types_source,
    'walk.h': walk_header, 'walk.c': walk_source,
    'commands.h': commands_header, 'commands.c': commands_source,
    'events.h': events_header, 'events.c': events_source,
    'introspect.h': introspect_header, 'introspect.c': introspect_source,
    'drivers.h': drivers_header, 'drivers.c': drivers_source,
}


def _write(file, text):
    with open(file, 'w', encoding='utf-8') as stream:
        stream.write(text)


def _depfile(file, outputs, inputs):
    """Make's syntax; one rule for all outputs."""
    def quote(path):
        return path.replace(' ', '\\ ')
    _write(file, f"{' '.join(map(quote, outputs))}: {' '.join(map(quote, inputs))}\n")


def generate(args):
    """Do what the command line says; raises SchemaError."""
    parser = Parser(args.schema)
    schema = Checker(args.define).check(parser)
    outputs = []
    if args.docs:
        outputs.append(args.docs)
        _write(args.docs, manual(schema))
    if args.output:
        for name, emit in EMITTERS.items():
            file = os.path.join(args.output, args.prefix + name)
            outputs.append(file)
            _write(file, emit(schema, args.prefix))
    if args.depfile:
        _depfile(args.depfile, outputs, parser.files)


def main(argv=None):
    """The program; returns its exit status."""
    options = argparse.ArgumentParser(prog='qapi-gen', description=__doc__.splitlines()[0])
    options.add_argument('schema', help='schema file')
    options.add_argument('-o', '--output', metavar='DIR', help='write C files there')
    options.add_argument('-p', '--prefix', default='', help='begins the names of C files')
    options.add_argument('-D', '--define', action='append', default=[], metavar='NAME',
                         help="a condition of 'if' that holds")
    options.add_argument('--depfile', metavar='FILE', help='write what was read, for make')
    options.add_argument('--docs', metavar='FILE', help='write the reference manual')
    args = options.parse_args(argv)
    try:
        generate(args)
    except SchemaError as err:
        print(f'qapi-gen: {err}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
