"""Suites whose test items nobody looked at yet."""

import json

from tests.support.files import lines


def unopened_suites(suites, vector, author):
    """The suites themselves while their test items are new for what the vector is about on its base model; else next versions of them
    with others."""
    from registry.reads.openings import axis_of, find_opened

    return fresh_suites(suites, author) if find_opened(suites, axis_of(vector), vector.base_model) else suites


def fresh_suites(suites, author):
    """The next versions of the suites, in which every item asks in other words."""
    from registry.blobs import get_blob
    from registry.models import EvalSuite
    from registry.services.evals import seal_eval_suite

    number = EvalSuite.objects.count()
    return [
        seal_eval_suite(
            suite.name,
            kind=suite.kind,
            data=lines([_say_otherwise(json.loads(line), number) for line in get_blob(suite.digest).splitlines() if line.strip()]),
            rubric=get_blob(suite.rubric_digest) if suite.rubric_digest else None,
            author=author,
        )
        for suite in suites
    ]


def _say_otherwise(item, number):
    *before, last = item["messages"]
    return {**item, "messages": [*before, {**last, "content": f"{last['content']} (Asked anew: {number}.)"}]}
