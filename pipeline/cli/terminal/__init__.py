# SPDX-License-Identifier: Apache-2.0
"""What people see, and what they press.

``printing`` is how every command prints: lines, JSON, a report. ``steps`` and ``progress`` show what it is at,
``looking`` says what was seen of a source; ``window`` shows pictures, ``keys`` waits for a key.
"""
