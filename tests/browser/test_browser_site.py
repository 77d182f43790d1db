"""The exported site in a real browser, opened from its folder, without a network."""

import contextlib
import functools
import http.server
import threading

import labdrive
import pytest

from trajlib.course import options

NAMES = [path.stem for path in sorted(options.NOTEBOOKS.glob(options.PATTERN))]
NO_EXCERPT = "Failed to fetch"  # Sphinx's search reads excerpts from the pages: a browser allows that on servers alone
pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]


@pytest.fixture
def visit(chromium, exported):
    """`visit(name, **context)`: a page of the site; any request beyond its folder, and any error, fails the test."""
    faults = []
    home = exported.as_uri()
    with contextlib.ExitStack() as stack:

        def opened(name: str, width=1280, height=800, root=home, **context):
            size = {"width": width, "height": height}
            page = stack.enter_context(contextlib.closing(chromium.new_context(viewport=size, **context))).new_page()
            page.on("request", lambda r: r.url.startswith((root, "data:")) or faults.append(r.url))
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.set_default_timeout(labdrive.CHANGE_SECONDS * 1000)
            page.goto(f"{root}/{name}.html")
            return page

        yield opened
        assert [fault for fault in faults if fault != NO_EXCERPT] == []


def test_answers_are_folded_and_each_opens(visit):
    seen = 0
    for name in NAMES:
        page = visit(name)
        for box in page.locator("article details").all():
            answer = box.locator("> :not(summary)").first
            assert not answer.is_visible(), name
            box.locator("summary").click()
            assert answer.is_visible(), name
            hidden = box.inner_text().removeprefix(box.locator("summary").inner_text())
            assert len(hidden.split()) >= 5, f"{name}: an answer of {hidden!r}: it closes too early"
            seen += 1
    assert seen >= 30


def search(page, term: str) -> dict[str, str]:
    """{page: what the search says of it}."""
    page.locator("input[name=q]").first.fill(term)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**q={term}*")  # else the results of the search before are still on the page
    page.wait_for_function("() => /found|did not match/.test(document.querySelector('#search-results p')?.innerText)")
    name = "li.querySelector('a').href.split(/[/?#]/).find(part => part.endsWith('.html'))"
    return dict(page.locator("ul.search li").evaluate_all(f"items => items.map(li => [{name}, li.innerText])"))


def test_search_finds_a_term_on_the_pages_that_have_it(visit):
    page = visit("index")
    assert "07_conditional_tasks.html" in search(page, "medoid")
    assert search(page, "zebra") == {}
    assert len(search(page, "baseline")) >= 8


def test_search_on_a_server_shows_excerpts(visit, exported):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=exported)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = visit("index", root=f"http://127.0.0.1:{server.server_port}")
        search(page, "medoid")
        page.wait_for_selector("ul.search li p.context")
        server.shutdown()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (1024, 700), (390, 844)], ids=lambda size: str(size[0]))
def test_pages_fit_screens_and_follow_the_theme(visit, theme, size):
    """All of them on a phone in the light; elsewhere those with the widest table and with the widest figures."""
    page = visit("index", *size, color_scheme=theme)
    for name in ["index", *(NAMES if size[0] < 400 and theme == "light" else ("00_start_here", "12_report"))]:
        page.goto(page.url.rpartition("/")[0] + f"/{name}.html")
        wide, screen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= screen, f"{name} is {wide} px wide"
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(colour[:3]) < 80) == (theme == "dark"), name
        line = page.locator("article p").first.evaluate("p => p.clientWidth / parseFloat(getComputedStyle(p).fontSize)")
        assert line <= 50, f"{name}: lines of {line:.0f} em"
        labdrive.SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=labdrive.SHOTS / f"site-{name}-{size[0]}-{theme}.png")


def test_the_theme_can_be_chosen(visit):
    page = visit("index", color_scheme="light")
    seen = set()
    for _ in range(3):  # automatic, light, dark
        page.locator("button.theme-toggle:visible").first.click()
        seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2


def test_a_figure_enlarges_and_closes(visit):
    page = visit("03_reconstruction_analysis", 1024, 700)
    picture = page.locator("figure.shown img").nth(1)
    picture.click()
    large = page.locator("dialog.enlarged img")
    assert large.bounding_box()["width"] > picture.bounding_box()["width"]
    assert large.get_attribute("alt") == picture.get_attribute("alt")
    page.keyboard.press("Escape")
    large.wait_for(state="detached")


def test_an_animation_can_be_paused_and_rests_where_motion_is_unwanted(visit):
    page = visit("00_start_here")
    picture, button = page.locator("img[data-still]").first, page.locator("figure.shown button").first
    assert "still" not in picture.get_attribute("src")
    button.click()
    assert picture.get_attribute("src").endswith("-still.png")
    button.click()
    assert "still" not in picture.get_attribute("src")
    calm = visit("00_start_here", reduced_motion="reduce")
    assert calm.locator("img[data-still]").first.get_attribute("src").endswith("-still.png")
    assert calm.locator("figure.shown button").first.inner_text() == "Play"


def test_a_plotly_figure_is_drawn(visit):
    page = visit("01_data_generation")
    page.locator(".plotly-figure").first.scroll_into_view_if_needed()
    page.wait_for_selector(".plotly-figure canvas, .plotly-figure svg")
    assert page.locator(".plotly-figure").first.get_attribute("aria-label")
