"""The deadlines of many things."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpt.control.deadlines import Deadlines

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 20)),
        st.tuples(st.just("discard"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.integers(0, 20)),
    ),
    max_size=300,
)


@given(STEPS)
def test_it_is_a_table_of_times(steps: list[tuple[str, int, int]]) -> None:
    """As a dict is, whose smallest value is looked for."""
    deadlines, model = Deadlines[int](), dict[int, float]()
    for step, item, time in steps:
        match step:
            case "set":
                deadlines.set(item, time)
                model[item] = time
            case "discard":
                deadlines.discard(item)
                model.pop(item, None)
            case _:
                taken = deadlines.take(time)
                assert [model[each] for each in taken] == sorted(at for at in model.values() if at <= time)
                for each in taken:
                    del model[each]
        assert deadlines.next() == min(model.values(), default=None)
        assert len(deadlines) == len(model)


def test_changes_take_no_memory() -> None:
    """A deadline that moves again and again is one deadline."""
    deadlines = Deadlines[str]()
    for number in range(10_000):
        deadlines.set("a", number)
        deadlines.set("b", 20_000 - number)
    assert len(deadlines._heap) < 200
