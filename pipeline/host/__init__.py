# SPDX-License-Identifier: Apache-2.0
"""The machine and the operating system underneath: cores, memory, files, and processes that this one starts."""
