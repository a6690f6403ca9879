"""The way of an event from NATS to everyone on its channel, whole and in order; and of a client onto a channel.

Live events come by core NATS; the stream behind a channel fills what is missing, for a client that comes back and for
the gateway itself. A channel whose order is in doubt holds its live events back until it is settled.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.gateway import envelope, frames
from services.gateway.analytics import Analytics
from services.gateway.cursors import Cursors
from services.gateway.engine import Connection, Engine, Frame, Group
from services.gateway.history import History, NoHistory, Read, Stored
from services.gateway.hub import Hub, Topic
from services.gateway.metrics import GatewayMetrics
from services.gateway.pacer import Pacer
from services.gateway.session import Join
from services.gateway.settings import GatewaySettings
from services.gateway.subscriptions import Subscriptions
from services.gateway.window import Recent, Verdict, Window
from shared import channels, logs
from shared.channels import Channel, Kind, channel_of_subject
from shared.connection import Connection as NatsConnection
from shared.errors import InvalidPayload, NatsUnavailable
from shared.tasks import end
from shared.wire import ErrorCode, ErrorMessage, Subscribed, now_text

log = logs.get(__name__)

_RETRY_SECONDS = 0.5
_BEHIND_SECONDS = 0.05
_MAX_ATTEMPTS = 60  # three seconds: no replica stays behind that long
_MAX_ATTEMPTS_AHEAD = 20  # one second: no pod sees an event that much later than another
_MAX_HELD = 10_000  # live events of one channel; past it they are read from the stream instead
_MAX_STATES = 2_000  # things a snapshot tells of


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Events of a channel over HTTP; `seq` is the `since` to go on from, `complete` says that there are no more now."""

    channel: str
    epoch: str
    seq: int
    complete: bool
    recovered: bool | None
    events: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Live:
    """One event as it came, checked but not yet placed."""

    event: envelope.Event
    seq: int
    previous: int
    stored: float | None


class Delivery:
    """Owns who hears what and what has been heard; `async with` runs its tasks."""

    def __init__(
        self, engine: Engine, nats: NatsConnection, settings: GatewaySettings, metrics: GatewayMetrics
    ) -> None:
        self._engine, self._nats, self._settings, self._metrics = engine, nats, settings, metrics
        self.hub = Hub()
        self.history = History(nats)
        self.cursors = Cursors(nats)
        self.subscriptions = Subscriptions(nats, self._received, self._active, linger=settings.subscription_linger)
        self._settling: dict[Channel, asyncio.Task[None]] = {}
        self._pacing: dict[Pacer[Frame], asyncio.TimerHandle] = {}
        self._remembered: deque[Window] = deque()  # a window for each event in it, oldest event first
        self._remembered_bytes = 0
        self._complaints = logs.Throttle(period=60.0)
        # Looked up once: finding a label's counter costs more than counting.
        self._events = {kind: metrics.events_received.labels(kind.value) for kind in Kind}
        self._delivered_to = {kind: metrics.delivered.labels(kind.value) for kind in Kind}
        self._bytes_to = {kind: metrics.bytes_delivered.labels(kind.value) for kind in Kind}
        self.analytics = Analytics()

    async def __aenter__(self) -> Delivery:
        self._nats.on_disconnected.append(self._doubt_everything)
        self._nats.on_connected.append(self._settle_everything)
        await self.subscriptions.__aenter__()
        await self.cursors.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.subscriptions.__aexit__()
        await self.cursors.__aexit__()
        await end(*self._settling.values())
        for handle in self._pacing.values():
            handle.cancel()

    @property
    def unsettled(self) -> int:
        """How many channels hold their events back because their order is in doubt."""
        return sum(topic.held is not None for topic in self.hub.topics())

    @property
    def catching_up(self) -> bool:
        """Whether, after NATS was away, channels with listeners have not been verified against their streams yet."""
        return any(topic.held is not None and topic.window.last is not None for topic in self.hub.topics())

    def newest(self, channel: Channel) -> int | None:
        """Return the newest sequence of a channel, None where it is not known."""
        topic = self.hub.topic(channel)
        return None if topic is None or topic.held is not None else topic.window.last

    # --- clients -----------------------------------------------------------------------------------------------------

    def join(self, connection: Connection, join: Join) -> None:
        """Let `connection` onto a channel: at once where its order is known, else as soon as it is."""
        channel = join.channel
        if channel.subject is None:
            self.admit_silently(connection, join)
            self._send(connection, [Subscribed(channel=channel.name, id=join.request_id).to_json()])
            return
        topic = self.hub.wait(connection, join)
        join = topic.waiting[connection]
        active = self.subscriptions.want(channel.subject)
        if active and topic.held is None and not join.offline and self._serve(topic, connection, join):
            return
        if active:
            self._settle(channel)

    def acknowledge(self, user_id: str, seq: int) -> None:
        """Note how far a user has read; what was never sent cannot be acknowledged."""
        topic = self.hub.topic(channels.user(user_id))
        if topic is not None and topic.window.last is not None:
            self.cursors.move(user_id, topic.epoch, min(seq, topic.window.last))

    def admit_silently(self, connection: Connection, join: Join) -> None:
        """Let `connection` onto a channel that has no subject, without a word."""
        topic = self.hub.wait(connection, join)
        topic.release()
        topic.admit(connection)

    def leave(self, connection: Connection, channel: Channel) -> None:
        """Take `connection` off a channel."""
        if self.hub.leave(connection, channel) and channel.subject is not None:
            self.subscriptions.unwant(channel.subject)

    def _serve(self, topic: Topic, connection: Connection, join: Join, history: Read | None = None) -> bool:
        """Acknowledge, bring up to date, let in: all in one turn, so there is no seam. False if history must be read.

        `history` is what the stream held after some sequence; it joins the window without a gap.
        """
        missed: Sequence[Frame] = ()
        recovered: bool | None = None
        window = topic.window
        if join.since is not None:
            found = self._missed(topic, join, history)
            if found is None:
                return False
            recovered, missed = found
        elif join.snapshot:
            if topic.states is None and topic.has_history:
                return False
            missed = list((topic.states or {}).values())
        for group in topic.groups():
            self._engine.seal(group)  # what has arrived before belongs to those who were there
        answer = Subscribed(
            channel=join.channel.name,
            recovered=recovered,
            seq=window.last if topic.has_history else None,
            epoch=topic.epoch or None,
            max_rate=join.max_rate,
            snapshot=len(missed) if join.snapshot and join.since is None else None,
            id=join.request_id,
        )
        refusal: list[bytes] = []
        if recovered is False:
            why = "the store no longer reaches back to there: load the current state, then go on live"
            error = ErrorMessage(
                code=ErrorCode.HISTORY_GONE, message=why, channel=join.channel.name, id=join.request_id
            )
            refusal = [error.to_json()]
        if recovered is not None:
            self._metrics.recoveries.labels("recovered" if recovered else "gone").inc()
        self._send(connection, [answer.to_json(), *refusal], missed)
        topic.admit(connection)
        return True

    def _missed(self, topic: Topic, join: Join, history: Read | None) -> tuple[bool, Sequence[Frame]] | None:
        """Return (recovered, what was missed); None if only the stream can tell."""
        assert join.since is not None
        window = topic.window
        if not topic.has_history or (join.epoch is not None and join.epoch != topic.epoch):
            return False, ()
        if window.covers(join.since):
            return True, [recent.frame for recent in window.after(join.since)]
        tried = topic.attempts - join.waits_since
        if window.last is not None and join.since > window.last:
            # Seen on another pod, and still on its way to this one; if it does not come, it never was.
            return None if tried < _MAX_ATTEMPTS_AHEAD else (False, ())
        if history is None:
            return None
        if (
            tried < _MAX_ATTEMPTS
            and history.complete
            and (history.events[-1].seq if history.events else 0) < window.base
        ):
            return None  # the replica that answered is behind what the leader has stored
        reaches = history.complete and _reaches(history, join.since)
        if window.last is None or not (reaches or join.offline):
            return False, ()
        # Up to what has come live; a later one that was read already is still on its way here.
        events = [event for event in history.events if join.since < event.seq <= window.last]
        # Past the last event read, the window goes on: what arrived while it was read is there.
        end = min(window.last, history.events[-1].seq if history.events else join.since)
        if not window.covers(end):
            return None
        earlier = [frame for event in events if (frame := self._stored_frame(join.channel, event)) is not None]
        missed = [*earlier, *(recent.frame for recent in window.after(end))]
        if join.offline:
            # All that still waits for the user; it is not all there was if what they read last is gone.
            return reaches or join.since == 0, missed
        too_many = len(missed) > self._settings.recovery_max_messages
        if too_many or sum(len(frame.plain) for frame in missed) > self._settings.recovery_max_bytes:
            return False, ()
        return True, missed

    def _send(self, connection: Connection, texts: Iterable[bytes], more: Sequence[Frame] = ()) -> None:
        self._engine.send(connection, *(Frame(frames.encode_text(text)) for text in texts), *more)

    async def page(self, channel: Channel, since: int | None, limit: int) -> HistoryPage:
        """Return up to `limit` events after `since`, or the newest. Raises NoHistory or NatsUnavailable."""
        epoch = await self.history.epoch(channel)
        last = await self.history.last(channel)
        depth = self._settings.recovery_max_messages
        if since is not None:
            start = max(1, since)
        else:
            start = 1 if channel.kind in (Kind.STORY, Kind.USER) else max(1, last - limit * 4)
        most = depth if since is None else limit + 1
        read = await self.history.read(channel, start, limit=most, max_bytes=depth * 4_096)
        stored = [event for event in read.events if event.seq > (since or 0)]
        stored = stored[-limit:] if since is None else stored[:limit]
        events = []
        for one in stored:
            try:
                event = envelope.read_event(one.payload, channel.kind)
            except InvalidPayload:
                continue  # it was counted when it came
            if envelope.for_channel(event, channel):
                events.append(json.loads(envelope.splice(event, channel.name, one.seq, now_text())))
        end = stored[-1].seq if stored else last if since is None else since
        recovered = None if since is None else since <= last and (since == last or _reaches(read, since))
        complete = read.complete and (not read.events or end >= read.events[-1].seq)
        return HistoryPage(channel.name, epoch, end, complete, recovered, events)

    # --- events ------------------------------------------------------------------------------------------------------

    def _received(self, subject: str, exact: bytes, payload: bytes, headers: bytes | None) -> None:
        """Take one message from NATS; `subject` is the one it was subscribed by."""
        channel = channel_of_subject(subject)
        self._events[channel.kind].inc()
        topic = self.hub.topic(channel)
        if topic is None:
            return  # the subject lingers, nobody listens
        try:
            event = envelope.read_event(payload, channel.kind)
        except InvalidPayload as error:
            self._reject(channel, exact.decode(errors="replace"), error)
            event = None
        sequence, stored = envelope.read_headers(headers)
        if sequence is None:
            if event is not None and envelope.for_channel(event, channel):
                self._post(topic, channel, self._frame(event, channel, None), stored)
            return
        # The stream numbers all stories in one row, and `stories` hears all of them: its predecessor is the one before.
        previous = sequence.seq - 1 if channel.kind is Kind.STORIES else sequence.previous
        live = _Live(event or envelope.NOTHING, sequence.seq, previous, stored)
        if topic.held is not None:
            topic.hold(live)
            if len(topic.held) > _MAX_HELD:
                topic.held = []  # the stream has them all
            return
        if not topic.has_history:
            # The stream was made while clients were here already: this is the first event they can hear of it.
            topic.has_history = True
            self._begin(topic.window, live.previous)
            self._place(topic, channel, live)
            topic.held = []
            self._settle(channel)
            return
        self._place(topic, channel, live)

    def _place(self, topic: Topic, channel: Channel, live: _Live) -> None:
        """Deliver the next event, drop a repeat, and settle the channel where something is missing."""
        match topic.window.judge(live.seq, live.previous):
            case Verdict.NEXT:
                self._next(topic, channel, live)
            case Verdict.GAP:
                self._metrics.gaps.labels(channel.kind.value).inc()
                log.info("gap on a channel", channel=channel.name, after=topic.window.last, seq=live.seq)
                topic.held = [live]
                self._settle(channel)
            case Verdict.REPEAT:
                self._metrics.repeats.labels(channel.kind.value).inc()

    def _next(self, topic: Topic, channel: Channel, live: _Live) -> None:
        if live.event is envelope.NOTHING or not envelope.for_channel(live.event, channel):
            topic.window.advance(live.seq, None)
            return
        frame = self._frame(live.event, channel, live.seq)
        topic.window.advance(live.seq, frame)
        self._remember(topic.window, frame)
        if topic.states is not None:
            _keep_state(topic.states, live.event, frame)
        self._post(topic, channel, frame, live.stored)

    def _post(self, topic: Topic, channel: Channel, frame: Frame, stored: float | None) -> None:
        if topic.everything.members:
            self._engine.post(topic.everything, frame, self._written(channel, frame, stored))
        for group, pacer in topic.paced.values():
            self._pace(channel, group, pacer, frame)

    def _remember(self, window: Window, frame: Frame) -> None:
        """Keep windows within a bound over all channels: the oldest event anywhere goes first."""
        self._remembered.append(window)
        self._remembered_bytes += len(frame.plain)
        while self._remembered_bytes > self._settings.window_bytes:
            oldest = self._remembered.popleft()
            self._remembered_bytes -= oldest.forget_oldest()

    def _begin(self, window: Window, last: int) -> None:
        self._remembered_bytes -= window.begin(last)

    def _pace(self, channel: Channel, group: Group, pacer: Pacer[Frame], frame: Frame) -> None:
        """Send what the pace allows; a frame that is the state of nothing, such as a correction, never waits."""
        now = time.monotonic()
        if frame.key is None or pacer.offer(frame.key, frame, now):
            self._engine.post(group, frame, self._written(channel, frame, None))
        elif pacer not in self._pacing:
            self._schedule(channel, group, pacer, now)

    def _schedule(self, channel: Channel, group: Group, pacer: Pacer[Frame], now: float) -> None:
        due = pacer.next_due
        if due is not None and group.members:
            loop = asyncio.get_running_loop()
            self._pacing[pacer] = loop.call_later(max(0.0, due - now), self._release, channel, group, pacer)

    def _release(self, channel: Channel, group: Group, pacer: Pacer[Frame]) -> None:
        del self._pacing[pacer]
        now = time.monotonic()
        for frame in pacer.due(now):
            self._engine.post(group, frame, self._written(channel, frame, None))
        self._schedule(channel, group, pacer, now)

    def _frame(self, event: envelope.Event, channel: Channel, seq: int | None) -> Frame:
        text = envelope.splice(event, channel.name, seq, now_text())
        deflated = None
        # Compressed once for all, and only while there is somebody to send it to.
        if self._engine.deflating and len(text) >= self._settings.compression_min_bytes:
            deflated = frames.encode(frames.TEXT, frames.deflate(text), compressed=True)
        return Frame(frames.encode_text(text), deflated, event.entity)

    def _stored_frame(self, channel: Channel, stored: Stored) -> Frame | None:
        """Return a stored event as clients of `channel` get it; None if they do not."""
        try:
            event = envelope.read_event(stored.payload, channel.kind)
        except InvalidPayload as error:
            self._reject(channel, stored.subject, error)
            return None
        return self._frame(event, channel, stored.seq) if envelope.for_channel(event, channel) else None

    def _written(self, channel: Channel, frame: Frame, stored: float | None) -> Callable[[int], None]:
        delivered, bytes_delivered = self._delivered_to[channel.kind], self._bytes_to[channel.kind]
        size = len(frame.plain)

        def count(connections: int) -> None:
            delivered.inc(connections)
            bytes_delivered.inc(connections * size)
            self.analytics.sent(channel, connections, size)
            if stored is not None:
                self._metrics.delivery.observe(max(0.0, time.time() - stored))

        return count

    def _reject(self, channel: Channel, subject: str, error: InvalidPayload) -> None:
        self._metrics.events_rejected.labels(channel.kind.value).inc()
        self._complaints.allow(
            subject,
            time.monotonic(),
            lambda held: log.warning("message dropped", subject=subject, reason=error.reason, more_since=held),
        )

    # --- settling ----------------------------------------------------------------------------------------------------

    def _active(self, subject: str) -> None:
        """A subject has come into force: what is published from now on arrives."""
        self._settle(channel_of_subject(subject))

    def _doubt_everything(self) -> None:
        """NATS went away: whatever was published meanwhile did not arrive here, and who knows what comes back."""
        self.history.forget_epochs()
        for topic in self.hub.topics():
            if topic.held is None:
                topic.held = []

    def _settle_everything(self) -> None:
        for channel in self.hub:
            if channel.subject is not None and self.subscriptions.active(channel.subject):
                self._settle(channel)

    def _settle(self, channel: Channel) -> None:
        """Have the channel's order established and its waiting clients served, by one task at a time."""
        if channel not in self._settling:
            self._settling[channel] = asyncio.create_task(self._keep_settling(channel), name=f"settle-{channel.name}")

    async def _keep_settling(self, channel: Channel) -> None:
        try:
            await self._settle_until_done(channel)
        except Exception:  # a bug must not leave the channel silent without a word
            log.exception("settling failed", channel=channel.name)
        finally:
            # In the same turn in which nothing was left to do: whoever comes after this starts another task.
            del self._settling[channel]

    async def _settle_until_done(self, channel: Channel) -> None:
        while (topic := self.hub.topic(channel)) is not None and (topic.held is not None or topic.waiting):
            try:
                await self._nats.ready()
                before = topic.window.last, len(topic.waiting)
                if topic.held is not None:
                    await self._establish(topic, channel)
                else:
                    await self._serve_waiting(topic, channel)
                if (topic.window.last, len(topic.waiting)) == before:
                    await asyncio.sleep(_BEHIND_SECONDS)  # the replica that answered is behind: it will catch up
            except NoHistory:
                self._without_history(topic, channel)
            except NatsUnavailable as error:
                log.info("channel not settled yet", channel=channel.name, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _establish(self, topic: Topic, channel: Channel) -> None:
        """Bring the channel up to what the stream holds, then let go of what was held back."""
        epoch = await self.history.epoch(channel)
        window = topic.window
        if topic.epoch and epoch != topic.epoch:
            # The stream was made anew: sequences begin again, and nobody can say what was lost.
            window.last = None
            topic.states = None
        first_time, topic.epoch, topic.has_history = not topic.epoch, epoch, True
        if window.last is None:
            self._begin(window, await self.history.last(channel))
            if not first_time:
                self._tell_lost(topic, channel)
        else:
            await self._fill(topic, channel, window.last)
        for live in topic.release():
            if topic.held is None:
                self._place(topic, channel, live)
            else:
                topic.hold(live)  # another gap: it is settled in the next round
        for connection, join in list(topic.waiting.items()):
            if (
                topic.held is None
                and not join.offline
                and not (join.since is None and join.snapshot and topic.states is None)
            ):
                self._serve(topic, connection, join)

    async def _fill(self, topic: Topic, channel: Channel, last: int) -> None:
        """Deliver what the stream holds after `last`, the newest event delivered."""
        limit, most = self._settings.heal_max_messages, self._settings.heal_max_messages * 1_024
        read = await self.history.read(channel, max(1, last), limit=limit, max_bytes=most)
        events = [event for event in read.events if event.seq > last]
        # From 0 on, the channel had no event at all a moment ago: nothing can have been evicted.
        if not read.complete or (events and last and not _reaches(read, last)):
            self._begin(topic.window, await self.history.last(channel))
            topic.states = None
            self._tell_lost(topic, channel)
            return
        for stored in events:
            self._metrics.healed.labels(channel.kind.value).inc()
            try:
                event = envelope.read_event(stored.payload, channel.kind)
            except InvalidPayload as error:
                self._reject(channel, stored.subject, error)
                event = envelope.NOTHING
            self._next(topic, channel, _Live(event, stored.seq, 0, stored.stored))

    def _tell_lost(self, topic: Topic, channel: Channel) -> None:
        """Say to everyone on the channel that events are missing which the store no longer has; none is silent loss."""
        self._metrics.recoveries.labels("lost").inc()
        log.warning("events lost: the store does not reach back", channel=channel.name, epoch=topic.epoch)
        where = Subscribed(channel=channel.name, recovered=False, seq=topic.window.last, epoch=topic.epoch)
        why = "events are missing here which the store no longer has: load the current state"
        error = ErrorMessage(code=ErrorCode.HISTORY_GONE, message=why, channel=channel.name)
        for group in topic.groups():
            self._engine.post(group, Frame(frames.encode_text(where.to_json())))
            self._engine.post(group, Frame(frames.encode_text(error.to_json())))

    def _without_history(self, topic: Topic, channel: Channel) -> None:
        """There is no stream: the channel is live only, as with a plain NATS server."""
        topic.has_history = False
        topic.release()  # they have sequences, but of no stream that is there
        for connection, join in list(topic.waiting.items()):
            self._serve(topic, connection, join)
        log.info("channel without history", channel=channel.name)

    async def _serve_waiting(self, topic: Topic, channel: Channel) -> None:
        """Serve those the window alone could not: one read of the stream for everybody it can serve."""
        topic.attempts += 1
        last = topic.window.last or 0
        ahead = [join for join in topic.waiting.values() if join.since is not None and join.since > last]
        if ahead:
            tried = {topic.attempts - join.waits_since for join in ahead}
            overdue = _MAX_ATTEMPTS_AHEAD // 2 in tried
            if overdue and await self.history.last(channel) > (topic.window.last or 0):
                topic.held = []  # it should have come by now: fill in what is missing
                return
            await asyncio.sleep(_BEHIND_SECONDS)
        if any(join.snapshot and join.since is None for join in topic.waiting.values()) and topic.states is None:
            topic.states = await self._states(topic, channel)
        await self._find_cursors(topic, channel)
        asked = [join.since for join in topic.waiting.values() if join.since is not None]
        history = None
        if asked:
            history = await self.history.read(
                channel,
                max(1, min(asked)),
                limit=self._settings.recovery_max_messages + 1,
                max_bytes=self._settings.recovery_max_bytes * 2,
            )
        if topic.held is not None:
            return  # in doubt again meanwhile
        oldest = min(asked, default=None)
        for connection, join in list(topic.waiting.items()):
            # An incomplete read refuses whoever asked for most; the others are read for again, from later on. Who came
            # while it was read, and asks for more, is read for in the next round.
            early = history is not None and oldest is not None and join.since is not None and join.since < oldest
            if join.since == oldest or (not early and (history is None or history.complete or join.since is None)):
                self._serve(topic, connection, join, history)
            else:
                self._serve(topic, connection, join)

    async def _find_cursors(self, topic: Topic, channel: Channel) -> None:
        """Let those who come back without a position go on from what their user has acknowledged."""
        for connection, join in list(topic.waiting.items()):
            if join.offline and join.since is None and channel.id is not None:
                since = await self.cursors.read(channel.id, topic.epoch)
                if topic.waiting.get(connection) is join:
                    topic.waiting[connection] = replace(join, since=since, epoch=topic.epoch)

    async def _states(self, topic: Topic, channel: Channel) -> OrderedDict[str, Frame]:
        """Return the newest state of each thing among the channel's newest events."""
        last = topic.window.last or 0
        depth = self._settings.snapshot_depth
        start = 1 if channel.kind in (Kind.STORY, Kind.USER) else max(1, last - depth)
        read = await self.history.read(channel, start, limit=depth, max_bytes=depth * 4_096)
        states: OrderedDict[str, Frame] = OrderedDict()
        for stored in read.events:
            try:
                event = envelope.read_event(stored.payload, channel.kind)
            except InvalidPayload:
                continue  # it was counted when it came
            if envelope.for_channel(event, channel):
                _keep_state(states, event, self._frame(event, channel, stored.seq))
        for recent in topic.window.after(read.events[-1].seq if read.events else 0):
            _keep_recent(states, recent)
        return states


def _reaches(read: Read, since: int) -> bool:
    """Tell whether nothing is missing after `since`: the read began there and found that very event.

    What the store evicts goes oldest first, so if `since` is there, so is all that came after it. From 0 on, nothing is
    missing only if the stream still holds all it ever stored.
    """
    return read.whole if since == 0 else any(event.seq == since for event in read.events)


def _keep_state(states: OrderedDict[str, Frame], event: envelope.Event, frame: Frame) -> None:
    """Keep the newest state of each thing; what has ended is no state any more."""
    if event.entity is None:
        return
    states.pop(event.entity, None)
    if not event.final:
        states[event.entity] = frame
        if len(states) > _MAX_STATES:
            states.popitem(last=False)


def _keep_recent(states: OrderedDict[str, Frame], recent: Recent) -> None:
    if isinstance(recent.frame.key, str):
        states.pop(recent.frame.key, None)
        states[recent.frame.key] = recent.frame
