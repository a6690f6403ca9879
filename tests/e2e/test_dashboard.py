"""The dashboard in a real Chromium on the real system: what people see, and what happens when a gateway dies."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from services.broker import Broker
from services.gateway.pages import BUILT
from shared.broadcaster import Broadcaster
from shared.events import Signal
from tests.bench.servers import free_port
from tests.support.items import item, story, trend
from tests.support.services import running_gateway

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = BUILT.parent / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = os.environ.get("VERACITY_PICTURES")  # a folder: screenshots of what is tested go there

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(not (BUILT / "index.html").exists(), reason="the dashboard is not built: make dashboard"),
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        await running.close()


@asynccontextmanager
async def opened(browser: Browser, url: str, **options: Any) -> AsyncIterator[Page]:
    """Open the dashboard and collect what the browser complains of; nothing may be left at the end."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: (
            complaints.append(said.text) if said.type == "error" and "Content Security Policy" in said.text else None
        ),
    )
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if "127.0.0.1" not in request.url else None)
    await page.goto(url)
    yield page
    assert complaints == []
    assert [one for one in foreign if not one.startswith(("data:", "blob:"))] == [], "requests to third parties"
    await context.close()


def address(url: str) -> str:
    return url.replace("ws://", "http://").removesuffix("api/v1/ws/connect")


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png")


def signal(name: str, contribution: float, explanation: str) -> Signal:
    return Signal(name=name, weight=0.2, contribution=contribution, confidence=0.7, explanation=explanation)


async def publish_story(producer: Broadcaster, name: str, title: str, score: float) -> None:
    reports = [item(number, title, minutes=20.0 * number) for number in range(3)]
    await producer.story_update(story(name, reports))
    signals = [
        Signal(
            name="corroboration",
            value=0.8,
            weight=0.2,
            contribution=score - 50,
            confidence=0.7,
            explanation="three say so",
        ),
        Signal(name="source_credibility", weight=0.0, contribution=0, confidence=0, explanation="nobody is known"),
    ]
    await producer.trust_score_update(name, score, signals, confidence=0.4)


async def test_what_was_there_is_shown_first_and_then_what_happens(
    browser: Browser, broker: Broker, producer: Broadcaster
) -> None:
    await producer.trend_update(trend("harbour", trend_id="t1"))
    await publish_story(producer, "s1", "Storm closes the harbour", 72)
    async with running_gateway(broker) as (url, _), opened(browser, address(url)) as page:
        await expect(page.get_by_test_id("connection-status")).to_have_text("Live")
        await expect(page.get_by_test_id("trend")).to_have_count(1)
        await expect(page.get_by_test_id("story")).to_contain_text("Storm closes the harbour")
        await expect(page.get_by_test_id("story")).to_contain_text("72")
        await producer.trend_update(trend("bridge", trend_id="t2"))
        await publish_story(producer, "s2", "Bridge opens again", 31)
        await expect(page.get_by_test_id("trend")).to_have_count(2)
        await expect(page.get_by_test_id("story").first).to_contain_text("Bridge opens again")
        await picture(page, "live")
        await page.get_by_label("Search stories").fill("harbour")
        await expect(page.get_by_test_id("story")).to_have_count(1)
        await page.get_by_test_id("story").get_by_role("link").press("Enter")
        await expect(page.get_by_role("heading", name="Storm closes the harbour")).to_be_visible()
        await expect(page.get_by_role("img", name="Trust 72 of 100, well supported")).to_be_visible()
        await expect(page.get_by_text("three say so")).to_be_visible()
        await picture(page, "story")
        await page.get_by_role("link", name="System").click()
        await expect(page.get_by_text("clients here")).to_be_visible()
        await expect(page.get_by_role("rowheader", name="trends")).to_be_visible()
        await picture(page, "system")


async def test_a_story_opened_by_its_address_comes_from_the_history(
    browser: Browser, broker: Broker, producer: Broadcaster
) -> None:
    await publish_story(producer, "s1", "Storm closes the harbour", 72)
    async with running_gateway(broker) as (url, _), opened(browser, f"{address(url)}#/story/s1") as page:
        await expect(page.get_by_role("heading", name="Storm closes the harbour")).to_be_visible()
        await page.goto(f"{address(url)}#/story/nothing")
        await expect(page.get_by_text("not among those of the last day")).to_be_visible()


async def test_the_badge_turns_when_the_gateway_dies_and_nothing_is_lost_when_it_is_back(
    browser: Browser, broker: Broker, producer: Broadcaster
) -> None:
    port = free_port()
    async with running_gateway(broker, port=port) as (url, _):
        context = await browser.new_context()
        pages = [await context.new_page() for _ in range(2)]  # two tabs
        for page in pages:
            await page.add_init_script(
                "window.heard = []; const W = WebSocket; window.WebSocket = class extends W {"
                "set onmessage(f) { super.onmessage = (e) => { const m = JSON.parse(e.data);"
                "if (m.type === 'trend_update') window.heard.push(m.data.name); f(e); }; } };"
            )
            await page.goto(address(url))
            await expect(page.get_by_test_id("connection-status")).to_have_text("Live")
        await producer.trend_update(trend("before", trend_id="t0"))
        for page in pages:
            await expect(page.get_by_test_id("trend")).to_have_count(1)
    for page in pages:
        await expect(page.get_by_test_id("connection-status")).to_have_text("Offline")
        await expect(page.get_by_test_id("offline")).to_be_visible()
    await picture(pages[0], "offline")
    for number in range(1, 6):
        await producer.trend_update(trend(f"while away {number}", trend_id=f"t{number}"))
    async with running_gateway(broker, port=port):
        for page in pages:
            await expect(page.get_by_test_id("connection-status")).to_have_text("Live", timeout=20_000)
            await expect(page.get_by_test_id("trend")).to_have_count(6)
        await producer.trend_update(trend("after", trend_id="t9"))
        for page in pages:
            await expect(page.get_by_test_id("trend")).to_have_count(7)
            heard = await page.evaluate("window.heard")
            assert heard == ["before", *(f"while away {number}" for number in range(1, 6)), "after"]
        await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1_280, 390], ids=["desk", "phone"])
@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make dashboard")
async def test_there_is_no_serious_hindrance_for_anybody(
    browser: Browser, broker: Broker, producer: Broadcaster, scheme: str, width: int
) -> None:
    await producer.trend_update(trend("harbour", trend_id="t1"))
    await publish_story(producer, "s1", "Storm closes the harbour", 72)
    await publish_story(producer, "s2", "Bridge opens again", 31)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    async with running_gateway(broker) as (url, _), opened(browser, address(url), **options) as page:
        await expect(page.get_by_test_id("story")).to_have_count(2)
        await page.add_script_tag(path=AXE)
        for place in ("#/", "#/story/s1", "#/system"):
            await page.evaluate("place => { location.hash = place }", place)
            await expect(page.get_by_role("heading", level=1)).to_be_attached()
            found = await page.evaluate("axe.run().then(({violations}) => violations)")
            serious = [
                (one["id"], [node["html"][:150] for node in one["nodes"]])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], place
            wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wide, "nothing is cut off at the side"
        await picture(page, f"{scheme}-{width}")


async def test_the_page_stays_calm_under_500_events_a_second(
    browser: Browser, broker: Broker, producer: Broadcaster
) -> None:
    async with running_gateway(broker) as (url, gateway), opened(browser, address(url)) as page:
        await expect(page.get_by_test_id("connection-status")).to_have_text("Live")
        await page.evaluate(
            "() => { window.frames_ = []; let last = performance.now(); const f = (now) => {"
            "window.frames_.push(now - last); last = now; requestAnimationFrame(f); }; requestAnimationFrame(f); }"
        )
        for number in range(1_500):
            await producer.story_update(
                story(f"s{number % 400}", [item(number, f"Story {number}")], revision=number + 1)
            )
        await page.wait_for_function(
            "document.querySelector('[data-testid=story]')?.textContent.includes('Story 1499')"
        )
        frames = sorted(await page.evaluate("window.frames_"))
        assert frames[int(len(frames) * 0.5)] < 34, "half of the frames come in time"
        assert await page.evaluate("document.querySelectorAll('[data-testid=story]').length") < 40, "only what is seen"


def test_what_the_browser_loads_first_is_small() -> None:
    import gzip

    scripts = sum(len(gzip.compress(file.read_bytes())) for file in (BUILT / "assets").glob("*.js"))
    assert scripts < 120 * 1_024
