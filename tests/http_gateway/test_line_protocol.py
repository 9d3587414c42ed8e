"""The line protocol is parsed exactly: see ``tests/fixtures/influx_lines.py`` for the other side."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_gateway.influx import parser as parser_module
from http_gateway.influx.measurement import Points
from http_gateway.influx.parser import LineParser, parse_precision
from tests.fixtures.influx_lines import Point, Unsigned, Value, points_of
from timestore.errors import TimestoreError


def parse(text: str | bytes, *, precision: str = "ns", pieces: int = 1 << 16) -> list[Points]:
    """Parse a request that comes in pieces."""
    data = text.encode() if isinstance(text, str) else text
    parser = LineParser(ns_per_unit=parse_precision(precision))
    for start in range(0, len(data), pieces):
        parser.feed(data[start : start + pieces])
    return parser.finish()


def refusal(text: str | bytes, **options: object) -> TimestoreError:
    """Return the error of a request that is refused."""
    with pytest.raises(TimestoreError) as caught:
        parse(text, **options)  # type: ignore[arg-type]
    return caught.value


# What a line can say: no name is empty, has a newline or ends in a backslash, and `#` begins a comment.
_CHARACTERS = st.one_of(
    st.sampled_from("aZ0_\\,= \"#'\t\rä€😀"), st.characters(exclude_categories=["Cs"], exclude_characters="\n")
)
_NAMES = st.text(_CHARACTERS, min_size=1, max_size=8).filter(lambda text: not text.endswith("\\"))
_MEASUREMENTS = _NAMES.filter(lambda text: not text.startswith("#"))
_STRINGS = st.text(st.one_of(st.sampled_from('"\\\n\r ,=#'), st.characters(exclude_categories=["Cs"])), max_size=8)
_KINDS: list[st.SearchStrategy[Value]] = [
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1).map(Unsigned),
    st.booleans(),
    _STRINGS,
]


@st.composite
def _requests(draw: st.DrawFn) -> list[Point]:
    """Points of a few measurements; a field of a measurement has one type."""
    kinds: dict[tuple[str, str], st.SearchStrategy[Value]] = {}
    names = draw(st.lists(_MEASUREMENTS, min_size=1, max_size=3))
    points = []
    for _ in range(draw(st.integers(0, 6))):
        measurement = draw(st.sampled_from(names))
        fields = {
            name: draw(kinds.setdefault((measurement, name), draw(st.sampled_from(_KINDS))))
            for name in draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))
        }
        tags = draw(st.dictionaries(_NAMES, _NAMES, max_size=3))
        points.append(Point(measurement, fields, tags, draw(st.none() | st.integers(-(2**63), 2**63 - 1))))
    return points


def _exact(points: list[Point]) -> list[Point]:
    """Make floats comparable by their bits: zero has a sign."""

    def bits(value: Value) -> Value:
        return struct.pack("d", value).hex() if isinstance(value, float) else value

    return [
        Point(each.measurement, {name: bits(value) for name, value in each.fields.items()}, each.tags, each.stamp)
        for each in points
    ]


@given(points=_requests(), end=st.sampled_from(["\n", "\r\n", "\n\n", "\n# 1\n", "\n  \n"]), pieces=st.integers(1, 50))
def test_what_is_written_is_read(points: list[Point], end: str, pieces: int) -> None:
    """Any points come back as they were written, however the request is cut into pieces."""
    parsed = parse(end.join(point.to_line() for point in points), pieces=pieces)
    assert _exact(points_of(parsed)) == _exact(points)
    assert [each.measurement for each in parsed] == list(dict.fromkeys(point.measurement for point in points))


@pytest.fixture(name="tiny_blocks")
def _tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every few characters be a block."""
    monkeypatch.setattr(parser_module, "PIECE_BYTES", 3)
    monkeypatch.setattr(parser_module, "BLOCK_CHARACTERS", 5)


@pytest.mark.usefixtures("tiny_blocks")
def test_blocks_do_not_show() -> None:
    """Points are the same wherever a block ends: within names, strings with newlines, numbers, and ends of lines."""
    points = [Point("m\\, x", {"a b": f"line\n{n}\\", "é": 1.5 * n}, {"t=": "v\\ " + "w" * n}, n) for n in range(20)]
    for end in ("\n", "\r\n"):
        text = end.join(point.to_line() for point in points)
        for pieces in range(1, 12):
            parsed = parse(text, pieces=pieces)
            assert points_of(parsed) == points
            assert parsed[0].columns.column("line").to_pylist() == list(range(1, 40, 2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m v=1", Point("m", {"v": 1.0})),
        ("m v=1 ", Point("m", {"v": 1.0})),
        ("  m v=1  5  \r\n", Point("m", {"v": 1.0}, {}, 5)),
        ("m,a=1,b=2 v=-1.5e-3,w=.5 -5", Point("m", {"v": -0.0015, "w": 0.5}, {"a": "1", "b": "2"}, -5)),
        ("m x=2.,y=+1,z=1E+2", Point("m", {"x": 2.0, "y": 1.0, "z": 100.0})),
        ("m v=-0i,w=007i,x=18446744073709551615u", Point("m", {"v": 0, "w": 7, "x": Unsigned(2**64 - 1)})),
        ("m a=t,b=T,c=true,d=True,e=TRUE", Point("m", dict.fromkeys("abcde", True))),
        ("m a=f,b=F,c=false,d=False,e=FALSE", Point("m", dict.fromkeys("abcde", False))),
        ('m s="",t="a, b=c # \\" \\\\ \\n"', Point("m", {"s": "", "t": 'a, b=c # " \\ \\n'})),
        ('m s="two\nlines" 1', Point("m", {"s": "two\nlines"}, {}, 1)),
        ("m\\,\\ a=b,t\\=\\,=\\ v\\= f\\ =1", Point("m, a=b", {"f ": 1.0}, {"t=,": " v="})),
        ("a\\,b=c,t=v f=1", Point("a,b=c", {"f": 1.0}, {"t": "v"})),
        ("m\\\\,t=a\\b\\c f=1", Point("m\\,t=a\\b\\c", {"f": 1.0})),
        ("m\\x,t=v\\\\\\ w f=1", Point("m\\x", {"f": 1.0}, {"t": "v\\\\ w"})),
        ('"m",t="v" "f"=1', Point('"m"', {'"f"': 1.0}, {"t": '"v"'})),
        ("m=1 v=1", Point("m=1", {"v": 1.0})),
    ],
)  # fmt: skip
def test_spellings(text: str, expected: Point) -> None:
    """Each spelling that InfluxDB documents means what it means there."""
    assert points_of(parse(text)) == [expected]


@pytest.mark.parametrize("text", ["", "\n", "   ", "# m v=1", "  # x\r\n\r\n", "#\n\n #"])
def test_nothing(text: str) -> None:
    """Comments and blank lines say nothing."""
    assert parse(text) == []


@pytest.mark.parametrize(
    ("text", "line", "position", "reason"),
    [
        ("m", 1, 2, "fields are missing"),
        ("m v=1\nm,t=1\n", 2, 6, "fields are missing"),
        ("m v=1\n\n# x\n  ,a=1 v=1", 4, 3, "measurement is missing"),
        ("m, v=1", 1, 3, "tag's name is missing"),
        ("m,t v=1", 1, 4, "followed by '='"),
        ("m,t= v=1", 1, 5, "tag's value is missing"),
        ("m,t=a=b v=1", 1, 6, "must be escaped"),
        ("m v", 1, 4, "followed by '='"),
        ("m =1", 1, 3, "field's name is missing"),
        ("m v=", 1, 5, "field's value is missing"),
        ("m v=1,", 1, 7, "field's name is missing"),
        ('m v="a', 1, 5, "no closing quote"),
        ('m v="a\nm v=1\n', 1, 5, "no closing quote"),
        ('m v="a"b', 1, 8, "must be followed by"),
        ("m v=1 x", 1, 7, "timestamp must be an integer"),
        ("m v=1 1.5", 1, 7, "timestamp must be an integer"),
        ("m v=1 1 2", 1, 9, "after the timestamp"),
        ("m v=1 9223372036854775808", 1, 7, "out of range"),
        ('m v="a\nb"\nm v="b",w=1x', 3, 11, "is no value"),
        ("m w=1,v=nan", 1, 9, "is no value"),
        ("m v=1e999", 1, 5, "beyond what a float holds"),
        ("m v=1i\nm v=9223372036854775808i", 2, 5, "does not fit int64"),
        ("m v=-1u", 1, 5, "is no value"),
        ("m v=" + "9" * 5000 + "u", 1, 5, "does not fit uint64"),
        ("m v=1 " + "9" * 5000, 1, 7, "out of range"),
        ("m v=1i\nm,t=x v=1", 2, 9, "this is a float, and the lines before have an integer"),
        ('m v=1,w=1\nm w=1,v="x"', 2, 9, "this is a string, and the lines before have a float"),
        ("m,t=1,t=2 v=1", 1, 1, "the tag 't' is there twice"),
        ("m v=1,v=2", 1, 1, "the field 'v' is there twice"),
        (b"m v=1\nm,t=\xff v=1", 2, 5, "not valid UTF-8"),
        (b"m v=1\nm,t=x v=1 1\xc3", 2, 12, "not valid UTF-8"),
    ],
)  # fmt: skip
def test_mistakes(text: str | bytes, line: int, position: int, reason: str) -> None:
    """An error names the line, the position in it, and what is wrong there."""
    for pieces in (1, 1 << 16):
        failure = refusal(text, pieces=pieces)
        assert failure.kind == "batch_invalid"
        assert reason in failure.message
        assert failure.details == {"line": str(line), "position": str(position)}


@pytest.mark.usefixtures("tiny_blocks")
def test_mistakes_after_a_block() -> None:
    """Lines are counted from the beginning of the request, and a field has one type in all of it."""
    lines = 'm v="1\n2"\n' * 5
    assert "line 11, position 5" in refusal(lines + "m v= ", pieces=4).message
    failure = refusal(lines + "m v=1\n", pieces=4)
    assert "'v' of the measurement 'm' is a float in line 11, and a string in line 1" in failure.message


@pytest.mark.parametrize(
    ("precision", "stamp"),
    [
        ("ns", 1),
        ("n", 1),
        ("us", 10**3),
        ("u", 10**3),
        ("ms", 10**6),
        ("s", 10**9),
        ("m", 6 * 10**10),
        ("h", 36 * 10**11),
    ],
)
def test_precisions(precision: str, stamp: int) -> None:
    """Timestamps count the unit that the request names, exactly, and nanoseconds that do not fit are refused."""
    assert points_of(parse("m v=1 -3\nm v=1", precision=precision)) == [
        Point("m", {"v": 1.0}, {}, -3 * stamp),
        Point("m", {"v": 1.0}),
    ]
    if stamp > 1:
        assert "out of range" in refusal("m v=1 9223372036854775807", precision=precision).message


def test_unknown_precision() -> None:
    """A unit that nobody knows is refused, naming those that there are."""
    with pytest.raises(TimestoreError, match="'d' is not one of n, ns"):
        parse_precision("d")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"m f{n}=1\n" for n in range(4_000)),  # each line leaves out what the others have
        "".join(f"m,t{n}=1 f=1\n" for n in range(4_000)),
        "".join(f"m{n} f=1\n" for n in range(1_001)),
        'm f="' + "x" * (3 << 20),
    ],
    ids=["fields", "tags", "measurements", "string"],
)
def test_limits(text: str) -> None:
    """A request cannot take more memory than a multiple of its size: what would is refused with limit and count."""
    failure = refusal(text)
    assert failure.kind == "batch_too_large"
    assert int(failure.details["actual"]) > int(failure.details["limit"])


def test_nothing_takes_more_than_linear_time() -> None:
    """What nearly is a line, over and over, is refused at once. (Without possessive repetition: hours.)"""
    for piece in ("\\", "a\\", ",a=", "a=1,", '"\\"', " ", "a\\ ", "\\\\="):
        for head in ("", "m ", 'm v="', "m,"):
            refusal(head + piece * 20_000 + "\x00=")


def test_floats_are_those_of_python() -> None:
    """Decimal text becomes the nearest float, as Python has it."""
    texts = ["0.1", "1e23", "9007199254740993", "5e-324", "1.7976931348623157e308", "2.2250738585072011e-308"]
    point = points_of(parse("m " + ",".join(f"f{n}={text}" for n, text in enumerate(texts))))[0]
    assert list(point.fields.values()) == [float(text) for text in texts]
