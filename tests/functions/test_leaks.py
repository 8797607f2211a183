"""The scan for secrets finds a planted one in every form, and nothing where there is none."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.end_to_end.product import Project
from tests.functions import leaks

SECRET = "s3cret/with+odd=signs&more?and~enough-of-it"
OTHER = "another~secret/that+is=nowhere"
PLANTED = {
    "plain": SECRET,
    "url": f"https://exchange.test/?signature={quote(SECRET, safe='')}&x=1",
    "every byte": "".join(f"%{byte:02x}" for byte in SECRET.encode()),
    "json": f'{{"secret": "{SECRET}"}}',
    "hexadecimal": SECRET.encode().hex(),
    **{
        f"base64 {name} {before} {after}": encode(b"x" * before + SECRET.encode() + b"y" * after).decode()
        for name, encode in {"plain": base64.b64encode, "of URLs": base64.urlsafe_b64encode}.items()
        for before in range(4)
        for after in range(3)
    },
}


@pytest.mark.parametrize("form", PLANTED)
def test_a_planted_secret_is_found(form: str) -> None:
    texts = [("clean", "nothing to see"), ("planted", f"line\n{PLANTED[form]}\nline")]
    assert leaks.leaks({"secret": SECRET, "other": OTHER}, texts) == ["secret in planted"]


def test_one_planted_in_a_log_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "clean.log").write_text("started\n")
    (tmp_path / "deep" / "worker.log").write_text(f"error: key {SECRET} refused\n")
    assert leaks.leaks({"secret": SECRET}, leaks.logs(tmp_path)) == ["secret in deep/worker.log"]


def test_one_planted_in_a_row_is_found(project: Project) -> None:
    user = project.sign_up()
    project.signal(user, decision="wait", metadata={"note": PLANTED["base64 plain 1 2"]})
    assert leaks.leaks({"secret": SECRET}, leaks.rows(project.env["SUPABASE_DB_URL"])) == ["secret in public.signals"]
    project.rows("update signals set metadata = '{}' where user_id = %s returning id", user.id)
    assert leaks.leaks({"secret": SECRET}, leaks.rows(project.env["SUPABASE_DB_URL"])) == []


def test_one_planted_in_an_argument_is_found() -> None:
    wait = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()', sys.argv[1]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", wait, SECRET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "1\n"  # the child is there
        found = leaks.leaks({"secret": SECRET}, leaks.arguments(parent.pid))
        parent.communicate("\n")
    assert len(found) == 1
    assert found[0].startswith("secret in process ")
