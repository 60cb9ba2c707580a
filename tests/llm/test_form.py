"""rec.llm.form: what is given, what may be written, and how much."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rec.llm.form import by_policy, card, free_text
from rec.llm.model import Model
from rec.prompts import DOMAINS
from tests.llm.tiny import CONTROL, USER_DEFINED, Tiny


@pytest.fixture(scope="module")
def model(tiny_llama: Tiny) -> Iterator[Model]:
    with Model(tiny_llama.gguf, vocabulary_only=True) as loaded:
        yield loaded


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_card_gives_the_labels_in_order(model: Model, domain: str) -> None:
    form = card(model, DOMAINS[domain].labels, 9)
    given = [model.detokenize(slot.label) for slot in form.slots]
    assert given == list(DOMAINS[domain].labels)
    assert {slot.limit for slot in form.slots} == {9}
    assert model.detokenize([form.end]) == "\n"


def test_longest_counts_labels_texts_and_ends(model: Model) -> None:
    form = card(model, ("Mood:", "Ab:"), 8)
    labels = len(model.tokenize("Mood:")) + len(model.tokenize("Ab:"))
    assert form.longest == labels + 2 * (8 + 1)
    assert free_text(model, 20).longest == 21


def test_a_line_bans_breaks_and_control_tokens(model: Model) -> None:
    form = card(model, DOMAINS["films"].labels, 4)
    names = (*CONTROL, USER_DEFINED)
    control = {token for name in names for token in model.tokenize(name, control=True)}
    breaks = {token for text in "\r\v\f" for token in model.tokenize(text)}
    assert set(form.banned) == control | breaks
    assert [token for token, piece in enumerate(model.pieces) if b"\n" in piece] == [form.end]
    allowed = set(range(model.size)) - set(form.banned_first)
    assert form.end not in allowed
    assert all(model.detokenize([token]).strip() for token in allowed)
    assert len(allowed) > 500


def test_free_text_may_break_lines_but_not_start_with_the_end(model: Model) -> None:
    form = free_text(model, 4)
    (newline,) = model.tokenize("\n")
    assert newline not in form.banned and newline in form.banned_first
    assert form.end == model.eos
    assert form.end not in form.banned and form.end in form.banned_first


def test_by_policy_marks_what_the_llm_chose(model: Model) -> None:
    form = card(model, ("Mood:", "Ab:"), 3)
    mood, ab = (list(slot.label) for slot in form.slots)
    short, full = [400, 401], [400, 401, 402]
    ended = [*mood, *short, form.end, *ab, *short]
    assert by_policy(form, ended) == (
        [*ended, form.end],
        [False] * len(mood) + [True] * 3 + [False] * len(ab) + [True] * 3,
    )
    cut = [*mood, *full, form.end, *ab, *full]
    assert by_policy(form, cut) == (
        cut,
        [False] * len(mood) + [True] * 3 + [False] + [False] * len(ab) + [True] * 3,
    )


def test_by_policy_of_free_text(model: Model) -> None:
    form = free_text(model, 3)
    assert by_policy(form, [400, 401]) == ([400, 401, model.eos], [True] * 3)
    assert by_policy(form, [400, 401, 402]) == ([400, 401, 402], [True] * 3)


def test_by_policy_refuses_another_form(model: Model) -> None:
    form = card(model, ("Mood:", "Ab:"), 3)
    mood, ab = (list(slot.label) for slot in form.slots)
    for other in ([400], [*mood, 400], [*mood, 400, form.end, *ab, 400, form.end, 400]):
        with pytest.raises(ValueError, match="slot"):
            by_policy(form, other)
