"""The page in headless Chromium: it draws, searches, stays itself and asks nobody."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from selenium.webdriver import ActionChains, Keys

from rec.report import render
from rec.report_browser import MOST_PAIRS, MOST_USERS, Browsed
from rec.tables import PAIRS, PROMPTS, RESPONSES, USERS
from tests.chromium import Tab, chromium
from tests.comparison.made import items_table, lists_table, random_runs, random_tables
from tests.reported import HOSTILE, good, hostile, make_run
from tests.synthetic_run import BASELINES, policies_of

DRAW = "window.dispatchEvent(new Event('beforeprint'))"
DRAWN = "[...document.querySelectorAll('.chart')].every((place) => place.querySelector('svg'))"
ENTRIES = "document.querySelectorAll('#browser-entries > li')"
TEXTS = f"return [...{ENTRIES}].map((entry) => entry.querySelector('summary').textContent)"
FOUND = "return document.getElementById('browser-found').textContent"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pages")
    (found / "good.html").write_text(good()[0], encoding="utf-8")
    (found / "hostile.html").write_text(hostile()[0], encoding="utf-8")
    return found


def choose(tab: Tab, name: str, value: str) -> None:
    """Set a control of the browser as a person does, and wait for what it finds."""
    script = """
    const form = document.querySelector('#browser-app form');
    const control = form.elements[arguments[0]];
    control.value = arguments[1];
    document.getElementById('browser-found').textContent = '';
    (control.length && control[0].type === 'radio' ? control[0] : control)
      .dispatchEvent(new Event('input', { bubbles: true }));
    """
    tab.run(script, name, value)
    tab.wait("document.getElementById('browser-found').textContent")


def opened(tab: Tab) -> str:
    """Open the first entry; its text."""
    first = f"{ENTRIES}[0].querySelector('details')"
    tab.run(f"{first}.open = true")
    tab.wait(f"{first}.querySelector('.inside')")
    return str(tab.run(f"return {first}.textContent"))


@pytest.mark.parametrize("name", ["good", "hostile"])
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_everything_is_drawn_without_an_error_or_a_request(
    tab: Tab, folder: Path, name: str, width: int, scheme: str
) -> None:
    path = folder / f"{name}.html"
    tab.open(path, width, scheme)
    tab.run(DRAW)
    tab.wait(DRAWN)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert not tab.run("return document.querySelector('main').textContent.includes('not be drawn')")
    assert tab.log("browser") == []
    assert tab.requests() == [path.absolute().as_uri()]


@pytest.mark.parametrize("name", ["good", "hostile"])
def test_a_phone_shows_it_without_scrolling_sideways(tab: Tab, folder: Path, name: str) -> None:
    tab.open(folder / f"{name}.html", 360)
    tab.run(DRAW)
    tab.wait(DRAWN)
    for view in ("pairs", "users"):
        choose(tab, "view", view)
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.wait(f"{ENTRIES}[0].querySelector('.inside')")
        assert tab.run("return document.documentElement.scrollWidth") <= 360


def test_hostile_texts_stay_texts(tab: Tab, folder: Path) -> None:
    tab.open(folder / "hostile.html")
    scripts = tab.run("return document.scripts.length")
    shown = opened(tab)
    assert f"{HOSTILE} chosen" in shown
    choose(tab, "view", "users")
    shown = opened(tab)
    assert f"{HOSTILE} A" in shown and f"Liked: {HOSTILE}, film 0" in shown
    assert tab.run("return document.querySelectorAll('img').length") == 0
    assert tab.run("return document.scripts.length") == scripts == 5
    assert tab.run("return document.querySelector('h1').textContent").endswith(HOSTILE)


def test_pairs_are_searched_filtered_and_sorted(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    assert tab.run(FOUND) == "21 of 21 pairs; page 1 of 2"
    choose(tab, "words", "u02")
    assert tab.run(TEXTS)[:2] == [
        "User u02round 1, trainmargin .0200",
        "User u02round 2, trainmargin .0200",
    ]
    assert tab.run(FOUND) == "4 of 21 pairs; page 1 of 1"
    choose(tab, "words", "HEAT chosen 2.7")
    assert tab.run(TEXTS) == ["User u07round 2, trainmargin .0700"]
    choose(tab, "words", "no such word")
    assert tab.run(TEXTS) == []
    assert tab.run(FOUND) == "0 of 21 pairs: nothing fits the words and filters"
    choose(tab, "words", "User u07")
    assert tab.run(FOUND) == "2 of 21 pairs; page 1 of 1"
    choose(tab, "words", "")
    choose(tab, "round", "2")
    choose(tab, "split", "valid")
    assert tab.run(TEXTS) == [f"User u0{n}round 2, validationmargin .0{n}00" for n in (3, 2, 1)]
    choose(tab, "order", "margin, smallest first")
    assert tab.run(TEXTS)[0] == "User u01round 2, validationmargin .0100"


def test_pages_are_turned(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    assert len(tab.run(TEXTS)) == 20
    tab.run("document.getElementById('browser-next').click()")
    assert len(tab.run(TEXTS)) == 1
    assert tab.run(FOUND).endswith("page 2 of 2")
    assert tab.run("return document.getElementById('browser-next').disabled")
    tab.run("document.getElementById('browser-back').click()")
    assert len(tab.run(TEXTS)) == 20


def test_what_two_texts_do_not_share_is_marked(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    opened(tab)
    marks = "return [...document.querySelectorAll('mark')].map((mark) => mark.textContent)"
    assert tab.run(marks) == ["chosen", "rejected"]


def test_a_user_has_texts_and_lists_before_and_after(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    choose(tab, "view", "users")
    choose(tab, "words", "u03")
    shown = opened(tab)
    assert "Loved films: Heat by 0 response 3.0" in shown
    assert "Loved films: Heat by 2 response 3.0" in shown
    heads = [
        text.rsplit(" ", 1)[0]
        for text in tab.run(
            "return [...document.querySelectorAll('.lists h3')].map((head) => head.textContent)"
        )
    ]
    assert heads == ["Initial order", "Base LLM", "DPO4Rec, round 2"]
    marked = (
        "return [...document.querySelectorAll('.lists ol')].map((list) => "
        "[...list.querySelectorAll('.positive bdi')].map((title) => title.textContent).sort())"
    )
    assert tab.run(marked) == [["Heat A", "Heat B", "Heat C"]] * 3
    first = (
        "return [...document.querySelectorAll('.lists ol')[2].children].map("
        "(item) => item.querySelector('bdi').textContent)"
    )
    run = make_run().browsed.runs["2"].filter(list="u03-0", protocol="popularity")
    titles = [f"Heat {'ABCDEFGHIJ'[place]}" for place in run["places"][0]]
    assert tab.run(first) == titles
    tab.run(
        "const select = document.querySelectorAll('#browser-entries select')[1];"
        "select.value = 0; select.dispatchEvent(new Event('change'));"
    )
    assert "No knowledge" in opened(tab) and "It reads no text" in opened(tab)


def test_a_pair_leads_to_its_user_and_back(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    opened(tab)
    tab.run("document.querySelector('#browser-entries button').click()")
    assert tab.run(TEXTS)[0].startswith("User u08test")
    opened(tab)
    tab.run("document.querySelector('#browser-entries button').click()")
    assert tab.run(TEXTS)[0] == "User u08round 1, trainmargin .0800"


def test_keys_are_enough(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")

    def press(*keys: str) -> None:
        ActionChains(tab.driver).send_keys(*keys).perform()

    tab.run("document.querySelector('#browser-app input[type=search]').focus()")
    press("u02")
    tab.wait("document.getElementById('browser-found').textContent.startsWith('4 of')")
    press(*[Keys.TAB] * 4)
    focused = "return document.activeElement.textContent"
    assert tab.run(focused) == "User u02round 1, trainmargin .0200"
    press(Keys.ARROW_DOWN)
    assert tab.run(focused) == "User u02round 2, trainmargin .0200"
    press(Keys.ENTER)
    tab.wait("document.activeElement.parentElement.querySelector('mark')")
    press(Keys.ARROW_UP)
    assert tab.run(focused) == "User u02round 1, trainmargin .0200"
    press(Keys.SPACE)
    assert tab.run("return document.activeElement.parentElement.open")


def test_colours_follow_the_system(tab: Tab, folder: Path) -> None:
    def colours() -> list[str]:
        tab.run(DRAW)
        tab.wait(DRAWN)
        found: list[str] = tab.run("""
            const label = document.querySelector('.chart text');
            return [getComputedStyle(document.body).backgroundColor, getComputedStyle(label).fill];
        """)
        return found

    tab.open(folder / "good.html", scheme="light")
    light = ["rgb(255, 255, 255)", "rgb(26, 29, 33)"]
    assert colours() == light
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.send("Emulation.setEmulatedMedia", features=dark)
    assert colours() == ["rgb(21, 24, 28)", "rgb(233, 236, 240)"]
    tab.send("Emulation.setEmulatedMedia", features=dark, media="print")
    assert colours() == light  # paper is white


def test_charts_fit_on_paper(tab: Tab, folder: Path) -> None:
    """They were drawn for a wide window; paper is narrow, and tells no script."""
    tab.open(folder / "good.html", 1280)
    tab.run(DRAW)
    tab.wait(DRAWN)
    tab.run("document.body.style.width = '700px'")
    tab.send("Emulation.setEmulatedMedia", media="print")
    beyond = """return [...document.querySelectorAll('.chart')].filter((place) =>
        place.querySelector('svg').getBoundingClientRect().width > place.clientWidth + 1).length"""
    assert tab.run(beyond) == 0


def test_charts_are_named_by_their_captions(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    tab.run(DRAW)
    tab.wait(DRAWN)
    names = tab.run("""return [...document.querySelectorAll('.chart')].map((place) =>
        [place.getAttribute('aria-label'), place.nextElementSibling.textContent])""")
    assert len(names) == 20 and all(name == caption for name, caption in names)


def test_headings_skip_no_level(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html")
    for view in ("pairs", "users"):
        choose(tab, "view", view)
        opened(tab)
        levels = tab.run("""return [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(
            (head) => Number(head.localName[1]))""")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_chart_is_drawn_when_it_comes_into_sight_and_has_its_values(
    tab: Tab, folder: Path
) -> None:
    tab.open(folder / "good.html")
    place = "document.getElementById('chart-align-kl')"
    assert not tab.run(f"return {place}.querySelector('svg')")
    tab.run(f"{place}.scrollIntoView()")
    tab.wait(f"{place}.querySelector('svg')")
    tab.run(f"{place}.parentElement.querySelector('details').open = true")
    tab.wait(f"{place}.parentElement.querySelector('table')")
    rows = tab.run(f"return {place}.parentElement.querySelectorAll('tbody tr').length")
    assert rows == 24
    heads = (
        "return [...document.querySelectorAll('.values th')].map((e) => [e.textContent, e.scope])"
    )
    assert tab.run(heads) == [["Policy", "col"], ["Step", "col"], ["KL", "col"]]


def test_without_scripts_tables_and_pairs_are_readable(tab: Tab, folder: Path) -> None:
    tab.open(folder / "good.html", scripts=False)
    document = tab.send("DOM.getDocument", depth=-1, pierce=True)
    tab.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "u08" in str(document) and "Loved films: Heat chosen 1.8" in str(document)
    assert tab.run("return document.getElementById('browser-app').hidden")
    shown = tab.run("return document.body.innerText")
    assert "The browser needs JavaScript" in shown and "DPO4Rec, round 2" in shown


def text_of(words: random.Random) -> str:
    """A card of about 350 letters."""
    vocabulary = ("Loved", "films:", "Heat;", "Fargo;", "The", "Godfather;", "1990s,", "Drama,")
    lines = [[*words.choices(vocabulary, k=6), f"{words.randrange(10**6)}"] for _ in range(7)]
    return "\n".join(" ".join(line) for line in lines)


def large(users: int, pairs: int) -> Browsed:
    """So many users with the texts of three policies and three lists each, and so many pairs."""
    words = random.Random(5)
    names = [f"u{n:02}" for n in range(users)]
    keys = [f"user:{name}" for name in names]
    policies = policies_of(2, False)
    variants = [*BASELINES, *policies]
    options = {"users": users, "backbones": ("prm",), "seeds": (1,)}
    response = {"sample": 0, "seed": 1, "finish_reason": "stop", "token_ids": [1]}
    counts = dict.fromkeys(("prompt_tokens", "response_tokens", "cut_slots", "empty_slots"), 0)
    plain = {"kind": "user", "split": "test", "messages": []}
    pair = {"chosen_score": 0.7, "rejected_score": 0.6, "margin": 0.1, "chosen_sample": 0}
    ids = {"chosen_ids": [1], "rejected_ids": [1], "rejected_sample": 1, "messages": []}

    def pairs_of(count: int) -> pl.DataFrame:
        rows = [
            {
                "key": keys[n % users],
                "user": names[n % users],
                "chosen": text_of(words),
                "rejected": text_of(words),
                **pair,
                **ids,
                "chosen_sample": n,
            }
            for n in range(count)
        ]
        return pl.DataFrame(rows, schema=dict(PAIRS))

    prompts = [
        {"key": key, "user": name, "history": text_of(words) + text_of(words), **plain}
        for key, name in zip(keys, names, strict=True)
    ]
    responses = {
        policy: pl.DataFrame(
            [
                {"key": k, "text": text_of(words), "looping": False, **response, **counts}
                for k in keys
            ],
            schema=dict(RESPONSES),
        )
        for policy in policies
    }
    return Browsed(
        pairs={number: pairs_of(pairs // 2) for number in (1, 2)},
        held_out={},
        prompts=pl.DataFrame(prompts, schema=dict(PROMPTS)),
        responses=responses,
        users=pl.DataFrame(
            [[name, "test", 5, 3] for name in names], schema=dict(USERS), orient="row"
        ),
        items=items_table(),
        lists=lists_table(users),
        runs={run.variant: table for run, table in random_runs(variants, **options)},  # type: ignore[arg-type]
        metrics=random_tables(variants, **options).users,
    )


def test_a_thousand_users_and_five_thousand_pairs(tab: Tab, tmp_path: Path) -> None:
    run = replace(make_run(), browsed=large(MOST_USERS, MOST_PAIRS))
    path = tmp_path / "large.html"
    path.write_text(render(run), encoding="utf-8")
    size = path.stat().st_size
    started = time.perf_counter()
    tab.open(path)
    to_open = time.perf_counter() - started
    assert tab.run(FOUND) == f"5,000 of {MOST_PAIRS:,} pairs; page 1 of 250"
    started = time.perf_counter()
    choose(tab, "words", "heat; u777")
    to_search = time.perf_counter() - started
    print(f"{size / 1e6:.1f} MB, opened in {to_open:.2f} s, searched in {to_search:.2f} s")
    assert tab.run(TEXTS)[0].startswith("User u777")
    choose(tab, "words", "")
    choose(tab, "view", "users")
    assert tab.run(FOUND) == f"1,000 of {MOST_USERS:,} users; page 1 of 50"
    assert tab.log("browser") == []
    assert size < 10_000_000
