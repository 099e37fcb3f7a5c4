# SPDX-License-Identifier: Apache-2.0
"""Pickles are read as data: whatever they hold, they are described or refused, and nothing of them is run."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.workshop.inspection import pickles
from pipeline.workshop.inspection.pickles import Global, Object, Pairs, Stored, Walk
from pipeline.workshop.inspection.tensors import tensors_in

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner, inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def plain(value: Any) -> Any:
    """A description of plain data as that data."""
    if isinstance(value, Pairs):
        return {key: plain(inner) for key, inner in value.items}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from([3, 4, 5]))
def test_plain_data_is_read_as_it_is(value: Any, protocol: int) -> None:
    assert plain(Walk(pickle.dumps(value, protocol)).root) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_described_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        tensors_in(Walk(data + b".").root)


OPCODES = sorted(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(OPCODES) | st.sampled_from([b"K\x01", b"h\x00", b"q\x00", b"(", b")", b"}", b"]"])))
def test_any_opcodes_are_described_or_refused(codes: list[bytes]) -> None:
    with contextlib.suppress(ValueError):
        tensors_in(Walk(b"".join(codes) + b".").root)


class Evil:
    def __reduce__(self) -> Any:
        raise_if_called = "__import__('pathlib').Path('evil').touch()"
        return (exec, (raise_if_called,))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_calls_are_named_and_not_made(protocol: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    walk = Walk(pickle.dumps([Evil()], protocol))
    assert isinstance(walk.root[0], Object)
    assert [named.name for named in walk.globals.values()] == ["exec"]
    assert list(tmp_path.iterdir()) == []


def test_objects_references_and_states() -> None:
    walk = Walk(b"\x80\x02ctorch\nSize\n)\x81}X\x01\x00\x00\x00aK\x05sbX\x03\x00\x00\x00keyQ\x86.")
    made, stored = walk.root
    assert isinstance(made.maker, Global)
    assert (made.maker.module, made.maker.name) == ("torch", "Size")
    assert plain(made.state) == {"a": 5}
    assert isinstance(stored, Stored)
    assert stored.key == "key"
    ordered = Walk(pickle.dumps(OrderedDict(a=1), 2)).root
    assert isinstance(ordered, Object)


def test_deep_nesting_needs_no_recursion() -> None:
    deep = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    assert tensors_in(Walk(deep).root) == []


def test_shared_tuples_are_visited_once() -> None:
    """Thirty doublings: a billion leaves for whoever follows each path."""
    doubled = b"\x80\x02]" + b"2\x86" * 40 + b"."
    assert tensors_in(Walk(doubled).root) == []


def test_circles_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert tensors_in(Walk(pickle.dumps(circle, 2)).root) == []


def test_too_many_opcodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_OPCODES", 100)
    with pytest.raises(ValueError, match="more than 100 opcodes"):
        Walk(b"\x80\x02" + b"N0" * 100 + b"N.")


def test_a_number_that_is_longer_than_python_prints_is_no_size() -> None:
    huge = pickle.dumps(1 << 100_000, 2)[2:-1]
    shape = b"(" + huge + b"t"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
    rebuilt = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + b"()t\x88t R."
    for data in (rebuilt, rebuilt.replace(b"()t\x88t R", b")\x88N" + b"tR")):
        with contextlib.suppress(ValueError):
            assert tensors_in(Walk(data).root) == []
