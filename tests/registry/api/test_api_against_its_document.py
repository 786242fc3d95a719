"""The whole API against its own OpenAPI document, as every role, as nobody, and with narrowed tokens.

schemathesis makes requests that the document allows and requests that it forbids; real names and ids stand in for most random
ones, so that what lies behind them is reached. Whatever is sent, no answer is a 5xx, has a status or a content type that the
document does not name, or is given to nobody who had to say who they are. Examples are fixed: what is found is found again.
"""

import random

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from registry.models import Role
from registry.services.people import issue_token
from tests.support.paths import NAMES

pytestmark = [
    pytest.mark.fuzz,
    # Of schemathesis and what it uses.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning"),
]

EXAMPLES = 5
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPEN_TO_NOBODY = ("/api/v1/healthz", "/api/v1/livez")


@pytest.fixture(autouse=True)
def _one_connection():
    """The application closes its connection after each request; the test's transaction is in it. Django's own test client does this."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def known(flag_on, node, evaluation, base_model, atlas, ada) -> dict[str, list[str]]:
    """What may stand in the place of a path's or a query's parameter, so that something is found there."""
    from registry.models import Job, Kill
    from registry.services.kills import engage_kill

    engage_kill("tenant", target="atlas", reason="noise", actor=ada)
    return {
        "profile": ["harbor-empathy"],
        "environment": ["production"],
        "tenant": ["harbor", "atlas"],
        "version": ["1"],
        "number": ["1"],
        "digest": [evaluation.digest],
        "job_id": [str(job.pk) for job in Job.objects.all()],
        "kill_id": [str(kill.pk) for kill in Kill.objects.all()],
        "token_id": [str(issue_token(ada, name="t", actor="tests")[0].pk)],
        "evaluation_id": [str(evaluation.pk)],
    }


@pytest.fixture
def callers(person, harbor) -> dict[str, dict[str, str]]:
    """Who asks, and the Authorization header of each: those who may do least come first."""

    def make(name: str, *roles: str, **limits) -> dict[str, str]:
        return {"Authorization": f"Bearer {issue_token(person(name, *roles), name='fuzz', actor='tests', **limits)[1]}"}

    return {
        "nobody": {},
        "reading only": make("reader", *Role.values, scopes=["read"]),
        "limited to a tenant": make("limited", *Role.values, tenant=harbor),
        **{role: make(f"only-{role}", role) for role in Role.values},
        "everything": make("everything", *Role.values),
    }


@pytest.fixture(scope="module")
def document():
    schema = SchemaGenerator().get_schema(public=True)
    schema["servers"] = [{"url": "http://testserver"}]
    loaded = schemathesis.openapi.from_dict(schema)
    loaded.app = get_wsgi_application()
    return loaded


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
def test_no_answer_to_anybody_is_a_failure_or_undocumented(document, known, callers, mode):
    problems: dict[str, str] = {}
    for result in document.get_all_operations():
        operation = result.ok()
        try:
            _ask(operation, mode, callers, known)
        except Unsatisfiable:
            continue  # There is nothing to get wrong: no parameter and no body.
        except (Exception, BaseExceptionGroup) as error:  # every operation is asked before the test fails
            problems[operation.label] = "; ".join([str(error) or repr(error), *getattr(error, "__notes__", [])])
    assert not problems, "\n\n".join(f"{label}: {problem[:1500]}" for label, problem in problems.items())


def _ask(operation, mode, callers: dict[str, dict[str, str]], known: dict[str, list[str]]) -> None:
    start = operation.path.removeprefix("/api/v1/").partition("/")[0] + "/"
    known = {**known, "name": [NAMES.get(start, "harbor")], "reference": [NAMES.get(start, "harbor")]}

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case) -> None:
        # Decided by the case itself, so that asking it again asks the same.
        chance = random.Random(repr((case.path_parameters, case.query, case.body)))
        for parameters in (case.path_parameters, case.query):
            for name in parameters or {}:
                if name in known and chance.random() < 0.7:
                    parameters[name] = chance.choice(known[name])
        # Keys made up at random are short and would mostly be another request's; three in four are new.
        if "Idempotency-Key" in case.headers and chance.random() < 0.75:
            case.headers["Idempotency-Key"] = f"{operation.label} {chance.random()}".replace(" ", "_")
        case.headers.pop("Authorization", None)
        for caller, headers in callers.items():
            answer = case.call(headers=headers)
            try:
                case.validate_response(answer, checks=CHECKS)
            except BaseExceptionGroup as error:
                error.add_note(f"asked as {caller}")
                raise
            if not headers and operation.path not in OPEN_TO_NOBODY:
                assert answer.status_code in (401, 404, 405), f"nobody was answered {answer.status_code}"

    ask()
