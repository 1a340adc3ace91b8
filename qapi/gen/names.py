# SPDX-License-Identifier: GPL-2.0-or-later
"""How names of the schema are spelled in C."""

import re

C_KEYWORDS = frozenset('''
auto break case char const continue default do double else enum extern float for goto if inline
int long register restrict return short signed sizeof static struct switch typedef union unsigned
void volatile while asm typeof bool true false
'''.split())
# Macros of the compiler or of libc that would eat a member of this name.
C_MACROS = frozenset('unix linux i386 errno stdin stdout stderr'.split())


def c_name(name):
    """A member, branch or value: '-' and '.' become '_', keywords get 'q_'."""
    name = re.sub(r'[-.]', '_', name)
    if name in C_KEYWORDS or name in C_MACROS or name[0].isdigit():
        return 'q_' + name
    return name


def flag_name(name):
    """What stands behind 'has_' and 'n_': there nothing is a keyword."""
    return re.sub(r'[-.]', '_', name)


def snake(camel):
    """BlockdevOptionsNbd -> blockdev_options_nbd, NVMeIo -> nv_me_io"""
    text = re.sub(r'([a-z0-9])([A-Z])', r'\1_\2', camel)
    return re.sub(r'([A-Z]+)([A-Z][a-z])', r'\1_\2', text).lower()


def camel(name):
    """block-export-add, QUORUM_FAILURE -> BlockExportAdd, QuorumFailure"""
    return ''.join(part[:1].upper() + part[1:].lower() for part in re.split(r'[-_.]', name))


def lower(name):
    """block-export-add, QUORUM_FAILURE -> block_export_add, quorum_failure"""
    return re.sub(r'[-.]', '_', name).lower()


def upper(name):
    """write-back -> WRITE_BACK"""
    return lower(name).upper()


def c_string(text):
    """A C string literal, quotes included."""
    out = []
    for byte in text.encode('utf-8'):
        char = chr(byte)
        if char in '"\\':
            out.append('\\' + char)
        elif 32 <= byte < 127:
            out.append(char)
        else:
            out.append(f'\\{byte:03o}')
    return '"' + ''.join(out) + '"'
