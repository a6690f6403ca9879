"""Permissions, addresses, buckets, keys, analytics: the pure parts of who may do how much."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from services.gateway.addresses import client_address, parse_networks
from services.gateway.analytics import Analytics, Report, Tally, summary, together
from services.gateway.jwks import read_keys
from services.gateway.permissions import EVERYTHING, NOTHING, parse_grant, refusal
from services.gateway.session import Close, Join, Leave, Rules, Send, Session
from shared import channels
from shared.channels import Kind
from shared.errors import StartupFailed
from shared.limits import Buckets, Rate
from shared.wire import CloseCode, ErrorCode, ErrorMessage

# --- permissions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        (["*"], ["trends", "stories", "story:1", "trust_scores"], []),
        (["trends"], ["trends"], ["stories", "story:1", "trust_scores"]),
        (["story:*"], ["story:1", "story:2"], ["stories", "trends"]),
        (["story:1", "stories"], ["story:1", "stories"], ["story:2"]),
        (["user:*", "user:bob", "story:>", "planets"], [], ["user:bob", "story:1", "trends"]),
        ([], [], ["trends"]),
    ],
)
def test_a_grant_covers_what_its_patterns_say(patterns: list[str], allowed: list[str], refused: list[str]) -> None:
    grant, _ = parse_grant(patterns)
    for name in allowed:
        assert refusal(channels.parse_channel(name), "ann", grant) is None
    for name in refused:
        assert refusal(channels.parse_channel(name), "ann", grant) is ErrorCode.FORBIDDEN


def test_everything_is_one_object_and_never_somebody_elses_channel() -> None:
    assert parse_grant(["trends", "*"])[0] is EVERYTHING
    assert refusal(channels.user("bob"), "ann", EVERYTHING) is ErrorCode.FORBIDDEN
    assert refusal(channels.user("ann"), "ann", NOTHING) is None
    assert refusal(channels.GENERAL, None, NOTHING) is None
    assert refusal(channels.TRENDS, None, NOTHING) is ErrorCode.UNAUTHORIZED


def test_a_new_token_that_grants_less_takes_channels_away() -> None:
    session, rules = Session(1, "ann"), Rules(Rate(100, 60.0), 10)
    for name in ("trends", "story:1", "user:ann"):
        assert isinstance(session.join(name, rules, 5.0), Join)
    leave, error = session.identify("ann", parse_grant(["trends"])[0])
    assert leave == Leave(channels.story("1"), joined=5)
    assert isinstance(error, Send)
    assert isinstance(error.message, ErrorMessage)
    assert (error.message.code, error.message.channel) == ("forbidden", "story:1")
    assert [channel.name for channel in session.channels] == ["trends", "user:ann"]


# --- limits ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0, 3), st.integers(1, 3)), max_size=80),
    st.integers(1, 5),
    st.floats(0.5, 10),
)
def test_no_key_ever_gets_more_than_its_rate(uses: list[tuple[int, float, int]], count: int, window: float) -> None:
    buckets, now = Buckets[int](Rate(count, window), max_keys=1_000), 0.0
    spent: dict[int, list[tuple[float, int]]] = {}
    for key, pause, cost in uses:
        now += pause
        if not buckets.allow(key, now, cost):
            spent.setdefault(key, []).append((now, min(cost, count)))
    for times in spent.values():
        for start, _ in times:
            within = sum(cost for at, cost in times if start <= at < start + window - 1e-6)
            assert within <= 2 * count  # a full bucket, and what it earned meanwhile


@given(st.lists(st.integers(0, 10_000), max_size=400), st.integers(2, 50))
def test_buckets_stay_within_their_bound(keys: list[int], most: int) -> None:
    buckets = Buckets[int](Rate(2, 60.0), max_keys=most)
    for number, key in enumerate(keys):
        buckets.allow(key, number * 0.01)
        assert len(buckets) <= most


def test_who_is_not_kept_again_has_a_full_bucket() -> None:
    buckets = Buckets[str](Rate(1, 60.0), max_keys=2)
    assert not buckets.allow("a", 0.0)
    assert buckets.allow("a", 0.0) == pytest.approx(60.0)
    assert not buckets.allow("b", 0.0)
    assert not buckets.allow("c", 70.0), "a and b are full again, and forgotten"
    assert len(buckets) == 1


def test_a_client_that_does_not_listen_is_closed() -> None:
    rules = Rules(Rate(2, 60.0), 10, refusals=Rate(3, 60.0))
    session = Session(1)
    answers = [session.receive('{"type":"ping"}', rules, 1.0) for _ in range(6)]
    assert [answer.to for answer in answers] == ["ping", "ping", *["refused"] * 4]
    assert [isinstance(answer.effects[-1], Close) for answer in answers] == [False] * 5 + [True]
    last = answers[-1].effects[-1]
    assert isinstance(last, Close)
    assert last.code is CloseCode.RATE_LIMITED


def test_a_user_shares_one_limit_over_all_connections() -> None:
    rules = Rules(Rate(100, 60.0), 10, users=Rate(3, 60.0))
    sessions = [Session(number, "ann") for number in range(4)]
    assert [session.receive('{"type":"ping"}', rules, 1.0).to for session in sessions] == ["ping"] * 3 + ["refused"]
    assert Session(9, "bob").receive('{"type":"ping"}', rules, 1.0).to == "ping"


def test_naming_many_channels_costs_as_much_as_many_messages() -> None:
    rules, session = Rules(Rate(12, 60.0), 200), Session(1)
    many = json.dumps({"type": "subscribe", "channels": [f"story:{number}" for number in range(100)]})
    assert session.receive(many, rules, 1.0).to == "subscribe"
    assert session.receive(many, rules, 1.0).to == "refused"


def test_a_channel_takes_so_many_subscribes_and_no_more() -> None:
    rules = Rules(Rate(100, 60.0), 10, subscribes=Rate(2, 60.0))
    effects = [Session(number).join("story:1", rules, 1.0) for number in range(3)]
    assert [isinstance(effect, Join) for effect in effects] == [True, True, False]
    assert isinstance(Session(9).join("story:2", rules, 1.0), Join)


# --- addresses -------------------------------------------------------------------------------------------------------

PROXIES = parse_networks("10.0.0.0/8, fd00::/8, 127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # anybody may write that
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # what the client wrote before the proxy
        ("10.1.2.3", "198.51.100.1, 10.9.9.9", "198.51.100.1"),  # two proxies of ours
        ("10.1.2.3", "nonsense", "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("127.0.0.1", None, None),  # the machine itself
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::1", None, None),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
        ("", None, ""),
    ],
)
def test_an_address_is_believed_as_far_as_trusted_proxies_wrote_it(
    peer: str, forwarded: str | None, expected: str | None
) -> None:
    assert client_address(peer, forwarded, PROXIES) == expected


@given(st.text(max_size=40), st.none() | st.text(max_size=60))
def test_no_header_crashes_it(peer: str, forwarded: str | None) -> None:
    client_address(peer, forwarded, PROXIES)


def test_a_network_that_is_none_stops_the_start() -> None:
    with pytest.raises(StartupFailed, match="TRUSTED_PROXIES"):
        parse_networks("everybody")


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_usable_keys_of_a_set_are_found_and_the_others_left() -> None:
    keys = {
        "r": RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 2_048).public_key(), as_dict=True),
        "e": ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True),
        "o": OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True),
        "short": RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 1_024).public_key(), as_dict=True),
        "curve": ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
    }
    document = {
        "keys": [
            *({**key, "kid": name} for name, key in keys.items()),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {**keys["r"], "kid": "for encryption", "use": "enc"},
            {**keys["r"], "kid": "another algorithm", "alg": "RS512"},
            {"kty": "new"},
            "no key",
        ]
    }
    found = read_keys(document)
    assert {name: key.algorithm for name, key in found.items()} == {"r": "RS256", "e": "ES256", "o": "EdDSA"}


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys"])
def test_what_is_no_key_set_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="JWKS"):
        read_keys(document)


# --- analytics -------------------------------------------------------------------------------------------------------


def test_what_happens_on_a_channel_is_counted_for_it_and_for_its_kind() -> None:
    analytics = Analytics()
    for name in ("1", "1", "2"):
        analytics.joined(channels.story(name))
    analytics.sent(channels.story("1"), connections=2, size=100)
    analytics.left(channels.story("1"), 60.0)
    kinds = {row.name: row for row in summary(analytics.report(10), "pod", 10).kinds}
    story = kinds["story"]
    assert (story.subscribes, story.unsubscribes, story.concurrent, story.peak) == (3, 1, 2, 3)
    assert (story.messages, story.bytes) == (2, 200)
    assert story.median_seconds == pytest.approx(60.0, rel=0.1)
    top = summary(analytics.report(1), "pod", 1).top
    assert [(row.name, row.messages) for row in top] == [("story:1", 2)]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_the_median_is_right_within_a_tenth(lengths: list[float]) -> None:
    analytics = Analytics()
    for seconds in lengths:
        analytics.joined(channels.TRENDS)
        analytics.left(channels.TRENDS, seconds)
    median = analytics.kinds[Kind.TRENDS].median_seconds
    lower = sorted(lengths)[(len(lengths) - 1) // 2]
    assert median is not None
    assert (lower + 1) / 1.1 <= median + 1 <= (lower + 1) * 1.1


def test_analytics_stay_within_their_bound_and_keep_what_is_used() -> None:
    analytics = Analytics(max_channels=10)
    analytics.joined(channels.story("kept"))
    for number in range(100):
        analytics.joined(channels.story(f"s{number}"))
        analytics.left(channels.story(f"s{number}"), 1.0)
        assert len(analytics) <= 10
    assert "story:kept" in analytics.report(10).channels
    assert analytics.kinds[Kind.STORY].subscribes == 101


def test_pods_add_up() -> None:
    one = Report(kinds={"trends": Tally(subscribes=1, lengths={4: 1})}, channels={"trends": Tally(messages=5)})
    two = Report(kinds={"trends": Tally(subscribes=2, lengths={4: 2})}, channels={"story:1": Tally(messages=7)})
    total = together([one, two])
    assert (total.pods, total.kinds["trends"].subscribes, total.kinds["trends"].lengths) == (2, 3, {4: 3})
    assert [row.name for row in summary(total, "all", 5).top] == ["story:1", "trends"]
