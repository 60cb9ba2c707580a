import json

import pytest
import vl_convert

from rec.mediation.links import POINTS, RANK, RELIABILITY, Link
from rec.mediation_chart import chart_values, figure, mediation_chart, number_text
from tests.mediation.chains import chain, unknown


def test_null_is_zero_and_the_widest_end_is_one() -> None:
    values = chart_values({1: chain(), 2: chain(reliability=(-0.1, -0.2, 0.0))})
    assert [(v["link"], v["round"]) for v in values[:2]] == [
        ("Identifiability", 1),
        ("Identifiability", 2),
    ]
    found = {(v["link"], v["round"]): (v["value"], v["low"], v["high"]) for v in values}
    # MRR .4 [.3, .6] where chance is .1
    assert found["Identifiability", 1] == (0.6, 0.4, 1.0)
    # r .02 [-.01, .05] and -.1 [-.2, 0]: the far end is -.2
    assert found["Reliability", 1] == pytest.approx((0.1, -0.05, 0.25))
    assert found["Reliability", 2] == (-0.5, -1.0, 0.0)


def test_the_order_is_that_of_the_chain() -> None:
    spec = mediation_chart({1: chain()[::-1]})
    points = next(iter(rows for rows in spec["datasets"].values() if "link" in rows[0]))
    names = ["Identifiability", "Sensitivity", "Reliability", "Best of N", "Fresh reward"]
    assert [point["link"] for point in points] == names
    assert spec["layer"][1]["encoding"]["y"]["sort"] == names


def test_only_deciding_links_that_were_measured_are_drawn() -> None:
    more = Link(RELIABILITY, "more", "More", "valid", False, 1.0, 1.0, 1.0, 0.0, RANK, 9)
    values = chart_values({1: [*chain(), more, unknown()]})
    assert len(values) == len(chain())


def test_equal_to_null_without_width() -> None:
    values = chart_values({1: chain(reliability=(0.0, 0.0, 0.0))})
    found = next(v for v in values if v["link"] == "Reliability")
    assert (found["value"], found["low"], found["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("rounds", [{}, {1: chain()}, {1: chain(), 2: chain(), 3: chain()}])
def test_vega_lite_draws_it(rounds: dict[int, list[Link]]) -> None:
    spec = mediation_chart(rounds)
    assert "$schema" not in spec and "config" not in spec
    svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 400}))
    assert svg.count("Reliability") >= bool(rounds)


def test_rounds_differ_in_colour_and_shape() -> None:
    encoding = mediation_chart({1: chain(), 2: chain()})["layer"][2]["encoding"]
    for channel in ("color", "shape", "yOffset"):
        assert encoding[channel]["field"] == "round"


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.124, POINTS, "+0.12"),
        (-0.124, POINTS, "−0.12"),
        (-0.001, POINTS, "+0.00"),
        (0.4612, RANK, ".461"),
        (-0.0212, RANK, "−.021"),
        (-0.0001, RANK, ".000"),
        (1.0, RANK, "1.000"),
        (10.5, RANK, "10.500"),
    ],
)
def test_numbers(number: float, unit: str, text: str) -> None:
    assert number_text(number, unit) == text


def test_figures() -> None:
    assert figure(chain()[0]) == ".400 [.300, .600]"
    assert figure(unknown()) == "–"
