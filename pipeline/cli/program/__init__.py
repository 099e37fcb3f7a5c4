# SPDX-License-Identifier: Apache-2.0
"""What surrounds every command.

``verbs`` finds the command, ``parser`` reads its options, ``running`` turns what it raises into a line and an exit
code, ``signals`` is how it is stopped. ``logs`` makes the lines on stderr, ``folding`` counts those that repeat
themselves, ``stray`` sends there what no thread caught. ``outputs`` can be closed, or lose their terminal.
"""
