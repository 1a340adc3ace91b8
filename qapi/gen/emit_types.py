# SPDX-License-Identifier: GPL-2.0-or-later
"""types.h: structs, enums and functions that free and copy them.
types.c: those functions and the descriptors that the walker works with."""

from . import names
from .checker import has_flag
from .ctypes_of import declare, declare_array, descriptor, returned_array
from .cwriter import CFile
from .schema import Alternate, Array, Builtin, Enum


def types_header(schema, prefix):
    out = CFile('types', f'qapi/{prefix}types.h')
    out.include('<glib.h>', '<jansson.h>', '<stdbool.h>', '<stdint.h>')
    for enum in schema.enums:
        _enum(out, enum)
    for kind in schema.structs + schema.alternates:
        out.add(f'typedef struct {kind.name} {kind.name};')
    for alternate in schema.alternates:
        _alternate(out, alternate)
    for struct in schema.structs:
        _struct(out, struct)
    for kind in schema.structs + schema.alternates:
        _life(out, kind.name, kind.snake)
    for element in schema.returned_arrays():
        name, snake = returned_array(element)
        out.add(f'\ntypedef struct {name} {{\n    size_t n;\n'
                f'    {declare_array(element, "items")};\n}} {name};\n')
        out.add(f'void {snake}_free({name} *obj);\n'
                f'G_DEFINE_AUTOPTR_CLEANUP_FUNC({name}, {snake}_free)')
    return out.text()


def _enum(out, enum):
    snake = names.snake(enum.name)
    lines = [f'typedef enum {enum.name} {{']
    lines += [f'    {enum.constant(value.name)},' for value in enum.values]
    lines += [f'    {enum.constant("_MAX")},', f'}} {enum.name};', '']
    out.add('\n'.join(lines))
    out.add(f'const char *{snake}_str({enum.name} value);\n'
            f'bool {snake}_parse(const char *text, {enum.name} *ret);\n')


def _fields(member):
    name = names.c_name(member.name)
    flag = names.flag_name(member.name)
    lines = []
    if has_flag(member):
        lines.append(f'    bool has_{flag};')
    if isinstance(member.type, Array):
        lines.append(f'    size_t n_{flag};')
        lines.append(f'    {declare_array(member.type.element, name)};')
    else:
        lines.append(f'    {declare(member.type, name)};')
    return lines


def _struct(out, struct):
    lines = ['', f'struct {struct.name} {{']
    for member in struct.members:
        lines += _fields(member)
    variants = struct.own_variants()
    if variants:
        lines.append('    union {')
        lines += [f'        {branch.name} {names.c_name(value)};' for value, branch in variants]
        lines.append('    } u;')
    if not struct.members and not variants:
        lines.append('    char q_empty; /* C has no struct without members */')
    lines.append('};')
    out.add('\n'.join(lines))


def _alternate(out, alternate):
    lines = ['', f'typedef enum {alternate.name}Kind {{']
    lines += [f'    {alternate.kind(branch)},' for branch in alternate.branches]
    lines += [f'}} {alternate.name}Kind;', '', f'struct {alternate.name} {{',
              f'    {alternate.name}Kind kind;', '    union {']
    lines += [f'        {declare(branch.type, names.c_name(branch.name))};'
              for branch in alternate.branches if branch.type.name != 'null']
    lines += ['    } u;', '};']
    out.add('\n'.join(lines))


def _life(out, name, snake):
    out.add(f'\nvoid {snake}_free({name} *obj);\n'
            f'{name} *{snake}_copy(const {name} *obj);\n'
            f'G_DEFINE_AUTOPTR_CLEANUP_FUNC({name}, {snake}_free)')


def types_source(schema, prefix):
    out = CFile('types')
    out.include(f'qapi/{prefix}types.h', f'qapi/{prefix}walk.h', 'qapi/walker.h')
    for enum in schema.enums:
        _enum_source(out, enum)
    for alternate in schema.alternates:
        _alternate_source(out, alternate)
    for struct in schema.structs:
        _struct_source(out, struct)
    for kind in schema.structs + schema.alternates:
        out.add(f'\nvoid\n{kind.snake}_free({kind.name} *obj)\n{{\n'
                f'    qapi_free(&{descriptor(kind)}, obj);\n}}\n\n'
                f'{kind.name} *\n{kind.snake}_copy(const {kind.name} *obj)\n{{\n'
                f'    return qapi_copy(&{descriptor(kind)}, obj);\n}}')
    for element in schema.returned_arrays():
        name, snake = returned_array(element)
        out.add(f'\nvoid\n{snake}_free({name} *obj)\n{{\n'
                '    if (obj) {\n'
                f'        qapi_free_elements(&{descriptor(element)}, obj->n, obj->items);\n'
                '        g_free(obj);\n    }\n}')
    return out.text()


def _enum_source(out, enum):
    snake = names.snake(enum.name)
    desc = descriptor(enum)
    strings = ''.join(f'        [{enum.constant(value.name)}] = {names.c_string(value.name)},\n'
                      for value in enum.values)
    out.add(f'''
const QapiType {desc} = {{
    .name = "{enum.name}",
    .kind = QAPI_ENUM,
    .size = sizeof({enum.name}),
    .n_values = {len(enum.values)},
    .values = (const char *const[]){{
{strings}        NULL,
    }},
}};
_Static_assert(sizeof({enum.name}) == sizeof(int), "enums are stored as int");

const char *
{snake}_str({enum.name} value)
{{
    return qapi_enum_str(&{desc}, (int)value);
}}

bool
{snake}_parse(const char *text, {enum.name} *ret)
{{
    int value = qapi_enum_parse(&{desc}, text);

    if (value < 0) {{
        return false;
    }}
    *ret = ({enum.name})value;
    return true;
}}''')


def _alternate_source(out, alternate):
    rows = ''.join(f'        {{ {names.c_string(b.name)}, &{descriptor(b.type)} }},\n'
                   for b in alternate.branches)
    out.add(f'''
const QapiType {descriptor(alternate)} = {{
    .name = "{alternate.name}",
    .kind = QAPI_ALTERNATE,
    .size = sizeof({alternate.name}),
    .u_offset = offsetof({alternate.name}, u),
    .n_branches = {len(alternate.branches)},
    .branches = (const QapiBranch[]){{
{rows}    }},
}};''')


def _member_row(struct, member):
    name = names.c_name(member.name)
    flag = names.flag_name(member.name)
    kind = member.type.element if isinstance(member.type, Array) else member.type
    parts = [f'.name = {names.c_string(member.name)}', f'.type = &{descriptor(kind)}',
             f'.offset = offsetof({struct.name}, {name})']
    if isinstance(member.type, Array):
        parts.append(f'.n_offset = offsetof({struct.name}, n_{flag})')
        parts.append('.is_array = true')
    if has_flag(member):
        parts.append(f'.has_offset = offsetof({struct.name}, has_{flag})')
        parts.append('.has_flag = true')
    if member.optional:
        parts.append('.optional = true')
    if member.limits:
        assert isinstance(member.type, Builtin)
        low, high = member.limits
        parts.append(f'.limits = &(const QapiLimits){{ {_c_int(low)}, {_c_uint(high)} }}')
    return '        {\n' + ''.join(f'            {part},\n' for part in parts) + '        },\n'


def _c_int(value):
    return 'INT64_MIN' if value == -2**63 else f'INT64_C({value})'


def _c_uint(value):
    """The upper limit: an int64 if it is negative, else a uint64."""
    return f'(uint64_t){_c_int(value)}' if value < 0 else f'UINT64_C({value})'


def _struct_source(out, struct):
    lines = [f'\nconst QapiType {descriptor(struct)} = {{', f'    .name = "{struct.name}",',
             '    .kind = QAPI_STRUCT,', f'    .size = sizeof({struct.name}),']
    if struct.members:
        lines += [f'    .n_members = {len(struct.members)},',
                  '    .members = (const QapiMember[]){',
                  ''.join(_member_row(struct, m) for m in struct.members).rstrip('\n'), '    },']
    if struct.tag:
        index = struct.members.index(struct.tag)
        lines += ['    .is_union = true,', f'    .tag = {index},']
        variants = struct.own_variants()
        if variants:
            lines.append(f'    .u_offset = offsetof({struct.name}, u),')
        enum = struct.tag.type
        lines.append(f'    .variants = (const QapiType *const[{max(1, len(enum.values))}]){{')
        lines += [f'        [{enum.constant(value)}] = &{descriptor(branch)},'
                  for value, branch in variants]
        lines.append('    },')
    lines.append('};')
    out.add('\n'.join(lines))
