"""How far a job is, and how long it says that the rest will take."""

import pytest

from registry.services.steps import Taken
from steernode.durations import say_time_left
from steernode.engine.access.work import Planned
from workers.progress import Progress

PLAN = [Planned("pairs", "replies", 10), Planned("dose", "texts", 100), Planned("answering", "replies", 40)]


def test_there_is_no_estimate_before_every_kind_of_work_that_is_left_has_a_rate():
    progress = Progress(PLAN)
    assert (progress.done, progress.total, progress.seconds_left()) == (0, 150, None)
    progress.enter("pairs")
    progress.add(Taken("pairs", "replies", 10, 300, 5.0))
    # Texts are left, and nobody knows how long one takes.
    assert progress.seconds_left() is None
    progress.enter("dose")
    progress.add(Taken("dose", "texts", 50, 500, 10.0))
    # 50 texts at 0.2 s, and 40 replies at the half second that those to the pairs took.
    assert progress.seconds_left() == pytest.approx(50 * 0.2 + 40 * 0.5)


def test_a_stage_goes_by_its_own_rate_as_soon_as_it_has_one():
    progress = Progress(PLAN, [Taken("pairs", "replies", 10, 300, 5.0), Taken("dose", "texts", 100, 0, 1.0)])
    progress.enter("answering")
    progress.add(Taken("answering", "replies", 10, 600, 20.0))
    assert progress.seconds_left() == pytest.approx(30 * 2.0)
    assert progress.tokens_per_second("answering", "replies") == pytest.approx(30)


def test_a_stage_says_how_far_it_is_and_how_long_it_takes():
    progress = Progress(PLAN)
    assert progress.say("pairs", "replies") == "0 of 10 replies"
    progress.add(Taken("pairs", "replies", 4, 100, 2.0))
    assert progress.say("pairs", "replies") == "4 of 10 replies, this stage about 3 s left"
    progress.add(Taken("pairs", "replies", 6, 100, 3.0))
    assert progress.say("pairs", "replies") == "10 of 10 replies"


def test_what_an_earlier_attempt_did_is_done_at_its_rate_and_the_time_between_does_not_count():
    before = [Taken("pairs", "replies", 10, 300, 5.0), Taken("dose", "texts", 60, 600, 12.0)]
    resumed, in_one_go = Progress(PLAN, before), Progress(PLAN)
    for taken in before:
        in_one_go.add(taken)
    assert resumed.done == in_one_go.done == 70
    assert resumed.seconds_left() == in_one_go.seconds_left() == pytest.approx(40 * 0.2 + 40 * 0.5)


def test_done_and_total_never_fall_and_what_did_not_come_about_is_over_with_its_stage():
    progress, seen = Progress(PLAN), []

    def look() -> None:
        seen.append((progress.done, progress.total))

    progress.enter("pairs")
    progress.add(Taken("pairs", "replies", 4, 0, 1.0))
    look()
    # Pairs to which both sides say the same leave fewer texts; the changed plan of a call only adds.
    progress.enter("dose")
    look()
    progress.expect("dose", "texts", 60)
    progress.add(Taken("dose", "texts", 60, 0, 1.0))
    look()
    progress.enter("a stage that nobody planned")
    progress.add(Taken("a stage that nobody planned", "replies", 5, 0, 1.0))
    look()
    progress.enter("answering")
    progress.expect("answering", "replies", 50)
    look()
    progress.add(Taken("answering", "replies", 50, 0, 1.0))
    look()
    assert seen == [(4, 150), (10, 150), (70, 150), (70, 150), (110, 160), (160, 160)]
    assert progress.seconds_left() == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "no estimate yet"),
        (3, "about 3 s left"),
        (119, "about 119 s left"),
        (150, "about 2 min left"),
        (7199, "about 120 min left"),
        (9000, "about 2.5 h left"),
    ],
)
def test_time_left_is_said_as_coarsely_as_it_is_known(seconds, said):
    assert say_time_left(seconds) == said
