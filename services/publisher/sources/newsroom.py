"""A simulated newsroom: invented outlets report invented happenings, every item marked as simulated.

It lets the whole system be seen at work where no feed can be reached; the same seed tells the same news.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from services.publisher.normalise import Entry


@dataclass(frozen=True, slots=True)
class Outlet:
    """One invented outlet: how soon it reports and in which tone. Domains end in `.example`, which nobody can own."""

    domain: str
    platform: str
    tone: str


OUTLETS = (
    Outlet("harbour-wire.example", "news", "sober"),
    Outlet("the-daily-ledger.example", "news", "sober"),
    Outlet("public-radio-north.example", "news", "sober"),
    Outlet("valley-courier.example", "news", "sober"),
    Outlet("metro-evening.example", "news", "sober"),
    Outlet("science-today.example", "news", "sober"),
    Outlet("buzzgator.example", "news", "loud"),
    Outlet("truth-unleashed.example", "news", "loud"),
    Outlet("citizen-voices.example", "social", "chatty"),
    Outlet("town-square.example", "social", "chatty"),
    Outlet("newsfans.example", "social", "chatty"),
)

_PLACES = (
    "Port Alder|Marlow Bay|Easthaven|Grenfeld|Lake Sorrel|Kings Hollow|Tamberley|Novi Dol|Westmere|Aldermoor".split("|")
)
_ACTORS = (
    "Mayor Odile Brandt|Senator Ravi Menon|Harlan Motors|Corvex Energy|the Tern Research Institute|Coach Ines Falk|"
    "Judge Amara Diallo|Polestar Airlines|the Grenfeld Opera|Minister Tomas Lind|Aurora Biotech|the Dockers Union"
).split("|")
_EVENTS = (
    ("flood warning", "issue a flood warning after the river dam leaks", "evacuation", "rescue crews"),
    ("vaccine trial", "publish results of the malaria vaccine trial", "clinical data", "volunteers"),
    ("data breach", "admit a data breach of customer accounts", "stolen passwords", "hackers"),
    ("bridge collapse", "investigate the bridge collapse on the ring road", "traffic chaos", "engineers"),
    ("merger talks", "confirm merger talks with a foreign rival", "share price", "shareholders"),
    ("strike vote", "call a strike vote over night shifts", "picket lines", "workers"),
    ("comet sighting", "photograph a comet over the southern sky", "telescope images", "astronomers"),
    ("stadium fire", "contain a stadium fire before the cup final", "smoke plume", "firefighters"),
    ("budget deficit", "reveal a budget deficit twice the forecast", "spending cuts", "auditors"),
    ("battery recall", "recall batteries of the electric van", "overheating cells", "drivers"),
)
_SOBER = (
    "{actor} {deed} in {place}",
    "{place}: {topic} confirmed, {who} on site",
    "{topic} in {place}: what {who} know so far",
    "{who} describe {detail} after {topic} in {place}",
    "{place} {topic}: {actor} promises answers on {detail}",
)
_LOUD = (
    "You WON'T BELIEVE what {actor} did about the {topic} in {place}!!!",
    "SHOCKING: the {place} {topic} secret they are hiding from you",
    "17 reasons the {topic} in {place} changes EVERYTHING",
)
_CHATTY = (
    "anyone else in {place} seeing this {topic}? {detail} everywhere #{tag}",
    "{topic} in {place}, {who} just arrived #{tag}",
    "so {actor} and the {topic}... {place} deserves better #{tag}",
)
_TEMPLATES = {"sober": _SOBER, "loud": _LOUD, "chatty": _CHATTY}
_QUIET = (
    "{place} library extends opening hours",
    "Recipe of the week from {place}",
    "{actor} visits school in {place}",
    "Weather in {place}: mild with some rain",
    "Local choir of {place} plans summer concert",
)


@dataclass(slots=True)
class _Happening:
    """Something that goes on: how often it is reported falls with each report."""

    values: dict[str, str]
    loudness: float


class Newsroom:
    """Yields `rate` items a second on average, in bursts as happenings come and fade."""

    name = "newsroom"

    def __init__(self, rate: float = 2.0, seed: int | None = None) -> None:
        self._rate, self._rng = rate, random.Random(seed)
        self._happenings: list[_Happening] = []
        self._number = 0
        self._run = f"{self._rng.getrandbits(32):08x}"

    async def read(self) -> AsyncIterator[Entry]:
        """Yield entries for ever, published now."""
        while True:
            yield self.compose(datetime.now(UTC))
            await asyncio.sleep(self._rng.expovariate(self._rate))

    def compose(self, now: datetime) -> Entry:
        """Return the next report, published at `now`."""
        self._number += 1
        self._happenings = [happening for happening in self._happenings if happening.loudness > 0.15]
        if len(self._happenings) < 4 and (self._rng.random() < 0.15 or not self._happenings):
            self._happenings.append(self._new())
        outlet = self._rng.choice(OUTLETS)
        if self._rng.random() < 0.15:
            template, values = self._rng.choice(_QUIET), self._new().values
        else:
            weights = [happening.loudness for happening in self._happenings]
            happening = self._rng.choices(self._happenings, weights)[0]
            happening.loudness *= 0.96
            template, values = self._rng.choice(_TEMPLATES[outlet.tone]), happening.values
        title = template.format(**values)
        return Entry(
            where=f"newsroom:{self._number}",
            platform=outlet.platform,
            title=title[0].upper() + title[1:] if outlet.tone != "chatty" else title,
            url=f"https://{outlet.domain}/{self._run}/{self._number}",
            source=outlet.domain,
            published=now,
            engagement={"score": int(self._rng.expovariate(0.02)), "comments": int(self._rng.expovariate(0.1))},
            simulated=True,
        )

    def _new(self) -> _Happening:
        topic, deed, detail, who = self._rng.choice(_EVENTS)
        place, actor = self._rng.choice(_PLACES), self._rng.choice(_ACTORS)
        tag = (place + topic.title()).replace(" ", "")
        values = {
            "topic": topic,
            "deed": deed,
            "detail": detail,
            "who": who,
            "place": place,
            "actor": actor,
            "tag": tag,
        }
        return _Happening(values, 1.0)
