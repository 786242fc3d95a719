"""What test items have told already: openings that count, what searches chose by, and how often an axis was looked at."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from registry.models import (
    BaseModel,
    EvalItem,
    EvalSuite,
    Evaluation,
    Job,
    JobKind,
    JobState,
    ProfileRevision,
    Split,
    SteeringVector,
    SuiteKind,
    SuiteOpening,
)
from registry.reads.material import Material

_LEAVES_NOTHING = (JobState.FAILED, JobState.CANCELLED)
# Of a vector whose contrast set is not on record: it may be about any axis, so that every look counts for it, and its looks for all.
ANY_AXIS = ""


def axis_of(made: SteeringVector | Material) -> str:
    """What a vector is about is what its pairs are about. What a suite says of itself moves no look to another axis."""
    return made.contrast_set.axis if made.contrast_set else ANY_AXIS


def judged_axis(suites: Iterable[EvalSuite]) -> str:
    """What these suites judge: the axis of the behaviour suite."""
    return next((suite.axis for suite in suites if suite.kind == SuiteKind.BEHAVIOUR), ANY_AXIS)


def openings_of(axis: str, base_model_id: UUID) -> QuerySet[SuiteOpening]:
    """Those that looked at this axis, or may have, and whose job left evidence, or may yet."""
    openings = SuiteOpening.objects.filter(base_model=base_model_id).exclude(job__state__in=_LEAVES_NOTHING)
    if axis == ANY_AXIS:
        return openings
    of_a_vector = Q(vector__contrast_set__axis=axis) | Q(vector__isnull=False, vector__contrast_set__isnull=True)
    return openings.filter(of_a_vector | Q(vector__isnull=True, axis=axis))


def find_opened(suites: Sequence[EvalSuite], axis: str, base_model: BaseModel) -> tuple[EvalSuite, str] | None:
    """The first suite whose test items judged a vector of this axis on this base model before, and in words what would do instead.

    Items are told by what they ask, so that neither another name nor another version makes them new. A version that keeps the old ones
    will do with at least as many new ones as there were old.
    """
    opened = openings_of(axis, base_model.pk).filter(vector__isnull=False)
    repeated = EvalItem.objects.filter(split=Split.TEST, suite__openings__in=opened, prompt_key__in=_test_keys(suites))
    told = list(repeated.order_by().values_list("suite", "suite__kind", "prompt_key").distinct())
    if not told:
        return None
    asked = defaultdict[object, set[str]](set)
    for suite_id, key in EvalItem.objects.filter(suite__in=suites, split=Split.TEST).values_list("suite", "prompt_key"):
        asked[suite_id].add(key)
    sizes = dict(
        EvalItem.objects.filter(suite__in={suite_id for suite_id, *_ in told}, split=Split.TEST)
        .order_by()
        .values("suite")
        .annotate(items=Count("prompt_key", distinct=True))
        .values_list("suite", "items")
    )
    for suite in suites:
        again = [(suite_id, key) for suite_id, kind, key in told if kind == suite.kind and key in asked[suite.pk]]
        seen, wanted = len({key for _, key in again}), max((sizes[suite_id] for suite_id, _ in again), default=0)
        if len(asked[suite.pk]) - seen < wanted:
            last = opened.filter(suite__in={suite_id for suite_id, _ in again}).select_related("vector").latest("opened_at")
            return suite, (
                f"{seen} of the {len(asked[suite.pk])} test items of {suite} judged {last.vector} on {base_model.name} before, and tell "
                f"nothing new of {last.axis}; seal a version with at least {wanted} test items that were not asked yet, and name that"
            )
    return None


def find_chosen_by(
    suites: Sequence[EvalSuite], axis: str, base_model: BaseModel, searched: Sequence[EvalSuite] = ()
) -> tuple[EvalSuite, str] | None:
    """The first suite with a test item that a search on this axis and base model chose a layer and an α by, and what to do.

    A line says itself in which split it is, and a vector that was chosen by it does well on it. `searched` are suites that a search
    is being asked for with.
    """
    searches = Job.objects.filter(kind=JobKind.EXTRACTION, base_model=base_model).exclude(state=JobState.CANCELLED)
    # One that failed without its sweep left nothing to choose by.
    searches = searches.exclude(state=JobState.FAILED, sweep_digest="")
    if axis != ANY_AXIS:
        searches = searches.filter(contrast_set__axis=axis)
    selected = EvalItem.objects.filter(Q(suite__jobs__in=searches) | Q(suite__in=searched), split=Split.SELECT)
    told = set(selected.filter(prompt_key__in=_test_keys(suites)).order_by().values_list("suite__kind", "prompt_key"))
    if not told:
        return None
    for suite in suites:
        keys = [key for kind, key in told if kind == suite.kind]
        items = EvalItem.objects.filter(suite=suite, split=Split.TEST, prompt_key__in=keys)
        if first := items.first():
            return suite, (
                f"a search on {base_model.name} chose by what {items.count()} of the test items of {suite} ask, such as {first.item_id!r}, "
                "which were in its select split; seal a version without them, and name that"
            )
    return None


def count_looks(evaluation: Evaluation) -> Mapping[str, int]:
    """By kind of suite: how many openings of any suite there were for this axis on this base model, up to now."""
    suites = list(evaluation.job.suites.all())
    axis = axis_of(evaluation.vector) if evaluation.vector else judged_axis(suites)
    openings = openings_of(axis, evaluation.job.base_model_id).order_by()
    counts = dict(openings.values("suite__kind").annotate(looks=Count("pk")).values_list("suite__kind", "looks"))
    return {kind: counts.get(kind, 0) for kind in sorted(suite.kind for suite in suites)}


def list_other_looks(revision: ProfileRevision, evaluation: Evaluation | None) -> QuerySet[Evaluation]:
    """Whatever else was measured of the vectors of a revision, alone at any α, and of the revision as a whole; the newest first."""
    found = Evaluation.objects.filter(Q(vector__components__revision=revision) | Q(revision=revision)).distinct()
    found = found.select_related("vector", "revision__profile").order_by("-evaluated_at")
    return found.exclude(pk=evaluation.pk) if evaluation else found


def _test_keys(suites: Sequence[EvalSuite]) -> QuerySet[EvalItem, Any]:
    return EvalItem.objects.filter(suite__in=suites, split=Split.TEST).order_by().values("prompt_key")
