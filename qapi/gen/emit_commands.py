# SPDX-License-Identifier: GPL-2.0-or-later
"""commands.h: what handlers look like. commands.c: the table of commands.

commands.c refers to every handler, so it is compiled where they are.
"""

from . import names
from .ctypes_of import descriptor, returned_array
from .cwriter import CFile
from .schema import Array, Builtin


def _returned(command):
    """(C type with '*', statement that frees 'ret', expression of its JSON)"""
    kind = command.returns
    if isinstance(kind, Array):
        name, snake = returned_array(kind.element)
        return f'{name} *', f'{snake}_free(ret)', f'{snake}_to_json(ret)'
    if isinstance(kind, Builtin) and kind.name == 'str':
        return 'char *', 'g_free(ret)', 'qmp_string(ret)'
    if isinstance(kind, Builtin):
        return 'json_t *', 'json_decref(ret)', 'json_incref(ret)'
    return (f'{kind.name} *', f'{kind.snake}_free(ret)', f'{kind.snake}_to_json(ret)')


def _prototype(command):
    result = _returned(command)[0] if command.returns else 'bool '
    args = f'const {command.args.name} *args, ' if command.args else ''
    return f'{result}coroutine_fn qmp_{names.lower(command.name)}({args}GError **errp);'


def commands_header(schema, prefix):
    out = CFile('commands', f'qapi/{prefix}commands.h')
    out.include(f'qapi/{prefix}types.h', 'qapi/command.h', 'util/compiler.h')
    out.add('''/*
 * The handlers, one for each command, written by hand. What they return belongs
 * to the caller; NULL or false with errp set is a failure without side effects.
 */''')
    for command in schema.commands:
        out.add(_prototype(command))
    out.add(f'\n/* In the order of the schema; ends with a NULL name. */\n'
            f'extern const QmpCommand {table(prefix)}[];\n\n'
            f'/* The command called @name, or NULL. */\n'
            f'const QmpCommand *{find(prefix)}(const char *name);')
    return out.text()


def table(prefix):
    return 'qmp_' + prefix.replace('-', '_') + 'commands'


def find(prefix):
    return 'qmp_' + prefix.replace('-', '_') + 'command_find'


def _run(command):
    name = names.lower(command.name)
    lines = [f'\nstatic json_t *coroutine_fn\nrun_{name}(const json_t *arguments, '
             'GError **errp)\n{']
    if command.args:
        lines.append(f'    {command.args.name} *args = qmp_arguments(&{descriptor(command.args)}, '
                     'arguments, errp);')
    if command.returns:
        lines.append(f'    {_returned(command)[0]}ret;\n    json_t *json = NULL;')
    else:
        lines.append('    bool ok;')
    lines.append('')
    guard = '!args' if command.args else '!qmp_no_arguments(arguments, errp)'
    lines.append(f'    if ({guard}) {{\n        return NULL;\n    }}')
    call = f'qmp_{name}({"args, " if command.args else ""}errp)'
    lines.append(f'    {"ret" if command.returns else "ok"} = {call};')
    if command.args:
        lines.append(f'    {command.args.snake}_free(args);')
    if command.returns:
        _, free, to_json = _returned(command)
        lines.append(f'    if (ret) {{\n        json = {to_json};\n        {free};\n    }}')
        lines.append('    return json;')
    else:
        lines.append('    return ok ? json_object() : NULL;')
    lines.append('}')
    return '\n'.join(lines)


def commands_source(schema, prefix):
    out = CFile('commands')
    out.include(f'qapi/{prefix}commands.h', f'qapi/{prefix}walk.h')
    for command in schema.commands:
        out.add(_run(command))
    out.add(f'\nconst QmpCommand {table(prefix)}[] = {{')
    for command in schema.commands:
        oob = 'true' if command.allow_oob else 'false'
        out.add(f'    {{\n        .name = {names.c_string(command.name)},\n'
                f'        .allow_oob = {oob},\n'
                f'        .run = run_{names.lower(command.name)},\n    }},')
    out.add(f'''    {{ .name = NULL }},
}};

const QmpCommand *
{find(prefix)}(const char *name)
{{
    return qmp_command_in({table(prefix)}, name);
}}''')
    return out.text()
