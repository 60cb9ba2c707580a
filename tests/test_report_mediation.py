import re
from dataclasses import replace

import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from rec.config import TOLD
from rec.mediation.links import ENCODER, RETOLD, SHARE, STEPS, Link, link
from rec.mediation.resampling import Estimate
from rec.mediation_chart import Rounds
from rec.report_mediation import mediation_section, sentence
from tests.mediation.chains import chain, retold, unknown

HOLDS = (0.2, 0.1, 0.3)


def detail() -> Link:
    found = Estimate(0.25, 0.2, 0.3, 80)
    return link(ENCODER, "share", "Share of <users>", "train", found, unit=SHARE)


class TestSentence:
    def test_the_first_link_whose_interval_includes_its_null(self) -> None:
        text = sentence(1, chain(best=(0.0, -0.001, 0.001))[::-1])
        assert text.startswith(
            "Round 1: the first link that does not hold is Reliability, “The reward of a user's "
            "responses is reliable”: figure of reliability is .020 [−.010, .050] (correlation, "
            "1,500 users), an interval that includes the null value .000."
        )

    def test_an_interval_below_its_null(self) -> None:
        text = sentence(2, chain(reliability=HOLDS, best=(-0.002, -0.003, -0.001)))
        assert "“The best of N is better”" in text
        assert "−0.20 [−0.30, −0.10] (NDCG@5 points" in text
        assert "lies below the null value 0.00." in text

    def test_all_hold(self) -> None:
        text = sentence(1, chain(reliability=HOLDS))
        assert text == (
            "Round 1: the interval of every link that was measured lies above its null value."
        )

    def test_what_was_not_measured_is_said(self) -> None:
        text = sentence(1, [*chain(reliability=HOLDS), unknown()])
        assert text.endswith("Not measured: Better ranking on validation users.")

    @pytest.mark.parametrize("links", [[], [unknown()], [detail()]])
    def test_nothing_to_say(self, links: list[Link]) -> None:
        assert sentence(3, links) == "Round 3: no link of the chain could be measured."


class TestSection:
    def test_tables_by_round(self) -> None:
        section = mediation_section({2: chain(reliability=HOLDS), 1: [*chain(), detail()]}, {})
        assert section.chain.columns == ["Link", "Null value", "Round 1", "Round 2"]
        names = [line.name for line in section.chain.lines]
        assert names[0] == "Identifiability: texts tell users apart" and len(names) == 5
        assert section.chain.lines[2].cells == [
            ".000",
            ".020 [−.010, .050], includes null",
            ".200 [.100, .300], holds",
        ]
        assert [grid.columns[0] for grid in section.details][:2] == [
            "Texts tell users apart",
            "Vectors keep what tells users apart",
        ]
        assert section.details[1].lines[0].cells == [".000", ".250 [.200, .300], above null", "–"]

    def test_an_interval_below_null_says_so(self) -> None:
        section = mediation_section({1: chain(reliability=(-0.2, -0.3, -0.1))}, {})
        assert section.chain.lines[2].cells[1].endswith("below null")

    def test_a_link_whose_figure_is_missing_in_one_round(self) -> None:
        gone = replace(chain()[0], value=None, low=None, high=None)
        section = mediation_section({1: chain(), 2: [gone, *chain()[1:]]}, {})
        assert section.chain.lines[0].cells[2] == "–"

    def test_a_control_stands_beside_the_rounds_where_it_was_measured(self) -> None:
        rounds = {1: [*chain(), *retold()]}
        plain = mediation_section(rounds, {})
        section = mediation_section(rounds, {"Fine-tuned": retold()})
        assert (section.sentences, section.chain) == (plain.sentences, plain.chain)
        changed = [
            grid
            for grid, other in zip(section.details, plain.details, strict=True)
            if grid != other
        ]
        assert [grid.columns for grid in changed] == [
            [STEPS[RETOLD], "Null value", "Round 1", "Fine-tuned"]
        ]
        assert changed[0].lines[0].cells[1:] == ["+0.40 [+0.10, +0.70], above null"] * 2


def page(rounds: Rounds, judged: str = "response", told: str = "response") -> str:
    """The section alone."""
    environment = Environment(
        loader=PackageLoader("rec"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    section = mediation_section(rounds, {})
    return environment.get_template("mediation.html.j2").render(
        mediation=section, judged=TOLD[judged], told=TOLD[told]
    )


def test_the_template_shows_figure_tables_and_sentences() -> None:
    html = page({1: [*chain(), detail()], 2: chain(reliability=HOLDS)})
    assert html.count("<section") == html.count("</section>") == 1
    assert 'id="chart-mediation"' in html
    assert html.count("<li>Round") == 2
    assert ".020 [−.010, .050], includes null" in html
    assert "Share of &lt;users&gt;" in html
    assert len(re.findall(r"<table ", html)) == 1 + 6


def test_the_page_says_what_is_read() -> None:
    rounds = {1: chain()}
    alone, joint, apart = page(rounds), page(rounds, "joint", "joint"), page(rounds, told="both")
    assert "Reward models read here the response alone.</p>" in alone
    assert "one text: the sensitivity is to both" in joint and "need not" not in joint
    assert "read here the response alone. The re-rankers whose" in apart
    assert "read history and response as two texts: what" in apart


def test_without_rounds_there_is_no_figure() -> None:
    html = page({})
    assert "There was no round of alignment." in html
    assert "chart-mediation" not in html
