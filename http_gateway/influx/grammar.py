r"""The grammar of the line protocol, as regular expressions.

    <measurement>[,<tag>=<text>...] <field>=<value>[,<field>=<value>...] [<timestamp>]

A backslash escapes a comma and a space in a measurement, an equals sign too in the names of tags and fields and in the
values of tags, and a quote and a backslash in a string; before anything else it is a backslash. A string may contain
newlines, nothing else does. Every repetition is possessive, so that no input takes more than linear time.
"""

from __future__ import annotations

import re

_MEASUREMENT = r"(?:[^\\, \n]|\\[, ]?+)++"
_NAME = r"(?:[^\\,= \n]|\\[,= ]?+)++"
_STRING = r'"(?:[^"\\]|\\.)*+"'
_PLAIN = r'[^\\," \t\r\n]++'
_FIELD = rf"{_NAME}=(?:{_STRING}|{_PLAIN})"

# A whole line with its end: a comment, a point, or nothing. Groups: measurement and tags, fields, timestamp.
LINE = re.compile(
    rf" *+(?:#[^\n]*+|({_MEASUREMENT}(?:,{_NAME}={_NAME})*+) ++({_FIELD}(?:,{_FIELD})*+)(?: ++(-?[0-9]++))?+ *+)?+"
    r"\r?+(?:\n|\Z)",
    re.DOTALL,
)
# Name and value of each field of what the second group above has matched.
FIELDS = re.compile(rf"({_NAME})=({_STRING}|{_PLAIN})", re.DOTALL)

MEASUREMENT = re.compile(_MEASUREMENT)
TAG = re.compile(rf",({_NAME})=({_NAME})")
NAME = re.compile(_NAME)
STRING = re.compile(_STRING, re.DOTALL)
PLAIN = re.compile(_PLAIN)
STAMP = re.compile(r"-?[0-9]++(?![^ \r\n])")

FLOAT = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
INTEGER = r"-?[0-9]+i"
UNSIGNED = r"[0-9]+u"
TRUE = r"t|T|true|True|TRUE"
FALSE = r"f|F|false|False|FALSE"

_ESCAPED_IN_MEASUREMENT = re.compile(r"\\([, ])")
_ESCAPED_IN_NAME = re.compile(r"\\([,= ])")
_ESCAPED_IN_STRING = re.compile(r'\\(["\\])')


def plain_measurement(text: str) -> str:
    return _ESCAPED_IN_MEASUREMENT.sub(r"\1", text) if "\\" in text else text


def plain_name(text: str) -> str:
    return _ESCAPED_IN_NAME.sub(r"\1", text) if "\\" in text else text


def plain_string(quoted: str) -> str:
    text = quoted[1:-1]
    return _ESCAPED_IN_STRING.sub(r"\1", text) if "\\" in text else text
