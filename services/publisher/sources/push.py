"""`POST /api/v1/items`: whoever has items hands them over, one or a batch, and learns what became of each."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.publisher.normalise import Entry
from services.publisher.sources.keys import known
from shared.events import Id
from shared.limits import Buckets, Rate

Accept = Callable[[Entry], Awaitable[str]]


class PushedItem(BaseModel):
    """One item as a client hands it over; only `title` is needed."""

    model_config = ConfigDict(extra="ignore")

    title: Annotated[str, Field(min_length=1, max_length=4_000)]
    url: Annotated[str, Field(max_length=4_096)] | None = None
    id: Annotated[str, Field(max_length=512)] | None = None
    platform: Id = "api"
    source: Annotated[str, Field(max_length=253)] | None = None
    text: Annotated[str, Field(max_length=100_000)] | None = None
    author: Annotated[str, Field(max_length=512)] | None = None
    published_at: str | float | None = None
    hashtags: Annotated[list[str], Field(max_length=50)] = Field(default_factory=list)
    score: int | None = None
    comments: Annotated[int, Field(ge=0)] | None = None
    shares: Annotated[int, Field(ge=0)] | None = None

    def entry(self, where: str) -> Entry:
        """Return the entry this describes."""
        engagement = {"score": self.score, "comments": self.comments, "shares": self.shares}
        return Entry(
            where=where,
            platform=self.platform,
            title=self.title,
            url=self.url or "",
            native_id=self.id or "",
            source=self.source or "",
            text=self.text or "",
            author=self.author or "",
            published=self.published_at,
            hashtags=tuple(self.hashtags),
            engagement={name: value for name, value in engagement.items() if value is not None},
        )


class ItemResult(BaseModel):
    """What became of one item: accepted, repeated or refused, with the reason."""

    status: str
    reason: str | None = None


class PushResult(BaseModel):
    """What became of the items of one request, in their order."""

    accepted: int
    repeated: int
    refused: int
    results: list[ItemResult]


_ITEM = TypeAdapter(PushedItem)


class Doorkeeper:
    """Who may hand items over, and how many; without any key, everybody who can reach the port."""

    def __init__(self, hashes: tuple[str, ...], rate: Rate) -> None:
        self._hashes = hashes
        self._buckets: Buckets[str] = Buckets(rate, max_keys=1_024)
        self._strangers: Buckets[str] = Buckets(Rate(60, 60.0))

    def admit(self, authorization: str | None, api_key: str | None, peer: str, now: float) -> str:
        """Return whose bucket pays; raises HTTPException 401 without a known key, 429 after too many wrong ones."""
        if not self._hashes:
            return peer
        scheme, _, token = (authorization or "").partition(" ")
        key = api_key or (token.strip() if scheme.lower() == "bearer" else "")
        whose = known(key, self._hashes)
        if whose is None:
            _too_many(self._strangers.allow(peer, now))
            raise HTTPException(
                401, "a key is needed: X-API-Key, or Authorization: Bearer", {"www-authenticate": "Bearer"}
            )
        return whose

    def spend(self, whose: str, items: int, now: float) -> None:
        """Pay for items; raises HTTPException 429 with the seconds to wait."""
        _too_many(self._buckets.allow(whose, now, max(1, items)))


def _too_many(wait: float) -> None:
    if wait:
        raise HTTPException(429, "too many for now: wait, then try again", {"retry-after": str(math.ceil(wait))})


def router(accept: Accept, doorkeeper: Doorkeeper, max_items: int, max_bytes: int) -> APIRouter:
    """Return the route. `accept` stores one entry and answers accepted, repeated or `refused: why`."""
    routes = APIRouter(tags=["items"])

    @routes.post(
        "/api/v1/items",
        summary="Hand over one item or a list of them",
        response_model=PushResult,
        responses={
            400: {"description": "not JSON"},
            401: {"description": "no key, or an unknown one"},
            413: {"description": "too many bytes or items"},
            422: {"description": "no item could be read"},
            429: {"description": "too many items: wait as long as Retry-After says"},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "anyOf": [
                                PushedItem.model_json_schema(),
                                {"type": "array", "items": PushedItem.model_json_schema()},
                            ]
                        }
                    }
                },
            }
        },
    )
    async def push(
        request: Request,
        authorization: Annotated[str | None, Header()] = None,
        x_api_key: Annotated[str | None, Header()] = None,
    ) -> PushResult:
        """Answer once everything accepted is stored; an item that is wrong does not stop the others."""
        peer = request.client.host if request.client else ""
        whose = doorkeeper.admit(authorization, x_api_key, peer, time.monotonic())
        raw = await _read(request, max_bytes)
        items = raw if isinstance(raw, list) else [raw]
        if len(items) > max_items:
            raise HTTPException(413, f"{len(items)} items, {max_items} may come in one request")
        doorkeeper.spend(whose, len(items), time.monotonic())
        results = [await _one(accept, item, f"item {number}") for number, item in enumerate(items, 1)]
        counts = {status: sum(result.status == status for result in results) for status in ("accepted", "repeated")}
        refused = len(results) - sum(counts.values())
        if results and refused == len(results):
            raise HTTPException(422, [result.model_dump() for result in results])
        return PushResult(accepted=counts["accepted"], repeated=counts["repeated"], refused=refused, results=results)

    return routes


async def _read(request: Request, max_bytes: int) -> Any:  # Any: this is what JSON may be
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise HTTPException(413, f"a request may have {max_bytes} bytes")
    try:
        return TypeAdapter(dict[str, Any] | list[Any]).validate_json(bytes(body))
    except ValidationError as error:
        raise HTTPException(400, f"a JSON object or a list of them is expected: {error.errors()[0]['msg']}") from error


async def _one(accept: Accept, raw: object, where: str) -> ItemResult:
    try:
        entry = _ITEM.validate_python(raw).entry(where)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return ItemResult(status="refused", reason=f"{place}: {first['msg']}".removeprefix(": "))
    status, _, reason = (await accept(entry)).partition(": ")
    return ItemResult(status=status, reason=reason or None)
