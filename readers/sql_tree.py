"""What DuckDB's parse tree of a query says: its tables, its parameters, and where its result columns come from.

It runs in the process of the query (``readers.sql_process``) and imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Origin = tuple[str, str]  # a table and its column
Columns = Mapping[str, Sequence[str]]  # of each table, by its name in lower case

_PLAIN_JOINS = {"INNER", "LEFT", "RIGHT", "OUTER", "FULL"}
_ARITHMETIC = {"+", "-", "*", "/", "%", "//"}
_HOME = {("", ""), ("", "main"), ("", "timestore"), ("timestore", ""), ("timestore", "main")}  # where the views are


def nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document. Not by recursion: a query may be nested deeply."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def table_names(tree: object) -> list[str]:
    """Return the names that a query reads from, those of its own making (WITH) among them."""
    return sorted({node["table_name"] for node in nodes(tree) if node.get("type") == "BASE_TABLE"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A place of a parameter in the text, in bytes, and which parameter it is."""

    start: int
    length: int
    identifier: str  # a number from 1, or a name


def parameters(tree: object) -> list[Parameter]:
    """Return the places of parameters, in the order of the text."""
    found = [
        Parameter(node["query_location"], node["query_location_length"], node["identifier"])
        for node in nodes(tree)
        if node.get("class") == "PARAMETER"
    ]
    return sorted(found, key=lambda each: each.start)


def parameter_types(tree: object, types: Mapping[str, str]) -> dict[str, str]:
    """Guess the SQL types of parameters from what they are compared with; what is not told is left out.

    ``types`` has the SQL type of each column name that is the same in all tables.
    """
    guessed: dict[str, str] = {}
    for node in nodes(tree):
        for siblings in _compared(node):
            said = {types.get(each["column_names"][-1].lower()) for each in siblings if each["class"] == "COLUMN_REF"}
            if len(said) == 1 and (type_ := said.pop()) is not None:
                if node["class"] == "FUNCTION" and not _is_number(type_):
                    continue  # what is added to an instant is none
                guessed |= {each["identifier"]: type_ for each in siblings if each["class"] == "PARAMETER"}
        guessed |= _told(node)
    return guessed


def _compared(node: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Yield the expressions that a node compares with each other, or calculates with."""
    match node.get("class"):
        case "COMPARISON":
            yield [node["left"], node["right"]]
        case "BETWEEN":
            yield [node["input"], node["lower"], node["upper"]]
        case "FUNCTION" if node.get("is_operator") and node["function_name"] in _ARITHMETIC:
            yield [each["expression"] for each in node["arguments"]]
        case "OPERATOR" if node["type"] in ("COMPARE_IN", "COMPARE_NOT_IN"):
            yield node["children"]


def _is_number(type_: str) -> bool:
    return type_.startswith(("DECIMAL", "DOUBLE", "FLOAT")) or type_.endswith("INT") or type_ == "INTEGER"


def _told(node: dict[str, Any]) -> dict[str, str]:
    """Return the types that the syntax itself says."""
    if node.get("type") == "LIMIT_MODIFIER":
        limits = (node.get("limit"), node.get("offset"))
        return {each["identifier"]: "BIGINT" for each in limits if each and each["class"] == "PARAMETER"}
    if node.get("class") == "CAST" and node["child"]["class"] == "PARAMETER":
        type_ = node["type_expr"]
        if not type_["children"]:
            return {node["child"]["identifier"]: type_["type_name"]}
    return {}


class _UnclearError(Exception):
    """The columns of a query cannot be told from its text."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class _Relation:
    alias: str
    columns: list[_Column]


_Scope = Mapping[str, list[_Column]]  # what WITH names, by lower-case name


def origins(tree: Mapping[str, Any], columns: Columns) -> list[Origin | None] | None:
    """Say of each result column which column of a table it is, unchanged; None for one that is computed.

    None as a whole if it cannot be told. Whoever uses it compares the number of columns and their types all the same.
    """
    try:
        return [column.origin for column in _select(tree["statements"][0]["node"], columns, {})]
    except (_UnclearError, KeyError, TypeError, RecursionError):
        return None


def _select(node: Mapping[str, Any], columns: Columns, scope: _Scope) -> list[_Column]:
    if node["type"] != "SELECT_NODE":
        raise _UnclearError
    scope = dict(scope)
    for entry in node["cte_map"]["map"]:
        if entry["value"]["aliases"]:
            raise _UnclearError
        scope[entry["key"].lower()] = _select(entry["value"]["query_node"], columns, scope)
    relations = _from(node["from_table"], columns, scope)
    return [column for item in node["select_list"] for column in _selected(item, relations)]


def _from(table: Mapping[str, Any], columns: Columns, scope: _Scope) -> list[_Relation]:
    if table.get("column_name_alias"):
        raise _UnclearError
    match table["type"]:
        case "EMPTY":
            return []
        case "BASE_TABLE":
            name = table["table_name"]
            return [_Relation((table["alias"] or name).lower(), _base(table, name, columns, scope))]
        case "SUBQUERY":
            return [_Relation(table["alias"].lower(), _select(table["subquery"]["node"], columns, scope))]
        case "JOIN" if table["join_type"] in _PLAIN_JOINS and not table["using_columns"]:
            if table["ref_type"] not in ("REGULAR", "CROSS"):
                raise _UnclearError
            return _from(table["left"], columns, scope) + _from(table["right"], columns, scope)
    raise _UnclearError


def _base(table: Mapping[str, Any], name: str, columns: Columns, scope: _Scope) -> list[_Column]:
    place = (table["catalog_name"], table["schema_name"])
    if place == ("", "") and name.lower() in scope:
        return scope[name.lower()]
    if place not in _HOME or name.lower() not in columns:
        raise _UnclearError
    return [_Column(column, (name.lower(), column)) for column in columns[name.lower()]]


def _selected(item: Mapping[str, Any], relations: list[_Relation]) -> list[_Column]:
    if item["class"] == "STAR":
        if any(
            item[changed] for changed in ("replace_list", "rename_list", "qualified_exclude_list", "columns", "expr")
        ):
            raise _UnclearError
        left_out = {name.lower() for name in item["exclude_list"]}
        wanted = [each for each in relations if item["relation_name"].lower() in ("", each.alias)]
        return [column for each in wanted for column in each.columns if column.name.lower() not in left_out]
    if item["class"] == "COLUMN_REF":
        names = [name.lower() for name in item["column_names"]]
        return [_Column(item["alias"] or item["column_names"][-1], _referred(names, relations))]
    if item["class"] == "FUNCTION" and item.get("function_name") == "unnest":
        raise _UnclearError  # it may give several columns
    return [_Column(item["alias"], None)]


def _referred(names: list[str], relations: list[_Relation]) -> Origin | None:
    """Return what a name refers to, if that is certain: not a field of a struct, not one of two."""
    every = [column for each in relations for column in each.columns]
    if len(names) == 2 and not any(column.name.lower() == names[0] for column in every):
        every = [column for each in relations if each.alias == names[0] for column in each.columns]
    elif len(names) != 1:
        return None
    found = [column for column in every if column.name.lower() == names[-1]]
    return found[0].origin if len(found) == 1 else None
