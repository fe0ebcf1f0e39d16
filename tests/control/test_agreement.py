"""How two ends agree on the state of their paths."""

from __future__ import annotations

from mpt.control.agreement import CONFIRM_TIME, LEASE, REFRESH_TIME, Agreement, Report, effective_status
from mpt.model import Status


def agreement() -> Agreement:
    """Two paths with keepalives that are up, a third one without, down."""
    return Agreement([True, True, False], [True, True, False])


def told(one: Agreement, now: float) -> Report | None:
    """Return the next report, acknowledged at once."""
    report = one.next_report(now)
    if report is not None:
        one.report_ended(True, now)
    return report


def test_what_holds_at_the_start_is_not_reported() -> None:
    """Both ends know nothing of each other yet, and keepalives will say it."""
    assert agreement().next_report(0) is None and agreement().next_deadline(0) is None


def test_a_change_is_reported_and_then_confirmed() -> None:
    """At once, once more, and while it is down again and again; one that is up is then left alone."""
    one = agreement()
    one.own_state(0, False, 5.0)
    assert one.next_deadline(5.0) == 5.0
    assert told(one, 5.0) == Report(0, False)
    assert told(one, 5.0) is None and one.next_deadline(5.0) == 5.0 + CONFIRM_TIME
    assert told(one, 7.0) == Report(0, False)
    assert one.next_deadline(7.0) == 7.0 + REFRESH_TIME
    assert told(one, 17.0) == Report(0, False)
    one.own_state(0, True, 18.0)
    assert told(one, 18.0) == Report(0, True)
    assert told(one, 20.0) == Report(0, True)
    assert one.next_deadline(20.0) is None


def test_what_an_earlier_agreement_has_said_is_corrected() -> None:
    """An "up" is reported although nothing has changed, twice like every report."""
    before = agreement()
    before.own_state(0, False, 5.0)
    assert told(before, 5.0) == Report(0, False)
    assert [before.may_be_thought_down(index) for index in range(3)] == [True, False, True]
    after = agreement()
    after.report_anew(0, 6.0)
    assert told(after, 6.0) == Report(0, True)
    assert not after.may_be_thought_down(0)
    assert told(after, 6.0 + CONFIRM_TIME) == Report(0, True)
    assert after.next_deadline(20.0) is None


def test_the_same_again_is_no_news() -> None:
    """Only a change of a path is reported."""
    one = agreement()
    one.own_state(0, True, 1.0)
    one.own_state(2, False, 1.0)
    assert one.next_report(1.0) is None


def test_a_report_that_failed_is_repeated_less_and_less_often() -> None:
    """It is repeated after 1, 2, 4, 8, 10, 10 ... seconds until it gets through."""
    one = agreement()
    one.own_state(0, False, 0.0)
    times = []
    now = 0.0
    for _ in range(7):
        assert one.next_report(now) == Report(0, False)
        assert one.next_deadline(now) is None  # one at a time
        one.report_ended(False, now)
        deadline = one.next_deadline(now)
        assert deadline is not None
        times.append(deadline - now)
        now = deadline
    assert times == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_a_change_during_a_report_is_reported_after_it() -> None:
    """The peer hears of the change, whether the first report got through or not."""
    for acknowledged in (True, False):
        one = agreement()
        one.own_state(0, False, 0.0)
        assert one.next_report(0.0) == Report(0, False)
        one.own_state(0, True, 0.1)
        assert one.next_report(0.1) is None
        one.report_ended(acknowledged, 0.2)
        assert one.next_report(0.2) == Report(0, True)


def test_a_report_that_failed_may_have_been_heard() -> None:
    """Only the acknowledgement was lost: when the path is good again the peer must hear of that."""
    one = agreement()
    one.own_state(0, False, 0.0)
    assert one.next_report(0.0) == Report(0, False)
    one.report_ended(False, 3.0)
    one.own_state(0, True, 3.5)
    assert one.next_report(3.5) == Report(0, True)


def test_a_change_that_was_never_told_needs_no_report_back() -> None:
    """A path that is down and up again before a report has nothing to report."""
    one = agreement()
    one.own_state(0, False, 0.0)
    one.own_state(0, True, 0.0)
    assert one.next_report(0.0) is None


def test_the_oldest_news_goes_first() -> None:
    """Of several changed paths the oldest change is reported first."""
    one = agreement()
    one.own_state(1, False, 1.0)
    one.own_state(0, False, 2.0)
    one.own_state(2, True, 3.0)
    assert [told(one, 3.0) for _ in range(4)] == [Report(1, False), Report(0, False), Report(2, True), None]


def test_what_the_peer_says_is_a_lease_where_there_are_keepalives() -> None:
    """After 30 seconds without a repetition keepalives alone decide."""
    one = agreement()
    one.peer_says(0, False, 0.0)
    assert one.peer_down(0, 29.9) and not one.peer_down(1, 0.0) and one.next_deadline(0.0) == LEASE
    one.peer_says(0, False, 25.0)
    assert one.peer_down(0, 54.9) and not one.peer_down(0, 55.0) and one.next_deadline(55.0) is None
    one.peer_says(0, False, 60.0)
    one.peer_says(0, True, 61.0)
    assert not one.peer_down(0, 61.0)


def test_without_keepalives_the_word_of_the_peer_holds() -> None:
    """The report has no expiry: nothing else could say that the path is good again."""
    one = agreement()
    one.peer_says(2, False, 0.0)
    assert one.peer_down(2, 1e9) and one.next_deadline(0.0) is None
    one.peer_says(2, True, 1e9)
    assert not one.peer_down(2, 1e9)


def test_what_the_peer_says_is_never_reported_back() -> None:
    """Two ends cannot keep each other down, and crossing reports undo nothing."""
    one = agreement()
    one.peer_says(0, False, 0.0)
    assert one.next_report(0.0) is None
    one.own_state(0, False, 1.0)
    assert told(one, 1.0) == Report(0, False)
    one.peer_says(0, True, 2.0)
    assert told(one, 3.0) == Report(0, False)


def test_a_path_is_up_only_where_both_say_so() -> None:
    """The state here comes first: manual-down stays manual-down, whatever the peer says."""
    assert effective_status(Status.OK, False) is Status.OK
    assert effective_status(Status.OK, True) is Status.DOWN
    for own in (Status.MANUAL_DOWN, Status.INTERFACE_DOWN, Status.ADDRESS_DOWN, Status.DOWN):
        assert effective_status(own, True) is effective_status(own, False) is own
