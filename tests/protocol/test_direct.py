"""The direct path's machine by itself."""

import random

import pytest

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import MAX_CANDIDATES
from quicpipe_lab.protocol.direct import DirectPath
from quicpipe_lab.protocol.direct_states import (
    TRANSITIONS,
    CommandKind,
    DirectTiming,
    State,
    Trigger,
)
from quicpipe_lab.protocol.events import EndpointEvent, PunchAnswered, PunchFailed, PunchStarted
from quicpipe_lab.protocol.wire import (
    PUNCH_LENGTH,
    Punch,
    PunchKind,
    decode_punch,
    encode_punch,
)

KEY = bytes(range(32))
THERE = TransportAddress("203.0.113.2", 6000)
ELSEWHERE = TransportAddress("203.0.113.2", 6001)


def machine(*, dialer: bool = True) -> DirectPath:
    return DirectPath(dialer, random.Random(1).randbytes)


def state_of(path: DirectPath) -> State:
    """A call, so that mypy does not take the state for what it was a line before."""
    return path.state


def punches(path: DirectPath, now: float) -> list[tuple[Punch, TransportAddress]]:
    sent = path.datagrams_to_send(now)
    assert all(len(data) == PUNCH_LENGTH <= 100 for data, _ in sent)
    decoded = [(decode_punch(data, KEY), address) for data, address in sent]
    return [(punch, address) for punch, address in decoded if punch is not None]


def events(path: DirectPath) -> list[EndpointEvent]:
    found = []
    while (event := path.next_event()) is not None:
        found.append(event)
    return found


def commands(path: DirectPath) -> list[CommandKind]:
    found = []
    while (command := path.next_command()) is not None:
        found.append(command.kind)
    return found


def run(path: DirectPath, until: float) -> list[tuple[float, Punch, TransportAddress]]:
    """Fire timers up to a time; what was sent, with its time."""
    log, now = [(0.0, *one) for one in punches(path, 0.0)], 0.0
    while (timer := path.get_timer()) is not None and timer <= until:
        now = max(now, timer)
        path.handle_timer(now)
        log += [(now, *one) for one in punches(path, now)]
    return log


def answer(path: DirectPath, punch: Punch, source: TransportAddress, now: float) -> None:
    path.receive(encode_punch(Punch(PunchKind.PONG, False, punch.transaction), KEY), source, now)


def direct(path: DirectPath) -> DirectPath:
    """Bring a controller onto the direct path at time 0."""
    path.punch(KEY, [THERE], None, 0.0)
    ((ping, _),) = punches(path, 0.0)
    answer(path, ping, THERE, 0.0)
    path.moved(THERE, 0.0)
    commands(path)
    events(path)
    return path


def test_table_names_every_state_and_trigger() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)


def test_silent_until_told_to_punch() -> None:
    path = machine()
    assert path.get_timer() is None
    assert not path.datagrams_to_send(0.0)


def test_a_round_spends_twenty_datagrams_and_gives_up() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    log = run(path, 5.0)
    first_round = [one for one in log if one[0] < path.timing.retry_s]
    assert len(first_round) == 20
    assert isinstance(events(path)[0], PunchStarted)


def test_a_round_lasts_several_round_trips_of_a_long_path() -> None:
    path = machine()
    path.punch(KEY, [THERE], 0.6, 0.0)
    ended: list[float] = []
    now = 0.0
    while not ended and (timer := path.get_timer()) is not None:
        now = timer
        path.handle_timer(now)
        path.datagrams_to_send(now)
        ended += [now for event in events(path) if isinstance(event, PunchFailed)]
    assert ended[0] > 4 * 0.6


def test_answer_from_where_the_question_went_is_nominated() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    ((ping, _),) = punches(path, 0.0)
    answer(path, ping, THERE, 0.03)
    assert state_of(path) is State.VALIDATING
    assert commands(path) == [CommandKind.REFRESH, CommandKind.PROBE]
    (_, answered) = events(path)
    assert isinstance(answered, PunchAnswered)
    assert answered.rtt_s == pytest.approx(0.03)
    assert not answered.peer_reflexive


def test_answer_from_elsewhere_has_to_do_when_no_better_one_comes() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    ((ping, _),) = punches(path, 0.0)
    answer(path, ping, ELSEWHERE, 0.03)
    assert state_of(path) is State.PUNCHING
    assert path.canonical(ELSEWHERE) == ELSEWHERE
    while state_of(path) is State.PUNCHING:
        timer = path.get_timer()
        assert timer is not None
        path.handle_timer(timer)
        path.datagrams_to_send(timer)
    assert state_of(path) is State.VALIDATING
    assert path.canonical(ELSEWHERE) == THERE
    (_, answered) = events(path)
    assert isinstance(answered, PunchAnswered)
    assert (answered.address, answered.heard_from) == (THERE, ELSEWHERE)


def test_a_straight_answer_is_better_than_an_earlier_one_from_elsewhere() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    ((first, _),) = punches(path, 0.0)
    answer(path, first, ELSEWHERE, 0.01)
    path.handle_timer(0.02)
    ((second, _),) = punches(path, 0.02)
    answer(path, second, THERE, 0.03)
    assert state_of(path) is State.VALIDATING
    assert path.canonical(ELSEWHERE) == ELSEWHERE


def test_forged_and_reflected_datagrams_leave_no_trace() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    ((ping, _),) = punches(path, 0.0)
    own = encode_punch(ping, KEY)
    forged = encode_punch(Punch(PunchKind.PING, False, bytes(8)), bytes(32))
    unknown = encode_punch(Punch(PunchKind.PONG, False, bytes(8)), KEY)
    for data in (own, forged, unknown, b"", b"\x0c", bytes(PUNCH_LENGTH)):
        path.receive(data, ELSEWHERE, 0.01)
    assert state_of(path) is State.PUNCHING
    assert not punches(path, 0.01)


def test_ping_from_an_unknown_address_makes_it_a_candidate() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    punches(path, 0.0)
    path.receive(encode_punch(Punch(PunchKind.PING, False, b"12345678"), KEY), ELSEWHERE, 0.01)
    sent = punches(path, 0.01)
    assert (Punch(PunchKind.PONG, True, b"12345678"), ELSEWHERE) in sent
    assert [punch.kind for punch, address in sent if address == ELSEWHERE].count(
        PunchKind.PING
    ) == 1


def test_candidates_are_bounded() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    for port in range(1000, 1100):
        ping = encode_punch(Punch(PunchKind.PING, False, port.to_bytes(8, "big")), KEY)
        path.receive(ping, TransportAddress("203.0.113.9", port), 0.0)
    probed = {a for p, a in punches(path, 0.0) if p.kind is PunchKind.PING}
    assert len(probed) == MAX_CANDIDATES


def test_validation_that_comes_to_nothing_is_abandoned() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    ((ping, _),) = punches(path, 0.0)
    answer(path, ping, THERE, 0.0)
    run(path, 0.95)
    asked = commands(path)
    challenged = [CommandKind.PROBE] * path.timing.challenges
    assert asked == [CommandKind.REFRESH, *challenged, CommandKind.ABANDON]
    assert state_of(path) is State.RELAYED


def test_heartbeats_are_slow_when_idle_and_fast_when_busy() -> None:
    idle = [now for now, *_ in run_answering(direct(machine()), 10.0)]
    assert 9 <= len(idle) <= 11
    busy_path = direct(machine())
    busy_path.set_busy(True, 0.0)
    busy = [now for now, *_ in run_answering(busy_path, 10.0)]
    assert 95 <= len(busy) <= 101


def run_answering(path: DirectPath, until: float) -> list[tuple[float, Punch]]:
    log, now = [], 0.0
    while (timer := path.get_timer()) is not None and timer <= until:
        now = timer
        path.handle_timer(now)
        for punch, address in punches(path, now):
            log.append((now, punch))
            answer(path, punch, address, now)
    return log


def test_silence_asks_for_the_relay_once() -> None:
    path = direct(machine())
    path.set_busy(True, 0.0)
    run(path, 0.6)
    assert state_of(path) is State.RELAYED
    assert commands(path) == [CommandKind.RETURN]


def test_own_sleep_is_not_the_peers_silence() -> None:
    """A process that was not scheduled for a second asks again before it judges."""
    path = direct(machine())
    path.set_busy(True, 0.0)
    run(path, 0.15)
    path.handle_timer(1.5)
    assert state_of(path) is State.DIRECT
    ((ping, address),) = punches(path, 1.5)
    answer(path, ping, address, 1.51)
    path.handle_timer(1.6)
    assert state_of(path) is State.DIRECT


def test_being_heard_of_by_acknowledgements_counts_as_life() -> None:
    path = direct(machine())
    path.set_busy(True, 0.0)
    now = 0.0
    while now < 3.0:
        timer = path.get_timer()
        assert timer is not None
        now = timer
        path.handle_timer(now)
        path.datagrams_to_send(now)
        path.heard()
    assert state_of(path) is State.DIRECT


def test_a_loss_of_two_heartbeats_is_forgiven() -> None:
    path = direct(machine())
    path.set_busy(True, 0.0)
    now, count = 0.0, 0
    while now < 5.0:
        timer = path.get_timer()
        assert timer is not None
        now = timer
        path.handle_timer(now)
        for punch, address in punches(path, now):
            count += 1
            if count % 3 == 0:
                answer(path, punch, address, now)
    assert state_of(path) is State.DIRECT


def test_retries_back_off() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    run(path, 200.0)
    waits = [event.retry_s for event in events(path) if isinstance(event, PunchFailed)]
    assert waits[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert commands(path).count(CommandKind.NEW_ROUND) >= 6


def test_follower_neither_validates_nor_retries() -> None:
    path = machine(dialer=False)
    path.punch(KEY, [THERE], None, 0.0)
    ((ping, _),) = punches(path, 0.0)
    path.receive(encode_punch(Punch(PunchKind.PONG, True, ping.transaction), KEY), THERE, 0.01)
    assert state_of(path) is State.PUNCHING
    run(path, 60.0)
    assert state_of(path) is State.RELAYED
    assert commands(path) == [CommandKind.REFRESH]
    path.moved(THERE, 61.0)
    assert state_of(path) is State.DIRECT
    assert path.get_timer() is None


def test_no_candidates_is_a_failure_at_once_and_not_a_hang() -> None:
    path = DirectPath(True, random.Random(1).randbytes, DirectTiming())
    path.punch(KEY, [], None, 0.0)
    timer = path.get_timer()
    assert timer is not None
    path.handle_timer(max(timer, 0.0))
    assert state_of(path) is State.RELAYED
    assert any(isinstance(event, PunchFailed) for event in events(path))


def test_an_answer_to_an_earlier_round_counts_for_nothing() -> None:
    path = machine()
    path.punch(KEY, [THERE], None, 0.0)
    ((old, _),) = punches(path, 0.0)
    run(path, 1.2)
    assert state_of(path) is State.RELAYED
    path.punch(KEY, [THERE], None, 1.5)
    answer(path, old, THERE, 1.6)
    assert state_of(path) is State.PUNCHING


def test_unanswered_questions_are_forgotten() -> None:
    path = machine()
    for number in range(1000):
        path.punch(KEY, [THERE], None, float(number))  # begins anew each time
        punches(path, float(number))
    assert len(path._transactions) <= 512


def test_a_stopped_machine_is_silent() -> None:
    path = direct(machine())
    path.stop()
    path.receive(encode_punch(Punch(PunchKind.PING, False, b"12345678"), KEY), THERE, 0.1)
    assert not run(path, 100.0)
    assert path.get_timer() is None
