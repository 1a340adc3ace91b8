# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of hosts on one machine, for the demo, the interop tests and the benches."""
