# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference manual, in Markdown, from documentation comments."""

from .doc import Doc
from .schema import Alternate, Array, Command, Enum, Event, Struct


def _type_text(kind):
    if isinstance(kind, Array):
        return f'[{_type_text(kind.element)}]'
    if isinstance(kind, (Enum, Struct, Alternate)):
        return f'[{kind.name}](#{kind.name.lower()})'
    return kind.name


def _text(lines):
    """Paragraphs of a comment, without blank lines around them."""
    return '\n'.join(lines).strip()


def _item(head, lines):
    text = ' '.join(line for line in lines if line).strip()
    return f'- {head}: {text}' if text else f'- {head}'


def _free_text(doc):
    lines = []
    for line in doc.body:
        if line.startswith('='):
            marks = len(line) - len(line.lstrip('='))
            line = '#' * (marks + 1) + ' ' + line.lstrip('=').strip()
        lines.append(line)
    return _text(lines)


def _member_items(doc, members):
    for member in members:
        head = f'`{member.name}`'
        kind = _type_text(member.type)
        limits = f', {member.limits[0]} to {member.limits[1]}' if member.limits else ''
        optional = ', optional' if member.optional else ''
        yield _item(f'{head} ({kind}{limits}{optional})', doc.members.get(member.name, []))


def _struct_items(struct, doc):
    inherited = struct.base.members if struct.base else []
    if struct.base:
        yield f'- the members of {_type_text(struct.base)}'
    yield from _member_items(doc, [m for m in struct.members if m not in inherited])
    for value, branch in struct.variants.items():
        yield f'- if `{struct.tag.name}` is `{value}`: the members of {_type_text(branch)}'


def _data_items(struct, doc):
    if struct is None:
        return
    if struct.implicit:
        yield from _struct_items(struct, doc)
    else:
        yield f'- the members of {_type_text(struct)}'


def _definition(definition):
    doc = definition.doc
    kinds = {Command: 'Command', Event: 'Event', Enum: 'Enum', Alternate: 'Alternate'}
    kind = kinds.get(type(definition)) or ('Union' if definition.tag else 'Object')
    if isinstance(definition, Enum):
        items = [_item(f'`{v.name}`', doc.members.get(v.name, [])) for v in definition.values]
    elif isinstance(definition, Alternate):
        items = list(_member_items(doc, definition.branches))
    elif isinstance(definition, Struct):
        items = list(_struct_items(definition, doc))
    else:
        data = definition.args if isinstance(definition, Command) else definition.data
        items = list(_data_items(data, doc))
    parts = [f'### {definition.name}', f'*{kind}*', _text(doc.body), '\n'.join(items)]
    if doc.features:
        parts.append('Features:')
        parts.append('\n'.join(_item(f'`{n}`', lines) for n, lines in doc.features.items()))
    if isinstance(definition, Command) and definition.returns:
        parts.append(f'Returns: {_type_text(definition.returns)}')
    parts += [f'{tag}: {_text(lines)}' for tag, lines in doc.tags]
    return '\n\n'.join(part for part in parts if part)


def manual(schema):
    """The whole manual as one text."""
    parts = ['# QMP and options: reference',
             'Made from the schema. A member that is not optional must be given.']
    for item in schema.items:
        parts.append(_free_text(item) if isinstance(item, Doc) else _definition(item))
    return '\n\n'.join(part for part in parts if part) + '\n'
