# SPDX-License-Identifier: GPL-2.0-or-later
"""events.h, events.c: a function for each event, which tells the sinks."""

from . import names
from .cwriter import CFile


def _prototype(event):
    data = f'const {event.data.name} *ev' if event.data else 'void'
    return f'event_emit_{names.lower(event.name)}({data})'


def events_header(schema, prefix):
    out = CFile('events', f'qapi/{prefix}events.h')
    out.include(f'qapi/{prefix}types.h', 'qapi/event-sink.h')
    out.add('/* Tell every sink. On the main loop only; does not yield, cannot fail. */')
    for event in schema.events:
        out.add(f'void {_prototype(event)};')
    return out.text()


def events_source(schema, prefix):
    out = CFile('events')
    out.include(f'qapi/{prefix}events.h', f'qapi/{prefix}walk.h')
    for event in schema.events:
        data = f'{event.data.snake}_to_json(ev)' if event.data else 'NULL'
        out.add(f'\nvoid\n{_prototype(event)}\n{{\n'
                f'    event_send({names.c_string(event.name)}, {data});\n}}')
    return out.text()
