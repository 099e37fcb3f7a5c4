# SPDX-License-Identifier: Apache-2.0
"""A running daemon, seen from outside: ``client`` asks it, ``table`` shows what it said."""
