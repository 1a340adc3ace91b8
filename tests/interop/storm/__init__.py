# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of real processes under random faults: see blow.py for what must hold."""
