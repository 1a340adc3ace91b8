# SPDX-License-Identifier: GPL-2.0-or-later
"""Documentation must describe exactly what the definition has."""

from .schema import Alternate, Command, Enum, Event, Struct
from .source import SchemaError


def _documented_names(definition):
    """Names that the comment of @definition has to describe."""
    if isinstance(definition, Enum):
        return [value.name for value in definition.values]
    if isinstance(definition, Alternate):
        return [branch.name for branch in definition.branches]
    if isinstance(definition, Struct):
        inherited = definition.base.members if definition.base else []
        return [m.name for m in definition.members if m not in inherited]
    data = definition.args if isinstance(definition, Command) else definition.data
    return [m.name for m in data.members] if data and data.implicit else []


def _feature_names(definition):
    found = [feature.name for feature in definition.features]
    if isinstance(definition, Struct):
        members = definition.members
    elif isinstance(definition, Enum):
        members = definition.values
    elif isinstance(definition, (Command, Event)):
        data = definition.args if isinstance(definition, Command) else definition.data
        members = data.members if data and data.implicit else []
    else:
        members = []
    for member in members:
        found += [feature.name for feature in member.features]
    return found


def check_doc(definition, unwanted):
    """Raise SchemaError unless the comment and the definition agree.

    What a condition removed, @unwanted, may be described all the same.
    """
    doc = definition.doc
    expected = _documented_names(definition)
    for name in expected:
        if name not in doc.members:
            raise SchemaError(doc.where, f"'{name}' of '{definition.name}' is not documented")
    for name in doc.members:
        if name not in expected and (definition.name, name) not in unwanted:
            raise SchemaError(doc.member_where[name], f"'{definition.name}' has no '{name}' to "
                              'document')
    features = _feature_names(definition)
    for name in features:
        if name not in doc.features:
            raise SchemaError(doc.where, f"feature '{name}' of '{definition.name}' is not "
                              'documented')
    for name in doc.features:
        if name not in features:
            raise SchemaError(doc.member_where[name], f"'{definition.name}' has no feature "
                              f"'{name}' to document")
    for tag, _ in doc.tags:
        if tag == 'Returns' and not (isinstance(definition, Command) and definition.returns):
            raise SchemaError(doc.where, f"'{definition.name}' returns nothing to document")
