"""A channel's order: gaps, repeats, and what a window can and cannot bring a client up to date with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.engine import Frame
from services.gateway.window import Verdict, Window


def frame(seq: int) -> Frame:
    return Frame(f"event {seq}".encode())


def window(last: int, *sequences: int) -> Window:
    made = Window()
    made.begin(last)
    for seq in sequences:
        made.advance(seq, frame(seq))
    return made


def test_nothing_is_known_before_the_stream_has_been_asked() -> None:
    fresh = Window()
    assert fresh.judge(5, 4) is Verdict.GAP
    assert not fresh.covers(0)


@pytest.mark.parametrize(
    ("seq", "previous", "verdict"),
    [
        (8, 7, Verdict.NEXT),
        (12, 7, Verdict.NEXT),
        (12, 5, Verdict.NEXT),
        (12, 11, Verdict.GAP),
        (7, 5, Verdict.REPEAT),
        (3, 1, Verdict.REPEAT),
    ],
)
def test_an_event_is_next_if_its_predecessor_has_been_seen(seq: int, previous: int, verdict: Verdict) -> None:
    assert window(5, 7).judge(seq, previous) is verdict


def test_a_window_covers_from_its_base_to_its_end_and_no_further() -> None:
    made = window(5, 7, 9)
    assert [made.covers(since) for since in (4, 5, 6, 7, 9, 10)] == [False, True, True, True, True, False]
    assert [event.seq for event in made.after(5)] == [7, 9]
    assert [event.seq for event in made.after(7)] == [9]
    assert made.after(9) == []


def test_forgetting_the_oldest_moves_the_base() -> None:
    made = window(5, 7, 9)
    assert made.forget_oldest() == len(b"event 7")
    assert not made.covers(6)
    assert made.covers(7)
    made.forget_oldest()
    assert made.forget_oldest() == 0
    assert made.covers(9)


def test_an_event_clients_do_not_get_has_a_place_in_the_order_all_the_same() -> None:
    made = window(5)
    made.advance(6, None)
    assert made.last == 6
    assert made.judge(7, 6) is Verdict.NEXT
    assert made.after(5) == []


def test_beginning_anew_frees_what_was_kept() -> None:
    made = window(5, 7, 9)
    assert made.begin(20) == len(b"event 7event 9")
    assert (made.base, made.last, made.after(0)) == (20, 20, [])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.data())
def test_whatever_is_lost_or_repeated_on_the_way_what_is_taken_is_the_whole_in_order(
    steps: list[int], data: st.DataObject
) -> None:
    """Events come with losses and repeats; on a gap the missing ones are read from the stream, as the gateway does."""
    stream = [sum(steps[: number + 1]) for number in range(len(steps))]
    previous = dict(zip(stream, [0, *stream], strict=False))
    made, taken = window(0), list[int]()
    for at, seq in enumerate(stream):
        fate = data.draw(st.sampled_from(["arrives", "lost", "twice"])) if at < len(stream) - 1 else "arrives"
        for _ in range({"arrives": 1, "lost": 0, "twice": 2}[fate]):
            verdict = made.judge(seq, previous[seq])
            if verdict is Verdict.REPEAT:
                continue
            missing = [one for one in stream if (made.last or 0) < one < seq] if verdict is Verdict.GAP else []
            for one in [*missing, seq]:
                assert made.judge(one, previous[one]) is Verdict.NEXT
                made.advance(one, frame(one))
                taken.append(one)
    assert taken == stream
