"""Schema rules: what a dataset may be made of, and how it may change."""

from itertools import pairwise, product
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timestore.datasets import DatasetSpec, Evolution
from timestore.errors import InvalidInputError, TimestoreError
from timestore.names import NO_KEY, PartitionKey
from timestore.windows import WindowLength
from writers.schemas import check_key_names, check_schema, merge_schemas, pick_timestamp_column

TS = pa.field("ts", pa.timestamp("us", "UTC"))


def _spec(evolution: Evolution = Evolution.ADDITIVE) -> DatasetSpec:
    return DatasetSpec(
        name="cpu",
        incarnation=UUID(int=1),
        timestamp_column="ts",
        window=WindowLength.parse("1d"),
        evolution=evolution,
    )


def _schema(*fields: pa.Field | tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([TS, *fields])


def _mismatch(call, *arguments) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call(*arguments)
    assert caught.value.kind == "schema_mismatch"
    return caught.value


def _merged(current: pa.Schema, incoming: pa.Schema, evolution: Evolution = Evolution.ADDITIVE) -> pa.Schema:
    return merge_schemas(current, incoming, _spec(evolution))


# --- what a dataset may be made of ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b", 'a"b', "select", "é", "日本", "rowid", "data", " ", "\n", "x" * 3_000])
def test_a_column_may_have_any_name(name: str) -> None:
    """Column names are any non-empty UTF-8."""
    check_schema(_schema((name, pa.int64())), NO_KEY)


def test_a_column_without_a_name_is_refused() -> None:
    """Columns match by name, so every column has one."""
    _mismatch(check_schema, _schema(("", pa.int64())), NO_KEY)


@pytest.mark.parametrize("name", ["a\x00b", "\x00", "a\x00"], ids=ascii)
def test_a_name_with_nul_is_refused(name: str) -> None:
    """Names reach DuckDB as C strings: one with NUL would be cut, so it is refused before any data is sent."""
    _mismatch(check_schema, _schema((name, pa.int64())), NO_KEY)


@pytest.mark.parametrize("names", [("a", "A"), ("a", "a"), ("ts", "x"), ("É", "é")])
def test_column_names_are_unique_ignoring_case(names: tuple[str, str]) -> None:
    """DuckDB silently renames ``A`` beside ``a``, so twins are refused, in any alphabet, and both are named."""
    schema = _schema(("TS", pa.int64())) if names[0] == "ts" else _schema(*((name, pa.int64()) for name in names))
    refusal = _mismatch(check_schema, schema, NO_KEY)
    assert refusal.details["column"] == ("TS" if names[0] == "ts" else names[1])


def _deep(levels: int) -> pa.DataType:
    return pa.list_(_deep(levels - 1)) if levels else pa.int8()


class Acme(pa.ExtensionType):
    """An extension type that this process knows."""

    def __init__(self, storage: pa.DataType, parameter: bytes = b"") -> None:
        self._parameter = parameter
        super().__init__(storage, "acme.known")

    def __arrow_ext_serialize__(self) -> bytes:
        return self._parameter

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Acme":
        return cls(storage_type, serialized)


UNION = pa.dense_union([pa.field("a", pa.int8())])
UNSTORED = [
    (pa.float16(), "x", "halffloat"),
    (pa.decimal256(50, 2), "x", "decimal256(50, 2)"),
    (pa.decimal128(5, -1), "x", "decimal128(5, -1)"),
    (pa.decimal128(5, 39), "x", "decimal128(5, 39)"),
    (UNION, "x", "dense_union<a: int8=0>"),
    (pa.sparse_union([pa.field("a", pa.int8())]), "x", "sparse_union<a: int8=0>"),
    (pa.struct([]), "x", "struct<>"),
    (pa.list_(pa.float16()), "x[]", "halffloat"),
    (pa.large_list_view(pa.struct([("a", pa.int8()), ("b", pa.struct([]))])), "x[].b", "struct<>"),
    (pa.map_(pa.float16(), pa.int8()), "x.key", "halffloat"),
    (pa.map_(pa.string(), pa.list_(UNION, 2)), "x.value[]", "dense_union<a: int8=0>"),
    (pa.dictionary(pa.int8(), pa.decimal256(50, 2)), "x", "decimal256(50, 2)"),
    (pa.run_end_encoded(pa.int32(), pa.float16()), "x", "halffloat"),
    (Acme(pa.struct([("h", pa.float16())])), "x.h", "halffloat"),
    (_deep(32), "x" + "[]" * 32, "int8"),
    (Acme(pa.uuid()), "x", str(Acme(pa.uuid()))),
    (pa.dictionary(pa.int8(), pa.uuid()), "x", str(pa.dictionary(pa.int8(), pa.uuid()))),
]


@pytest.mark.parametrize(("data_type", "place", "named"), UNSTORED, ids=[str(each[0])[:60] for each in UNSTORED])
def test_types_that_cannot_be_stored_are_refused_by_name(data_type: pa.DataType, place: str, named: str) -> None:
    """What could not be read back is ``type_unsupported`` before any data is sent: column, place and type."""
    with pytest.raises(InvalidInputError) as caught:
        check_schema(_schema(("x", data_type)), NO_KEY)
    assert caught.value.kind == "type_unsupported"
    assert caught.value.details == {"column": "x", "place": place, "type": named}


def test_types_may_be_nested_so_deep() -> None:
    """Depth alone is no reason for a refusal, up to a limit that code and DuckDB can bear."""
    check_schema(_schema(("x", _deep(31))), NO_KEY)


@pytest.mark.parametrize(
    ("data_type", "place"),
    [
        (pa.struct([("a", pa.int8()), ("A", pa.int8())]), "x"),
        (pa.struct([("a", pa.int8()), ("a", pa.int8())]), "x"),
        (pa.struct([("", pa.int8())]), "x"),
        (pa.struct([("a\0b", pa.int8())]), "x"),
        (pa.list_(pa.struct([("é", pa.int8()), ("É", pa.int8())])), "x[]"),
        (pa.struct([("s", pa.map_(pa.string(), pa.struct([("a", pa.int8()), ("A", pa.int8())])))]), "x.s.value"),
        (pa.dictionary(pa.int8(), pa.struct([("a", pa.int8()), ("A", pa.int8())])), "x"),
        (Acme(pa.struct([("a", pa.int8()), ("A", pa.int8())])), "x"),
    ],
    ids=lambda value: ascii(str(value)),
)
def test_field_names_are_unique_ignoring_case_at_every_depth(data_type: pa.DataType, place: str) -> None:
    """DuckDB renames or refuses twins inside structs too, so they are refused, and the place is named."""
    refusal = _mismatch(check_schema, _schema(("x", data_type)), NO_KEY)
    assert refusal.details == {"column": "x", "place": place}


def test_a_column_is_not_named_like_a_part_of_the_key() -> None:
    """Reads add the key as columns, so a column of that name, in any case, is refused."""
    key = PartitionKey.parse({"Region": "eu"})
    check_schema(_schema(("regions", pa.string())), key)
    assert _mismatch(check_schema, _schema(("rEGION", pa.string())), key).details == {"column": "rEGION"}


def test_a_name_that_is_not_utf8_is_refused() -> None:
    """Nothing checks the names in an IPC schema; one that no text can spell is refused, not a crash."""
    message = _schema(("aaaa", pa.int64())).serialize().to_pybytes().replace(b"aaaa", b"\xff\xfe\xfd\xfc")
    _mismatch(check_schema, pa.ipc.read_schema(pa.py_buffer(message)), NO_KEY)


# --- the timestamp column -------------------------------------------------------------------------------------------


def test_the_only_timestamp_is_the_timestamp_column() -> None:
    """With one candidate nothing needs to be said, in any unit and zone."""
    for data_type in (pa.timestamp("s"), pa.timestamp("ns", "Europe/Berlin")):
        assert pick_timestamp_column(pa.schema([("x", pa.int64()), ("when", data_type)]), None) == "when"


def test_several_timestamps_must_be_decided() -> None:
    """With more candidates, or none, the column must be named, and it must be one of them."""
    two = pa.schema([("a", pa.timestamp("us")), ("b", pa.timestamp("us")), ("c", pa.int64())])
    assert pick_timestamp_column(two, "b") == "b"
    assert "['a', 'b']" in str(_mismatch(pick_timestamp_column, two, None))
    for wanted in ("c", "d", "A", ""):
        _mismatch(pick_timestamp_column, two, wanted)
    _mismatch(pick_timestamp_column, pa.schema([("c", pa.int64())]), None)
    _mismatch(pick_timestamp_column, pa.schema([]), None)


@pytest.mark.parametrize("date", [pa.date32(), pa.date64()], ids=str)
def test_a_date_serves_only_where_no_timestamp_is(date: pa.DataType) -> None:
    """Beside a timestamp a date is a column like others, even if it is asked for."""
    alone = pa.schema([("day", date), ("x", pa.int64())])
    beside = pa.schema([("day", date), ("ts", pa.timestamp("us"))])
    assert pick_timestamp_column(alone, None) == pick_timestamp_column(alone, "day") == "day"
    assert pick_timestamp_column(beside, None) == "ts"
    assert "['ts']" in str(_mismatch(pick_timestamp_column, beside, "day"))
    two = pa.schema([("a", pa.date32()), ("b", pa.date64())])
    assert "['a', 'b']" in str(_mismatch(pick_timestamp_column, two, None))
    assert pick_timestamp_column(two, "b") == "b"


@pytest.mark.parametrize(
    "encoded",
    [
        pa.dictionary(pa.int32(), pa.timestamp("us")),
        pa.run_end_encoded(pa.int32(), pa.timestamp("us")),
        pa.dictionary(pa.int8(), pa.date32()),
    ],
    ids=str,
)
def test_the_timestamp_column_is_sent_plain(encoded: pa.DataType) -> None:
    """An encoded timestamp column is refused by name, in a first put and later, with the type to send."""
    schema = pa.schema([("ts", encoded)])
    plain = pa.schema([("ts", encoded.value_type)])
    for refusal in (
        _mismatch(pick_timestamp_column, schema, None),
        _mismatch(pick_timestamp_column, schema, "ts"),
        _mismatch(_merged, plain, schema),
    ):
        assert refusal.details["column"] == "ts"
        assert f"send it as plain {encoded.value_type}" in str(refusal)


# --- evolution ------------------------------------------------------------------------------------------------------

ZONES = [None, "UTC", "Etc/UTC", "+00:00", "Europe/Berlin"]


@pytest.mark.parametrize(("have", "sent"), [pair for pair in product(ZONES, ZONES) if pair[0] != pair[1]])
def test_zones_are_the_same_only_by_name(have: str | None, sent: str | None) -> None:
    """Zones count by their text, for a digest does: another spelling of UTC is another zone, and none is not UTC."""
    for column in ("ts", "other"):
        current = pa.schema([("ts", pa.timestamp("us", "UTC")), (column, pa.timestamp("us", have))][column == "ts" :])
        incoming = pa.schema([("ts", pa.timestamp("us", "UTC")), (column, pa.timestamp("us", sent))][column == "ts" :])
        refusal = _mismatch(_merged, current, incoming)
        assert refusal.details["column"] == column
        assert "time zones count" in str(refusal)


SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float32(), pa.float64()]
ZONELESS = [pa.timestamp(unit) for unit in ("s", "ms", "us")]
ZONED = [pa.timestamp(unit, "UTC") for unit in ("s", "ms", "us")]
NANOSECONDS = [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "Europe/Berlin")]
TYPES = [*SIGNED, *UNSIGNED, *FLOATS, *ZONELESS, *ZONED, *NANOSECONDS, pa.bool_(), pa.string()]
# One step wider, as PROTOCOL 3 lists them; what can be reached by steps is a widening.
STEPS = {
    *(pair for family in (SIGNED, UNSIGNED, FLOATS, ZONELESS, ZONED) for pair in pairwise(family)),
    *zip(UNSIGNED, SIGNED[1:], strict=False),
}


def _reaches(narrow: pa.DataType, wide: pa.DataType) -> bool:
    return narrow == wide or any(_reaches(step, wide) for start, step in STEPS if start == narrow)


@pytest.mark.parametrize(("have", "sent"), list(product(TYPES, TYPES)), ids=str)
def test_types_widen_without_loss_or_not_at_all(have: pa.DataType, sent: pa.DataType) -> None:
    """A wider type widens the column, a narrower one is taken into it, and any other is refused with both types."""
    current, incoming = _schema(("x", have)), _schema(("x", sent))
    if _reaches(sent, have):
        assert _merged(current, incoming) is current
    elif _reaches(have, sent):
        assert _merged(current, incoming) == incoming
    else:
        refusal = _mismatch(_merged, current, incoming)
        assert refusal.details == {"column": "x", "put_type": str(sent), "dataset_type": str(have)}


def test_large_and_plain_texts_are_the_same() -> None:
    """The form of a text is the sender's business: neither changes the dataset."""
    plain, large = _schema(("x", pa.string())), _schema(("x", pa.large_string()))
    assert _merged(plain, large) is plain
    assert _merged(large, plain) is large
    assert _merged(plain, large, Evolution.NONE) is plain


def _field(data_type: pa.DataType, **options: object) -> pa.Field:
    return pa.field("x", data_type, **options)


NAMED = {b"ARROW:extension:name": b"acme.thing"}
SAME = [
    ("texts", _field(pa.string()), _field(pa.string_view())),
    ("binaries", _field(pa.large_binary()), _field(pa.binary_view())),
    ("dictionary", _field(pa.string()), _field(pa.dictionary(pa.int8(), pa.large_string(), True))),
    ("runs", _field(pa.int8()), _field(pa.run_end_encoded(pa.int16(), pa.int8()))),
    ("lists", _field(pa.list_(pa.int8())), _field(pa.large_list_view(pa.field("element", pa.int8())))),
    (
        "nested",
        _field(pa.struct([("a", pa.list_(pa.string()))])),
        _field(pa.struct([("a", pa.list_view(pa.dictionary(pa.int8(), pa.string_view())))])),
    ),
    ("maps", _field(pa.map_(pa.string(), pa.int8(), True)), _field(pa.map_(pa.large_string(), pa.int8()))),
    ("fixed lists", _field(pa.list_(pa.string(), 2)), _field(pa.list_(pa.field("e", pa.large_string()), 2))),
    ("metadata", _field(pa.int8(), metadata={"unit": "mm"}), _field(pa.int8(), metadata={"unit": "km"})),
    ("known and unknown", _field(pa.uuid()), _field(pa.binary(16), metadata={"ARROW:extension:name": "arrow.uuid"})),
    ("json", _field(pa.json_(pa.string())), _field(pa.json_(pa.large_string()))),
    ("unknown", _field(pa.string(), metadata=NAMED), _field(pa.large_string(), metadata=NAMED)),
    ("digits", _field(pa.decimal128(5, 2)), _field(pa.decimal32(5, 2))),
    ("no digits less", _field(pa.decimal128(20, 2)), _field(pa.decimal64(12, 2))),
]


@pytest.mark.parametrize(("have", "sent"), [each[1:] for each in SAME], ids=[each[0] for each in SAME])
def test_other_forms_of_the_same_values_change_nothing(have: pa.Field, sent: pa.Field) -> None:
    """The dataset keeps its own form and metadata, and takes every other form, even where nothing may change."""
    current = _schema(have)
    assert _merged(current, _schema(sent), Evolution.NONE) is current


WIDER = [
    ("digits", _field(pa.decimal32(5, 2)), _field(pa.decimal32(9, 2))),
    ("more bits", _field(pa.decimal32(9, 2)), _field(pa.decimal128(38, 2))),
    ("fewer bits", _field(pa.decimal128(5, 2)), _field(pa.decimal64(18, 2))),
    ("dictionary", _field(pa.dictionary(pa.int8(), pa.int16())), _field(pa.int32())),
    ("into a dictionary", _field(pa.int16()), _field(pa.dictionary(pa.int8(), pa.int32()))),
]


@pytest.mark.parametrize(("have", "sent"), [each[1:] for each in WIDER], ids=[each[0] for each in WIDER])
def test_a_wider_type_comes_in_the_form_of_the_put(have: pa.Field, sent: pa.Field) -> None:
    """The column takes the type of the put that widens it, and keeps its metadata; narrower puts go on."""
    current = _schema(have.with_metadata({"unit": "mm"}))
    merged = _merged(current, _schema(sent))
    assert merged.field("x").type == sent.type
    assert merged.field("x").metadata == {b"unit": b"mm"}
    assert _merged(merged, current) is merged
    _mismatch(_merged, current, _schema(sent), Evolution.NONE)


DIFFERENT = [
    ("scale", _field(pa.decimal32(5, 2)), _field(pa.decimal32(9, 3))),
    ("item", _field(pa.list_(pa.int8())), _field(pa.list_(pa.int16()))),
    ("new field", _field(pa.struct([("a", pa.int8())])), _field(pa.struct([("a", pa.int8()), ("b", pa.int8())]))),
    (
        "field order",
        _field(pa.struct([("a", pa.int8()), ("b", pa.int8())])),
        _field(pa.struct([("b", pa.int8()), ("a", pa.int8())])),
    ),
    ("list size", _field(pa.list_(pa.int8(), 2)), _field(pa.list_(pa.int8(), 3))),
    ("list kind", _field(pa.list_(pa.int8(), 2)), _field(pa.list_(pa.int8()))),
    ("binary size", _field(pa.binary(2)), _field(pa.binary(3))),
    ("binary kind", _field(pa.binary(2)), _field(pa.binary())),
    ("text and bytes", _field(pa.string()), _field(pa.binary())),
    ("dates", _field(pa.date32()), _field(pa.date64())),
    ("durations", _field(pa.duration("s")), _field(pa.duration("ms"))),
    ("null", _field(pa.null()), _field(pa.int8())),
    ("extension", _field(pa.uuid()), _field(pa.binary(16))),
    ("extension in a list", _field(pa.list_(pa.uuid())), _field(pa.list_(pa.binary(16)))),
    ("extension name", _field(pa.int8(), metadata=NAMED), _field(pa.int8(), metadata={"ARROW:extension:name": "b"})),
    (
        "parameters",
        _field(pa.int8(), metadata=NAMED | {b"ARROW:extension:metadata": b"1"}),
        _field(pa.int8(), metadata=NAMED | {b"ARROW:extension:metadata": b"2"}),
    ),
    ("known parameters", _field(pa.list_(Acme(pa.int8(), b"1"))), _field(pa.list_(Acme(pa.int8(), b"2")))),
    ("opaque", _field(pa.opaque(pa.int8(), "a", "v")), _field(pa.opaque(pa.int8(), "b", "v"))),
    ("tensor", _field(pa.fixed_shape_tensor(pa.int8(), [2, 3])), _field(pa.fixed_shape_tensor(pa.int8(), [3, 2]))),
    ("extension that widens", _field(pa.int8(), metadata=NAMED), _field(pa.int16(), metadata=NAMED)),
    ("nested nullability", _field(pa.list_(pa.field("i", pa.int8(), nullable=False))), _field(pa.list_(pa.int8()))),
]


@pytest.mark.parametrize(("have", "sent"), [each[1:] for each in DIFFERENT], ids=[each[0] for each in DIFFERENT])
def test_what_is_neither_the_same_nor_wider_is_refused(have: pa.Field, sent: pa.Field) -> None:
    """Other values, other sizes, other extensions; and inside nested types nothing may change at all."""
    assert _mismatch(_merged, _schema(have), _schema(sent)).details["column"] == "x"


SMALL = pa.dictionary(pa.int8(), pa.string())
SHORT = pa.run_end_encoded(pa.int16(), pa.int8())


@pytest.mark.parametrize(
    ("have", "sent", "place"),
    [
        (pa.list_(SMALL), pa.list_(pa.string()), "x[]"),
        (pa.list_(SMALL), pa.list_(pa.dictionary(pa.uint8(), pa.string())), "x[]"),
        (pa.map_(pa.string(), SHORT), pa.map_(pa.string(), pa.int8()), "x.value"),
        (pa.map_(pa.string(), SHORT), pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.int8())), "x.value"),
        (pa.list_(pa.struct([("a", SMALL)]), 2), pa.list_(pa.struct([("a", pa.string())]), 2), "x[].a"),
        (pa.list_(SMALL), pa.list_(SMALL), None),
        (pa.list_(pa.dictionary(pa.int16(), pa.string())), pa.list_(SMALL), None),
        (pa.list_(pa.dictionary(pa.int32(), pa.string())), pa.list_(pa.string()), None),
        (pa.list_(pa.run_end_encoded(pa.int32(), pa.int8())), pa.list_(pa.int8()), None),
        (pa.list_(pa.string()), pa.list_(SMALL), None),
        (pa.struct([("a", SMALL)]), pa.struct([("a", pa.string())]), None),
        (SHORT, pa.int8(), None),
    ],
    ids=str,
)
def test_a_row_always_fits_the_form_of_the_dataset(have: pa.DataType, sent: pa.DataType, place: str | None) -> None:
    """Inside a list a row may have more values than a small index can count; no read could give it, so no put may."""
    current, incoming = _schema(_field(have)), _schema(_field(sent))
    if place is None:
        assert _merged(current, incoming) is current
    else:
        assert repr(place) in str(_mismatch(_merged, current, incoming))


def test_not_null_inside_may_be_sent_where_nulls_may_be() -> None:
    """The other way round changes nothing."""
    loose = _schema(_field(pa.struct([("a", pa.int8())])))
    assert _merged(loose, _schema(_field(pa.struct([pa.field("a", pa.int8(), nullable=False)])))) is loose


def test_a_new_nullable_column_is_added_at_the_end() -> None:
    """Older rows have no value for it: they are null."""
    current = _schema(("a", pa.int8())).with_metadata({"k": "v"})
    merged = _merged(current, _schema(("b", pa.string()), ("a", pa.int8())))
    assert merged.names == ["ts", "a", "b"]
    assert merged.metadata == {b"k": b"v"}


def test_a_new_column_cannot_be_not_null() -> None:
    """Older rows have no value for it, so it must be nullable."""
    incoming = _schema(pa.field("b", pa.string(), nullable=False))
    assert _mismatch(_merged, _schema(), incoming).details == {"column": "b"}


def test_older_producers_go_on() -> None:
    """A put without a nullable column changes nothing: the column is null in its rows."""
    current = _schema(("a", pa.int8()), ("b", pa.string()))
    assert _merged(current, _schema()) is current
    assert _merged(current, _schema(("b", pa.string())), Evolution.NONE) is current


def test_what_is_not_null_cannot_be_left_out() -> None:
    """A column that is declared not null, and the timestamp column, must be sent."""
    current = _schema(pa.field("a", pa.int8(), nullable=False))
    assert _mismatch(_merged, current, _schema()).details == {"column": "a"}
    no_time = pa.schema([pa.field("a", pa.int8(), nullable=False)])
    assert _mismatch(_merged, current, no_time).details == {"column": "ts"}


def test_nullability_is_never_given_up() -> None:
    """A nullable column cannot be sent into one that is not null; the other way changes nothing."""
    strict, loose = _schema(pa.field("a", pa.int8(), nullable=False)), _schema(("a", pa.int8()))
    _mismatch(_merged, strict, loose)
    assert _merged(loose, strict) is loose
    wider = _merged(strict, _schema(pa.field("a", pa.int16(), nullable=False)))
    assert wider.field("a") == pa.field("a", pa.int16(), nullable=False)


def test_a_new_column_is_no_twin_of_an_old_one() -> None:
    """Names are unique ignoring case, across evolution too."""
    refusal = _mismatch(_merged, _schema(("a", pa.int8())), _schema(("A", pa.int8())))
    assert refusal.details == {"column": "A"}


def test_new_columns_are_no_twins_of_each_other() -> None:
    """A put cannot bring twins: its own schema is checked first."""
    _mismatch(check_schema, _schema(("b", pa.int8()), ("B", pa.int8())), NO_KEY)


def test_the_order_of_columns_does_not_count() -> None:
    """Columns match by name."""
    current = _schema(("a", pa.int8()), ("b", pa.string()))
    assert _merged(current, pa.schema(list(reversed(list(current))))) is current


@pytest.mark.parametrize("field", [("a", pa.int16()), ("b", pa.int8())], ids=["wider", "new"])
def test_a_dataset_may_forbid_evolution(field: tuple[str, pa.DataType]) -> None:
    """With ``evolution: none`` neither a wider nor a new column comes in, and the column is named."""
    refusal = _mismatch(_merged, _schema(("a", pa.int8())), _schema(field), Evolution.NONE)
    assert refusal.details["column"] == field[0]


def test_a_narrower_put_needs_no_evolution() -> None:
    """What fits the schema as it is may come even where nothing may change."""
    current = _schema(("a", pa.int16()))
    assert _merged(current, _schema(("a", pa.int8())), Evolution.NONE) is current


FIELDS = st.builds(
    pa.field, st.sampled_from("abAB"), st.sampled_from([*SIGNED, *UNSIGNED[:2], pa.string()]), nullable=st.booleans()
)
SCHEMAS = st.lists(FIELDS, max_size=4, unique_by=lambda field: field.name.lower()).map(lambda fields: _schema(*fields))


@settings(deadline=None, max_examples=300)
@given(current=SCHEMAS, incoming=SCHEMAS)
def test_merging_is_idempotent_and_never_narrows(current: pa.Schema, incoming: pa.Schema) -> None:
    """After a merge both schemas can be sent for ever, and no column was lost, narrowed or made not null."""
    try:
        merged = _merged(current, incoming)
    except TimestoreError as exc:
        refused = exc.kind
    else:
        refused = ""
    assert refused in ("", "schema_mismatch")
    if refused:
        return
    check_schema(merged, NO_KEY)
    assert _merged(merged, incoming) is merged
    assert _merged(merged, current) is merged
    assert merged.names[: len(current)] == current.names
    assert set(merged.names) == {*current.names, *incoming.names}
    for field in current:
        assert merged.field(field.name).nullable == field.nullable
        assert _reaches(field.type, merged.field(field.name).type)
    for field in incoming:
        assert _reaches(field.type, merged.field(field.name).type)


def test_every_put_of_a_dataset_has_the_same_key_names() -> None:
    """The first append fixes the key's names; another set is refused, with both."""
    check_key_names(("region", "site"), PartitionKey.parse({"site": "1", "region": "eu"}), "cpu")
    check_key_names((), NO_KEY, "cpu")
    for key in (NO_KEY, PartitionKey.parse({"region": "eu"}), PartitionKey.parse({"Region": "eu", "site": "1"})):
        refusal = _mismatch(check_key_names, ("region", "site"), key, "cpu")
        assert refusal.details == {"expected": "['region', 'site']", "actual": str(list(key.names))}
