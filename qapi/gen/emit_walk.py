# SPDX-License-Identifier: GPL-2.0-or-later
"""walk.h, walk.c: each type from JSON and to JSON, by its descriptor."""

from .ctypes_of import descriptor, returned_array
from .cwriter import CFile

_MODES = (('json', 'QAPI_STRICT'), ('text', 'QAPI_TEXT'), ('lenient', 'QAPI_LENIENT'))


def walk_header(schema, prefix):
    out = CFile('JSON to and from types', f'qapi/{prefix}walk.h')
    out.include(f'qapi/{prefix}types.h', 'qapi/walker.h')
    out.add('''/*
 * T_from_json(): every value has its JSON type. T_from_text(): every scalar is a
 * string, as the keyval syntax gives them. T_from_lenient(): both.
 * All are strict about names; NULL and errp on failure; the caller frees.
 * T_to_json(): a new reference.
 */''')
    for kind in schema.structs + schema.alternates:
        for mode, _ in _MODES:
            out.add(f'{kind.name} *{kind.snake}_from_{mode}(const json_t *json, GError **errp);')
        out.add(f'json_t *{kind.snake}_to_json(const {kind.name} *obj);\n')
    for element in schema.returned_arrays():
        name, snake = returned_array(element)
        out.add(f'{name} *{snake}_from_json(const json_t *json, GError **errp);\n'
                f'json_t *{snake}_to_json(const {name} *obj);\n')
    out.add('/* The descriptors behind them. */')
    for kind in schema.enums + schema.structs + schema.alternates:
        out.add(f'extern const QapiType {descriptor(kind)};')
    out.add(f'\n/* Every struct and alternate, for tests that try all; ends with NULL. */\n'
            f'extern const QapiType *const {_table_name(prefix)}[];')
    return out.text()


def _table_name(prefix):
    return 'qapi_' + prefix.replace('-', '_') + 'all_types'


def walk_source(schema, prefix):
    out = CFile('JSON to and from types')
    out.include(f'qapi/{prefix}walk.h')
    for kind in schema.structs + schema.alternates:
        desc = descriptor(kind)
        for mode, constant in _MODES:
            out.add(f'{kind.name} *\n{kind.snake}_from_{mode}(const json_t *json, GError **errp)'
                    f'\n{{\n    return qapi_from_json(&{desc}, json, {constant}, errp);\n}}\n')
        out.add(f'json_t *\n{kind.snake}_to_json(const {kind.name} *obj)\n{{\n'
                f'    return qapi_to_json(&{desc}, obj);\n}}\n')
    for element in schema.returned_arrays():
        name, snake = returned_array(element)
        desc = descriptor(element)
        out.add(f'''{name} *
{snake}_from_json(const json_t *json, GError **errp)
{{
    {name} *obj = g_new0({name}, 1);

    obj->items = qapi_elements_from_json(&{desc}, json, &obj->n, errp);
    if (!obj->items) {{
        g_free(obj);
        return NULL;
    }}
    return obj;
}}

json_t *
{snake}_to_json(const {name} *obj)
{{
    return qapi_elements_to_json(&{desc}, obj->n, obj->items);
}}
''')
    out.add(f'const QapiType *const {_table_name(prefix)}[] = {{')
    for kind in schema.structs + schema.alternates:
        out.add(f'    &{descriptor(kind)},')
    out.add('    NULL,\n};')
    return out.text()
