"""A script is cut where PostgreSQL ends its statements, and nowhere else."""

from __future__ import annotations

import pytest

from sandbox.statements import split


@pytest.mark.parametrize(
    "script",
    [
        "select ';'",
        "select 'it''s; one'",
        r"select e'\';'",
        'select 1 as ";"',
        "select $$;$$",
        "select $x$ $$;$$ $x$",
        "select 1 -- ; not here\n  + 1",
        "select /* ; /* ; */ ; */ 1",
        "create function f() returns int language sql begin atomic select case when true then 1 end; select 2; end",
        "do $body$ begin perform 1; perform 2; end $body$",
        "select a$b from t where c = $1",
    ],
)
def test_one_statement_stays_whole(script: str) -> None:
    assert [statement.text for statement in split(f"{script};\n")] == [script]


def test_each_statement_knows_its_lines() -> None:
    script = "\nselect 1;\n\n-- why\n/* so */\nselect\n  2;;\n;select 3"
    assert [(each.text, each.top, each.line) for each in split(script)] == [
        ("select 1", 2, 2),
        ("-- why\n/* so */\nselect\n  2", 4, 6),
        ("select 3", 8, 8),
    ]


def test_comments_alone_are_no_statement() -> None:
    assert list(split("-- nothing; here\n/* nor here; */ ;")) == []
