"""What Flight SQL's ``GetSqlInfo`` tells of this server, by number. Source: arrow/format/FlightSql.proto.

JDBC's driver asks for all of it at once, and fails on what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from timestore import __version__

_VALUES: Sequence[tuple[str, pa.DataType]] = (
    ("string_value", pa.string()),
    ("bool_value", pa.bool_()),
    ("bigint_value", pa.int64()),
    ("int32_bitmask", pa.int32()),
    ("string_list", pa.list_(pa.string())),
    ("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
)
_TEXT, _BOOL, _INT64, _INT32, _TEXTS, _MAP = range(6)  # members of that union

SQL_INFO_SCHEMA = pa.schema(
    [
        pa.field("info_name", pa.uint32(), nullable=False),
        pa.field("value", pa.dense_union([pa.field(*value) for value in _VALUES]), nullable=False),
    ]
)

_NO_LIMITS = (*range(541, 556), *range(557, 562))  # of names, literals, columns, rows and statements
_NONE_OF_THEM = (527, 536, 537, 556, 563, 565, 566, 572, 573, 574, 575, 576)  # from procedures to savepoints
_YES = (515, 516, 518, 520, 521, 523, 524, 532, 539)  # aliases, any ORDER BY, escapes in LIKE, correlated subqueries
_NO_BITS = (533, 534, 535, 568, 569, 570, 571)

# By number: which member of the union, and the value.
SQL_INFO: Mapping[int, tuple[int, Any]] = {
    0: (_TEXT, "Timestore"),
    1: (_TEXT, __version__),
    2: (_TEXT, pa.__version__),
    3: (_BOOL, True),  # read only, as far as SQL goes; 10 says that there is more
    4: (_BOOL, True),  # SQL
    5: (_BOOL, False),  # Substrait
    8: (_INT32, 0),  # transactions: none. A client that is told of them begins one, and then does not name it
    9: (_BOOL, False),  # CancelQuery
    10: (_BOOL, True),  # bulk ingest
    11: (_BOOL, False),  # ... in transactions
    100: (_INT32, 0),  # prepared statements never expire
    101: (_INT32, 0),
    500: (_BOOL, False),  # CREATE and DROP CATALOG
    501: (_BOOL, False),  # ... SCHEMA
    502: (_BOOL, False),  # ... TABLE
    503: (_INT32, 1),  # names are the same whatever their case
    504: (_TEXT, '"'),
    505: (_INT32, 1),  # quoted ones too
    506: (_BOOL, True),  # every table can be selected from
    507: (_INT32, 3),  # nulls come last, whatever the order
    508: (_TEXTS, []),
    509: (_TEXTS, []),
    510: (_TEXTS, []),
    511: (_TEXTS, []),
    512: (_TEXTS, []),
    513: (_TEXT, "\\"),  # the escape in patterns of metadata
    514: (_TEXT, ""),  # no letters but the usual ones in names
    517: (_MAP, []),
    519: (_BOOL, False),
    522: (_INT32, 0b11),  # GROUP BY anything
    525: (_INT32, 0b111),
    526: (_INT32, 0b1),
    528: (_INT32, 0b110),  # all outer joins
    529: (_TEXT, "schema"),
    530: (_TEXT, "procedure"),
    531: (_TEXT, "catalog"),
    538: (_INT32, 0b1111),  # subqueries anywhere
    540: (_INT32, 0b11),  # UNION, UNION ALL
    562: (_INT64, 0),  # isolation: of no transaction
    564: (_INT32, 0b1),
    567: (_INT32, 0b10),  # results are read forwards
    **dict.fromkeys(_YES, (_BOOL, True)),
    **dict.fromkeys(_NONE_OF_THEM, (_BOOL, False)),
    **dict.fromkeys(_NO_BITS, (_INT32, 0)),
    **dict.fromkeys(_NO_LIMITS, (_INT64, 0)),
}


def sql_info(numbers: Sequence[int]) -> pa.RecordBatch:
    """Return what is known of the numbers asked for; everything, if none are."""
    wanted = {number: SQL_INFO[number] for number in (numbers or sorted(SQL_INFO)) if number in SQL_INFO}
    kinds = [member for member, _ in wanted.values()]
    members = [
        pa.array([value for kind, value in wanted.values() if kind == member], type_)
        for member, (_, type_) in enumerate(_VALUES)
    ]
    offsets = [kinds[:position].count(kind) for position, kind in enumerate(kinds)]
    values = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()), pa.array(offsets, pa.int32()), members, [name for name, _ in _VALUES]
    )
    return pa.RecordBatch.from_arrays([pa.array(list(wanted), pa.uint32()), values], schema=SQL_INFO_SCHEMA)
