"""Whatever bytes come, a parser takes them or refuses them as the caller's mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS, TOKENS
from tests.fuzz.targets import SEPARATOR, TARGETS, run
from timestore.errors import error

PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(TOKENS).map(lambda token: token.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"", b",", b":", b'"', b"{", b"}", b"null", b"1", b"\\", b"=", b"/", b"..", SEPARATOR]),
)


@st.composite
def _mutated(draw: st.DrawFn, name: str) -> bytes:
    """A seed in which pieces are replaced, or none of it."""
    data = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = data[:start] + draw(PIECES) + data[end:]
    return data


@st.composite
def _with_token(draw: st.DrawFn, name: str) -> bytes:
    """A seed of which one JSON value, or one name, is replaced by something that is trouble."""
    data = draw(st.sampled_from(SEEDS[name]))
    values = [at for at in range(len(data)) if data[at : at + 2] in (b": ", b'":')]
    start = draw(st.sampled_from(values)) + 2 if values else 0
    end = draw(st.sampled_from([at for at in range(start, len(data)) if data[at : at + 1] in (b",", b"}")] or [start]))
    return data[:start] + draw(st.sampled_from(TOKENS)).encode("utf-8", "surrogatepass") + data[end:]


def test_every_target_has_seeds() -> None:
    """Every parser starts from what is valid, and takes some of it."""
    assert set(SEEDS) == set(TARGETS)
    for name in TARGETS:
        TARGETS[name](SEEDS[name][0])


@pytest.mark.parametrize("defect", [ValueError("x"), error("internal", "x"), error("catalog_unavailable", "x")])
def test_a_defect_is_a_finding(monkeypatch: pytest.MonkeyPatch, defect: Exception) -> None:
    """What does not blame the caller is not taken for a refusal."""

    def broken(data: bytes) -> None:
        raise defect

    monkeypatch.setitem(TARGETS, "broken", broken)
    with pytest.raises((AssertionError, ValueError)):
        run("broken", b"")


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_any_bytes_are_taken_or_refused(name: str, data: st.DataObject) -> None:
    """A parser returns, or raises an error that blames the caller and is short enough to be told."""
    run(name, data.draw(st.one_of(st.binary(max_size=200), _mutated(name), _with_token(name))))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:20])
def test_trouble_alone_is_refused(name: str, token: str) -> None:
    """Each thing that once was trouble is refused on its own, too."""
    run(name, token.encode("utf-8", "surrogatepass"))
