# SPDX-License-Identifier: Apache-2.0
"""Whole records only: torn tails, rotation, headers, other people's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, SinkError
from pipeline.sinks.record_file import RecordFile, Rotate, repair_tail

records = st.lists(
    st.binary(max_size=40).map(lambda data: b'{"stream":' + data.replace(b"\n", b"") + b"\n"), max_size=12
)


@given(records, st.data())
def test_any_prefix_of_a_valid_file_is_repairable(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("prefix") / "a.jsonl"
    path.write_bytes(whole[:cut])
    removed = repair_tail(path, b'{"stream":')
    left = path.read_bytes()
    assert whole.startswith(left)
    assert len(left) + removed == cut
    assert left == b"" or left.endswith(b"\n")
    assert left.count(b"\n") == whole[:cut].count(b"\n"), "no whole record may be lost"


def test_repair_finds_a_newline_that_is_far_away(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"first\n" + b"x" * 200_000)
    assert repair_tail(path) == 200_000
    assert path.read_bytes() == b"first\n"


@pytest.mark.parametrize("tail", [b'{"str', b'{"stream":"a","fra', b"\0" * 5000, b'{"st\0\0\0\0\0\0\0'])
def test_what_a_crash_leaves_is_cut(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"stream":1}\n' + tail)
    assert repair_tail(path, b'{"stream":') == len(tail)
    assert path.read_bytes() == b'{"stream":1}\n'


def test_a_file_of_somebody_else_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my only copy, without a newline at the end")
    with pytest.raises(SinkError, match=r"notes\.txt ends in something that is no record"):
        RecordFile(path, opening=b'{"stream":').open()
    assert path.read_bytes() == b"my only copy, without a newline at the end"


def test_nothing_to_repair(tmp_path: Path) -> None:
    assert repair_tail(tmp_path / "missing") == 0
    (tmp_path / "empty").write_bytes(b"")
    assert repair_tail(tmp_path / "empty") == 0
    assert repair_tail(Path("/dev/null"), b"x") == 0


def test_replace_empties_once_and_then_appends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old\n")
    file = RecordFile(path, replace=True)
    file.append(b"1\n")
    file.close()
    file.append(b"2\n")
    file.close()
    file.close()
    assert path.read_bytes() == b"1\n2\n"


def test_append_mode_continues_after_the_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1\n2\n3")
    file = RecordFile(path)
    file.append(b"4\n")
    file.close()
    assert path.read_bytes() == b"1\n2\n4\n"


def test_one_write_per_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real = os.write

    def spy(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", spy)
    file = RecordFile(tmp_path / "a")
    file.append(b"one\n")
    file.append(b"two\n")
    file.close()
    assert writes == [b"one\n", b"two\n"]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    file = RecordFile(tmp_path / "a")
    file.append(b"0123456789\n")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"0123456789\n"


@pytest.mark.parametrize("truncate_fails", [False, True])
def test_what_a_failed_write_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncate_fails: bool
) -> None:
    path = tmp_path / "a"
    file = RecordFile(path)
    file.append(b"first\n")
    real_write, real_truncate = os.write, os.ftruncate
    answers = iter([3, OSError(28, "full")])

    def tearing(fd: int, data: bytes) -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return real_write(fd, bytes(data)[:answer])

    def refusing(fd: int, length: int) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(os, "write", tearing)
    if truncate_fails:
        monkeypatch.setattr(os, "ftruncate", refusing)
    with pytest.raises(SinkError, match=r"cannot write .*/a: No space left on device \(results are lost until"):
        file.append(b"second\n")
    assert path.read_bytes() == (b"first\nsec" if truncate_fails else b"first\n")
    monkeypatch.setattr(os, "write", real_write)
    if truncate_fails:
        with pytest.raises(SinkError, match="Input/output error"):
            file.append(b"lost\n")
        assert path.read_bytes() == b"first\nsec", "nothing may follow a torn record"
    monkeypatch.setattr(os, "ftruncate", real_truncate)
    file.append(b"third\n")
    file.close()
    assert path.read_bytes() == b"first\nthird\n"


def test_another_writer_of_the_same_file_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    ours, theirs = RecordFile(path), RecordFile(path)
    ours.append(b"ours\n")
    theirs.append(b"theirs\n")
    real = os.write
    answers = iter([2])
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[: next(answers)]))
    with pytest.raises(StopIteration):
        ours.append(b"torn\n")
    monkeypatch.setattr(os, "write", real)
    ours.append(b"ours again\n")
    assert path.read_bytes() == b"ours\ntheirs\nours again\n"


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = RecordFile(path, rotate=Rotate(max_mb=25e-6, keep=2))  # 25 bytes: two records of ten
    for n in range(9):
        file.append(b"record %02d\n" % n)
    file.close()
    assert path.read_bytes() == b"record 08\n"
    assert (tmp_path / "a.jsonl.1").read_bytes() == b"record 06\nrecord 07\n"
    assert (tmp_path / "a.jsonl.2").read_bytes() == b"record 04\nrecord 05\n"
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]


def test_a_gap_in_the_numbers_is_filled_first(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for name, content in (("a", b"now now\n"), ("a.1", b"one\n"), ("a.3", b"three\n")):
        (tmp_path / name).write_bytes(content)
    file = RecordFile(path, rotate=Rotate(max_mb=1e-5, keep=3))
    file.append(b"new\n")
    file.close()
    contents = {name: (tmp_path / name).read_bytes() for name in sorted(os.listdir(tmp_path))}
    assert contents == {"a": b"new\n", "a.1": b"now now\n", "a.2": b"one\n", "a.3": b"three\n"}


def test_a_record_larger_than_the_limit_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = RecordFile(path, header=b"h\n", rotate=Rotate(max_mb=1e-5, keep=1))
    file.append(b"x" * 100 + b"\n")
    file.append(b"y\n")
    file.close()
    assert (tmp_path / "a.1").read_bytes() == b"h\n" + b"x" * 100 + b"\n"
    assert path.read_bytes() == b"h\ny\n"


def test_every_file_has_its_header_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for _ in range(2):
        file = RecordFile(path, header=b"head\n")
        file.append(b"row\n")
        file.close()
    assert path.read_bytes() == b"head\nrow\nrow\n"


def test_rotation_that_cannot_rename_says_so_and_loses_no_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    file = RecordFile(path, rotate=Rotate(max_mb=1e-5, keep=1))
    file.append(b"12345678\n")

    def refusing(*_: object) -> None:
        raise PermissionError(13, "no")

    real = os.replace
    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(SinkError, match=r"cannot rotate .*/a: Permission denied"):
        file.append(b"more\n")
    monkeypatch.setattr(os, "replace", real)
    file.append(b"more\n")
    file.close()
    assert (tmp_path / "a.1").read_bytes() == b"12345678\n"
    assert path.read_bytes() == b"more\n"


@pytest.mark.parametrize(("max_mb", "keep"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0)])
def test_senseless_rotation_is_refused(max_mb: float, keep: int) -> None:
    with pytest.raises(ConfigError, match="rotate: expected max_mb > 0 and keep >= 1"):
        Rotate(max_mb, keep)
