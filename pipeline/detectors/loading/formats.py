# SPDX-License-Identifier: Apache-2.0
"""What a model file is: told from its bytes, without running or unpickling anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pipeline.figures import count

ModelFormat = Literal["torchscript", "torch.export", "aotinductor"]

EXPORT_REMEDY = "load it in the program that made it and save it with torch.jit.trace(model.eval(), example).save(path)"
OTHER_FILE = "give a TorchScript or .pt2 file"
"""The remedy where nothing can be made of the file: it says already what was expected."""
_ULTRALYTICS_REMEDY = "export it first: `yolo export model=FILE.pt format=torchscript`"

LEGACY = frozenset({"serialized_exported_program.json", "serialized_state_dict.pt"})
"""Members of torch.export archives before torch 2.8, which have no root folder and whose weights are pickles."""

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P"  # the magic number that torch.save wrote first until PyTorch 1.6

_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 (Keras) model"),
    (b"TFL3", 4, "a TensorFlow Lite model"),
    (b"\x1f\x8b", 0, "a gzip archive"),
    (b"7z\xbc\xaf", 0, "a 7z archive"),
    (b"BZh", 0, "a bzip2 archive"),
    (b"\xfd7zXZ", 0, "an xz archive"),
    (b"ftrt", 0, "a TensorRT engine"),
    (b"\x7fELF", 0, "a compiled library"),
    (b"\x89PNG", 0, "a PNG picture"),
    (b"\xff\xd8\xff", 0, "a JPEG picture"),
    (b"ftyp", 4, "an MP4 video"),
)


def describe_foreign(data: bytes, suffix: str, size: int | None = None) -> tuple[str, str]:
    """Name the format of bytes that are not a zip archive.

    Args:
        data: the whole file, or the beginning of a large one.
        suffix: of the file's name, lower case with its dot; decides only where the bytes do not.
        size: bytes of the whole file, where ``data`` is only its beginning.

    Returns:
        what was found, and what to do about it; both fit into one line.
    """
    if not data:
        return "an empty file", "copy or download it again"
    if data[:2] == b"PK":
        return "a zip archive that is cut short or damaged", "copy or download it again"
    if data.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself", "run `git lfs pull`"
    if data[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a download that answered with a web page)", "download it again"
    if data[:2] == b"\x80\x02" or (data[:1] == b"\x80" and data[1:2] in b"\x03\x04\x05"):
        legacy = data.startswith(_LEGACY_MAGIC)
        return _describe_pickle(data, "a legacy PyTorch checkpoint (a pickle)" if legacy else "a pickle")
    if _is_safetensors(data, len(data) if size is None else size):
        return "a safetensors file: weights without a program", EXPORT_REMEDY
    for magic, offset, name in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name, OTHER_FILE
    if suffix == ".onnx" or (data[:1] == b"\x08" and b"onnx" in data[:4096]) or data[:12].find(b"\x12\x07pytorch") > 0:
        return "an ONNX model", "export the original model to TorchScript instead"
    if len(data) > 262 and data[257:262] == b"ustar":
        return "a tar archive (perhaps a PyTorch checkpoint from before 0.4)", EXPORT_REMEDY
    if _is_text(data[:4096]):
        return "a text file", OTHER_FILE
    return f"{len(data) if size is None else size} bytes of an unknown format", EXPORT_REMEDY


def format_of(members: Iterable[str]) -> ModelFormat | None:
    """The format of a zip archive that can be run, by the names of its members; None for anything else."""
    names = set(members)
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if any(name.startswith("data/aotinductor/") for name in inner):
        return "aotinductor"
    if any(name.startswith("models/") for name in inner) or LEGACY & names:
        return "torch.export"
    return None


def describe_zip(members: list[str], pickled: bytes) -> tuple[str, str]:
    """Name a zip archive that is none of the formats that can be run.

    Args:
        members: names of all members.
        pickled: the bytes of the member ``data.pkl``, or empty when there is none.
    """
    inner = {name.partition("/")[2] for name in members}
    if "archive_format" in inner:
        return "a .pt2 archive without a program", "export the model again with torch.export.save"
    if "data.pkl" in inner:
        return _describe_pickle(pickled, "a PyTorch checkpoint (torch.save), not TorchScript")
    if any(name.startswith("word/") or name == "[Content_Types].xml" for name in members):
        return "an office document", "give a TorchScript file"
    return f"a zip archive of {count(len(members), 'file')} that is not TorchScript", EXPORT_REMEDY


def _describe_pickle(pickled: bytes, otherwise: str) -> tuple[str, str]:
    """Tell checkpoints of known projects apart by the module names in the pickle; nothing is unpickled."""
    if b"ultralytics" in pickled:
        return "an Ultralytics checkpoint (.pt), not TorchScript", _ULTRALYTICS_REMEDY
    if b"models.yolo" in pickled:
        return "a YOLOv5 checkpoint (.pt), not TorchScript", "export it: `python export.py --include torchscript`"
    if b"OrderedDict" in pickled and b"torch.nn" not in pickled and b"_rebuild_tensor" in pickled:
        return f"{otherwise}: weights (a state_dict) without a program", EXPORT_REMEDY
    return otherwise, EXPORT_REMEDY


def _is_safetensors(data: bytes, size: int) -> bool:
    """Eight bytes of header length (little endian), then a JSON object."""
    return len(data) > 9 and 2 <= int.from_bytes(data[:8], "little") <= size - 8 and data[8:9] == b"{"


def _is_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as exc:
        return exc.start > len(head) - 4  # a character that was cut in two by the slice
    return True
