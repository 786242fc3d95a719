"""The suites of the world, whose tickets say their intents."""

from collections.abc import Sequence

from registry.models import EvalSuite, User
from registry.services.evals import seal_eval_suite
from tests.support.files import make_suite, rubric_file


def seal_suites_of_intents(author: User, intents: Sequence[str] = ("billing", "technical")) -> list[EvalSuite]:
    tickets = make_suite("behaviour", intents)
    return [
        seal_eval_suite("tickets", kind="behaviour", data=tickets, rubric=rubric_file(), author=author),
        seal_eval_suite("facts", kind="factual", data=make_suite("factual"), author=author),
        seal_eval_suite("refusals", kind="safety", data=make_suite("safety"), author=author),
    ]
