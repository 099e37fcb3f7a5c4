# SPDX-License-Identifier: Apache-2.0
"""Properties that hold for any input: :mod:`tests.fuzz.targets`. In the fast suite hypothesis tries some; ``make fuzz``
tries many more, and coverage-guided where atheris is installed."""
