# SPDX-License-Identifier: Apache-2.0
"""From a file to a program that runs: what the file is, what it says of itself, and how it is made ready."""
