"""Running a check, whatever comes of it."""

from __future__ import annotations

from rec.doctor.findings import SETUP, Finding, run, some


def test_a_check_that_fails_is_a_problem() -> None:
    def broken() -> list[Finding]:
        raise KeyError("x")

    expected = Finding("this", "problem", "could not be checked (KeyError: 'x')", SETUP)
    assert run("this", broken) == [expected]


def test_what_a_check_finds() -> None:
    findings = [Finding("this", "ok", "1"), Finding("that", "warning", "2", "mend it")]
    assert run("this", lambda: iter(findings)) == findings


def test_some_of_many() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
