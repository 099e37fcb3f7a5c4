# SPDX-License-Identifier: Apache-2.0
"""YAML to plain data: what is refused, where it stands, and that nothing else ever comes out of it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.document import read_document
from pipeline.errors import ConfigError


def read(text: str | bytes) -> object:
    return read_document(text.encode() if isinstance(text, str) else text, "f.yaml").data


def faults(text: str | bytes) -> list[str]:
    try:
        return [
            str(fault) for fault in read_document(text.encode() if isinstance(text, str) else text, "f.yaml").faults
        ]
    except ConfigError as error:
        return error.faults


def test_plain_values() -> None:
    assert read("a: {b: [1, -2.5, x y, 'true', null, true, 2024-01-01], c: ~}\nd: |-\n  one line\n") == {
        "a": {"b": (1, -2.5, "x y", "true", None, True, "2024-01-01"), "c": None},
        "d": "one line",
    }
    assert read("") == read("# nothing\n") == read("---\n") == {}
    assert read("\ufeffa: 1") == {"a": 1}, "a byte order mark is no key"


def test_marks_count_from_one() -> None:
    document = read_document(b"a: 1\nb:\n  - {c: 3}\n", "f.yaml")
    assert document.mark(("b", 0, "c")) == (3, 9)
    assert document.mark(("b", 0, "c"), of_key=True) == (3, 6)
    assert document.mark(("b", 0, "absent")) == (3, 5), "what is not there is where it should be"
    assert document.mark(("absent",)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: this key was already given in line 1"),
        ("s:\n  - {a: 1, a: 2}\n", "f.yaml:2:12: s[0].a: this key was already given in line 2"),
        ("no: 1\n", "f.yaml:1:1: the key no is read as a truth value by YAML; put it in quotes"),
        ("a: {on: 1}\n", "f.yaml:1:5: a: the key on is read as a truth value by YAML; put it in quotes"),
        ("1: 2\n", "f.yaml:1:1: a key must be text; put it in quotes"),
        ("~: 2\n", "f.yaml:1:1: a key must be text; put it in quotes"),
        ("2024-01-01: 2\n", "f.yaml:1:1: a key must be text; put it in quotes"),
        ("? [a]\n: 2\n", "f.yaml:1:3: a key must be text, not a list or a mapping"),
        ("<<: {a: 1}\n", "f.yaml:1:1: merge keys (<<) are not accepted; what all streams share goes under 'defaults'"),
        ("a: &x 1\n", "f.yaml:1:4: a: anchors (&) are not accepted; write the value out, or in quotes if it is text"),
        ("a: *x\n", "f.yaml:1:4: a: aliases (*) are not accepted; write the value out, or in quotes if it is text"),
        ("*x : 1\n", "f.yaml:1:1: aliases (*) are not accepted; write the value out, or in quotes if it is text"),
        ("a: !!str 1\n", "f.yaml:1:4: a: tags (!) are not accepted; write the value out, or in quotes if it is text"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "f.yaml:1:4: a: tags (!) are not accepted; write the value out, or in quotes if it is text",
        ),
        ('a: "x\\ny"\n', "f.yaml:1:4: a: text with a line break or another control character; one line was expected"),
        ('a: "\\uD800"\n', "f.yaml:1:4: a: text with a line break or another control character; one line was expected"),
        ('"a\\0": 1\n', "f.yaml:1:1: a key with a control character"),
        ("- a\n", "f.yaml:1:1: expected keys such as 'streams:' here"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: not valid YAML: a second document begins here; one was expected"),
        ("a: [1\nb: 2\n", "f.yaml:2:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: b: c\n", "f.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a:\n\t- b\n", "f.yaml:2:1: not valid YAML: a tab stands here; indent with spaces"),
        ("a: 'x\n", "f.yaml:2:1: not valid YAML: found unexpected end of stream"),
        (
            "a: [\n",
            "f.yaml:2:1: not valid YAML: expected the node content, but found '<stream end>' while parsing a flow "
            "node; a value is missing here; check that every bracket is closed",
        ),
        ('a: "\\U00110000"\n', "f.yaml:1:7: this escape is not a character"),
        (b"a: 1\nb: \xff\n", "f.yaml:2:4: this is not UTF-8; save the file as UTF-8"),
        ("a: 1\nbc: \x07\n", "f.yaml:2:5: a control character, which YAML does not allow"),
        ("[" * 40, "f.yaml:1:17: not valid YAML: nested more than 16 levels deep"),
        ("a: 1\n" * 300_000, "f.yaml: the file is larger than 1 MiB"),
    ],
)
def test_refusals_name_the_place(text: str | bytes, expected: str) -> None:
    found = faults(text)
    assert found
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    "number", ["0123", "1_5", "12:30", "1:30.5", "0x1F", "0b11", ".inf", "-.inf", ".nan", "1" * 30]
)
def test_numbers_that_yaml_reads_in_its_own_way_are_refused(number: str) -> None:
    assert isinstance(yaml.safe_load(number), (int, float)), "a trap indeed"
    assert "unusual notation" in faults(f"a: {number}")[0]
    assert faults(f"a: '{number}'") == []


def test_refused_values_leave_the_rest_in_place() -> None:
    document = read_document(b"a: [1, *x, 3]\nb: &y 2\nc: 4\n", "f.yaml")
    assert document.data == {"a": (1, None, 3), "c": 4}
    assert [fault.path for fault in document.faults] == [("a", 1), ("b",)]


def test_alias_bomb_is_not_expanded() -> None:
    """The billion-laughs text: 332 bytes that stand for a thousand million leaves."""
    rows = [
        f"{key}: &{key} [{','.join([f'*{previous}'] * 9)}]"
        for previous, key in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(rows)
    assert len(bomb) < 400
    found = faults(bomb)
    assert len(found) == 9
    assert all("not accepted" in fault for fault in found)


def test_deep_nesting_is_refused_before_it_costs_anything() -> None:
    for text in (
        "[" * 500_000,
        "{a: " * 200_000,
        "- " * 300_000,
        "? " * 300_000,
        "a:\n" + "".join(" " * i + "b:\n" for i in range(1, 900)),
    ):
        assert "levels deep" in faults(text)[0]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef_", min_size=2, max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)


def tuples(value: object) -> object:
    if isinstance(value, list):
        return tuple(tuples(item) for item in value)
    return {key: tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcdef_", min_size=2, max_size=8), values, max_size=4))
def test_what_pyyaml_writes_is_read_back(data: dict[str, object]) -> None:
    assert read(yaml.safe_dump(data)) == tuples(data)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text("a:-[]{}&*!|>'\"%@`#,? \n\t01", max_size=60).map(str.encode))
def test_nothing_but_config_errors_and_every_fault_has_a_line(data: bytes) -> None:
    try:
        found = read_document(data, "f.yaml").faults
    except ConfigError as error:
        found = list(error.faults)  # type: ignore[arg-type]
        assert found
    for fault in found:
        assert 1 <= fault.mark.line <= data.decode("utf-8", "replace").count("\n") + data.count(b"\r") + 1
        assert fault.mark.column >= 1
        assert "\n" not in fault
