"""What test items have told already: openings that count, and how often a suite was looked at."""

from collections.abc import Mapping, Sequence

from django.db.models import Count, QuerySet

from registry.models import BaseModel, EvalItem, EvalSuite, Evaluation, JobState, Split, SuiteKind, SuiteOpening

_LEAVES_NOTHING = (JobState.FAILED, JobState.CANCELLED)


def axis_of(suites: Sequence[EvalSuite]) -> str:
    """What these suites judge: the axis of the behaviour suite."""
    return next((suite.axis for suite in suites if suite.kind == SuiteKind.BEHAVIOUR), "")


def openings_of(axis: str, base_model: BaseModel) -> QuerySet[SuiteOpening]:
    """Those whose job left evidence, or may yet."""
    return SuiteOpening.objects.filter(axis=axis, base_model=base_model).exclude(job__state__in=_LEAVES_NOTHING)


def find_opened(suites: Sequence[EvalSuite], base_model: BaseModel) -> tuple[EvalSuite, str] | None:
    """The first suite whose test items judged a vector of this axis on this base model before, and in words what would do instead.

    Items are told by what they ask, so that neither another name nor another version makes them new. A version that keeps the old ones
    will do with at least as many new ones as there were old.
    """
    opened = openings_of(axis_of(suites), base_model).filter(vector__isnull=False).select_related("suite", "vector")
    for suite in suites:
        earlier = [opening for opening in opened if opening.suite.kind == suite.kind]
        asked = set(_test_items(suite).values_list("prompt_key", flat=True))
        counts = {opening: _test_items(opening.suite).filter(prompt_key__in=asked).count() for opening in earlier}
        seen_in = [opening for opening, count in counts.items() if count]
        if not seen_in:
            continue
        suites_seen = [opening.suite for opening in seen_in]
        seen = (
            EvalItem.objects.filter(suite__in=suites_seen, split=Split.TEST, prompt_key__in=asked).values("prompt_key").distinct().count()
        )
        new, wanted = len(asked) - seen, max(_test_items(each).count() for each in suites_seen)
        if new < wanted:
            last = seen_in[-1]
            return suite, (
                f"{seen} of the {len(asked)} test items of {suite} judged {last.vector} on {base_model.name} before, and tell nothing "
                f"new of {last.axis}; seal a version with at least {wanted} test items that were not asked yet, and name that"
            )
    return None


def count_looks(evaluation: Evaluation) -> Mapping[str, int]:
    """By suite of this evidence: how many openings there were of any of its versions, for this axis on this base model, up to now."""
    suites = list(evaluation.job.suites.all())
    openings = openings_of(axis_of(suites), evaluation.job.base_model).filter(suite__name__in=[suite.name for suite in suites])
    counts = {row["suite__name"]: row["looks"] for row in openings.order_by().values("suite__name").annotate(looks=Count("pk"))}
    return {suite.name: counts.get(suite.name, 0) for suite in sorted(suites, key=lambda suite: suite.name)}


def _test_items(suite: EvalSuite) -> QuerySet[EvalItem]:
    return EvalItem.objects.filter(suite=suite, split=Split.TEST)
