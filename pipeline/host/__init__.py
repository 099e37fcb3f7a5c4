# SPDX-License-Identifier: Apache-2.0
"""The machine and the operating system underneath: cores, memory, files, and processes that this one starts.

``cores`` tells how many there are, ``neighbours`` who else uses them, ``footprint`` how much memory this process has;
``caches`` is the folder of what can be made again, ``replacing`` writes whole files or none, ``nearby`` guesses which
file was meant; ``orphans`` ends child processes with their parent, ``kineto`` keeps torch's profiler quiet.
"""
