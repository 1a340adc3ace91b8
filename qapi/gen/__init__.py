# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema compiler: QAPI schema in, C code, introspection and manual out."""
