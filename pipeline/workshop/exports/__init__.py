# SPDX-License-Identifier: Apache-2.0
"""``model export``: from a module to a file, kept only if the file does what the module does."""
