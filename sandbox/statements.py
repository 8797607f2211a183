"""SQL text cut into its statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<line_comment>--[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<escape_string>\b[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")*")
    | (?P<dollar>\$(?P<tag>[A-Za-z_\x80-\U0010ffff][\w]*)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$]*)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its semicolon.

    `line` is the file's line of its first word, `top` that of the comments in front of it.
    """

    text: str
    line: int
    top: int


def split(sql: str) -> Iterator[Statement]:
    """The statements of a script, by PostgreSQL's lexical rules (nested comments, dollar quotes).

    A semicolon inside `begin atomic … end` of a function belongs to the function.
    """
    start = position = 0
    first_word: int | None = None
    words: list[str] = []
    depth = 0
    while token := _TOKEN.search(sql, position):
        position = token.end()
        kind = token.lastgroup
        if kind == "tag":
            kind = "dollar"
        if kind == "line_comment":
            continue
        if kind == "block_comment":
            position = _end_of_comment(sql, token.start())
            continue
        if kind == "dollar":
            closing = sql.find(token["dollar"], position)
            position = len(sql) if closing < 0 else closing + len(token["dollar"])
        if kind == "word":
            words.append(token["word"].lower())
            depth += _nesting(words, depth)
        if kind != "end":
            first_word = token.start() if first_word is None else first_word
        elif depth == 0:
            if first_word is not None:
                yield _statement(sql, start, first_word, token.start())
            start, first_word, words = position, None, []
    if first_word is not None:
        yield _statement(sql, start, first_word, len(sql))


def _nesting(words: list[str], depth: int) -> int:
    if words[-2:] == ["begin", "atomic"] or (depth and words[-1] == "case"):
        return 1
    return -1 if depth and words[-1] == "end" else 0


def _end_of_comment(sql: str, position: int) -> int:
    depth = 0
    while edge := _COMMENT_EDGE.search(sql, position):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
        if depth == 0:
            return position
    return len(sql)


def _statement(sql: str, start: int, first_word: int, end: int) -> Statement:
    text = sql[start:end]
    top = start + len(text) - len(text.lstrip())
    return Statement(text.strip(), sql.count("\n", 0, first_word) + 1, sql.count("\n", 0, top) + 1)
