# SPDX-License-Identifier: Apache-2.0
"""Which of PyTorch's operators read or write files of this machine, and whether TorchScript code reaches one."""

from __future__ import annotations

import re

FILE_OPERATORS = frozenset({"from_file", "save"})
"""All that have a file's name among their arguments, by ``torch._C._jit_get_all_schemas()`` of torch 2.15."""

_COMMENT = re.compile(r"#[^\n]*")
# torch writes getattr only where an attribute's name is not an identifier, with the name as one plain literal.
_PLAIN_GETATTR = re.compile(r"""\bgetattr\(([^,"']{0,300}), ?"([^"\\\n]{0,300})"\)""")
_WORD = re.compile(r"\b(from_file|save)\b(?!\s*[.:])")
_NESTED = 8


def file_access(code: str) -> str:
    """How TorchScript code reaches such an operator, or might do so unseen; empty where it does not.

    An operator need not be called where it is named (``f = torch.save``), and a name need not stand there in one piece
    (``getattr(torch, "sa" "ve")``). Attributes that are only declared, and modules of such a name, are none.
    """
    for text in (code, _COMMENT.sub("", code)) if "#" in code else (code,):
        for found in _WORD.finditer(text):
            if found[1] == "from_file" or _is_attribute(text, found.start()):
                return f"it calls {found[1]}, which reads and writes files on this machine"
    text = code
    for _ in range(_NESTED):
        names = [found[2] for found in _PLAIN_GETATTR.finditer(text)]
        if FILE_OPERATORS & set(names):
            return "it calls an operator that reads and writes files on this machine, through getattr"
        if not names:
            break
        text = _PLAIN_GETATTR.sub("_", text)
    return "it looks up names that it puts together while it runs (getattr)" if re.search(r"\bgetattr\b", text) else ""


def _is_attribute(text: str, at: int) -> bool:
    while at and (text[at - 1].isspace() or text[at - 1] == "\\"):
        at -= 1
    return text[at - 1 : at] == "."
