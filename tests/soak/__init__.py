# SPDX-License-Identifier: Apache-2.0
"""A daemon that lives for minutes or hours while something goes wrong every few seconds: ``python -m tests.soak``."""
