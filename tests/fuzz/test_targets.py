# SPDX-License-Identifier: Apache-2.0
"""The targets, tried with what hypothesis thinks of. ``FUZZ=100`` tries a hundred times as much."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets

TIMES = int(os.environ.get("FUZZ", "1"))
SHIPPED = (Path(__file__).parents[2] / "streams.yaml").read_bytes()
SNIPPETS = [
    b"&a ", b"*a", b"<<: *a", b"? ", b": ", b"- ", b"[", b"]", b"{", b"}", b"|\n", b">-\n", b"!!python/object:x ",
    b"\t", b"%YAML 1.3\n", b"---\n", b"...\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc2\x85", b"0x1f", b"1e999", b"~",
    b"'", b'"', b"#", b"${X}", b"\\", b"streams:\n", b"  - {name: a, source: a.mp4}\n", b"model: ",
    b"defaults: {fps: 1}\n", b"sinks: [{type: jsonl, path: x}]\n",
]  # fmt: skip

settings.register_profile("fuzz", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def tried(times: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """That many examples, times what the environment asks for."""
    return settings(settings.get_profile("fuzz"), max_examples=times * TIMES)


@tried(80)
@given(st.lists(st.sampled_from(SNIPPETS) | st.binary(max_size=6), max_size=20).map(b"".join))
def test_configurations_made_of_pieces(data: bytes) -> None:
    targets.configuration(data)


@tried(20)
@given(st.lists(st.tuples(st.integers(0, len(SHIPPED)), st.sampled_from(SNIPPETS)), min_size=1, max_size=4))
def test_the_shipped_configuration_with_pieces_in_it(places: list[tuple[int, bytes]]) -> None:
    data = SHIPPED
    for at, snippet in places:
        data = data[:at] + snippet + data[at:]
    targets.configuration(data)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text("%2fF@:/?#&='\"\\ aé", max_size=20)


@tried(150)
@given(texts, texts)
def test_redaction(user: str, password: str) -> None:
    targets.redaction(f"{user}\n{password}".encode())


@tried(150)
@given(
    texts.map(lambda text: f"rtsp://{text}") | texts | st.binary(max_size=30).map(lambda data: data.decode("latin1"))
)
def test_url_text(text: str) -> None:
    targets.url_text(text.encode())


@tried(60)
@given(st.binary(min_size=4, max_size=4))
def test_records_cut_anywhere(data: bytes) -> None:
    targets.records(data)


@tried(60)
@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b'{"stream":', b"\n", b"{}", b'{"str', b"\0", b"x"])).map(b"".join)
)
def test_files_of_somebody_else(data: bytes) -> None:
    targets.foreign(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_target_takes_nothing_and_noise(name: str) -> None:
    for data in (b"", b"\0", bytes(range(256)), SHIPPED):
        targets.TARGETS[name](data)
