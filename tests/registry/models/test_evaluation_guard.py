"""Evaluations are written once, no milder than their gates, with whose work it is; by processes of the release before too."""

import json
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from registry.models import Evaluation, Job
from registry.services.job_requests import request_validation
from tests.support.refusals import refuses

MILDER = "evaluation_verdict_is_no_milder_than_its_gates"


@pytest.fixture
def job(ada, vector, suites) -> Job:
    return request_validation(vector=vector, suites=suites, alpha=Decimal("0.5"), unit="residual", actor=ada)


@pytest.fixture
def write(job):
    """An evaluation past the services: write(gates=[...], verdict="pass")."""

    def run(*, gates, **fields):
        judged = [{"metric": f"m{number}", "kind": "min", "threshold": "0", "verdict": verdict} for number, verdict in enumerate(gates)]
        said = {
            "vector": job.vector,
            "job": job,
            "alpha": Decimal("0.5"),
            "unit": "residual",
            "digest": "f" * 64,
            "metrics": {},
            "gates": judged,
        }
        return Evaluation.objects.create(**said, **fields)

    return run


def test_what_was_judged_is_never_changed(evaluation):
    for change in ({"verdict": "fail"}, {"gates": []}, {"digest": "e" * 64}, {"judged_people": []}):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            Evaluation.objects.filter(pk=evaluation.pk).update(**change)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        evaluation.delete()


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [(["pass", "fail"], "pass"), (["undecidable", "fail"], "undecidable"), (["undecidable"], "pass"), (["fine"], "pass"), ([None], "pass")],
)
def test_no_verdict_is_milder_than_its_gates(write, gates, verdict):
    with refuses(MILDER):
        write(gates=gates, verdict=verdict)


@pytest.mark.parametrize(("gates", "verdict"), [(["pass"], "pass"), (["pass"], "fail"), (["undecidable", "pass"], "undecidable")])
def test_a_verdict_may_be_harder_than_its_gates(write, gates, verdict):
    assert write(gates=gates, verdict=verdict).verdict == verdict


def test_whose_work_it_is_says_the_database_and_nobody_else(write, ada):
    assert write(gates=[], verdict="pass", judged_people=[]).judged_people == [ada.pk]
    assert Evaluation.objects.get(digest="f" * 64).judged_people == [ada.pk]


@pytest.mark.parametrize(("passed", "verdict"), [(True, "pass"), (False, "fail")])
def test_a_process_of_the_release_before_may_still_end_a_validation(job, ada, passed, verdict):
    key = uuid4()
    gates = json.dumps([{"metric": "facts", "threshold": "0.9", "value": "0.94", "verdict": verdict}])
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO registry_evaluation (id, vector_id, components_digest, job_id, alpha, unit, digest, metrics, gates, passed)"
            " VALUES (%s, %s, '', %s, 0.5, 'residual', %s, '{}', %s, %s)",
            [key, job.vector_id, job.pk, "d" * 64, gates, passed],
        )
    evaluation = Evaluation.objects.get(pk=key)
    assert (evaluation.verdict, evaluation.judged_people) == (verdict, [ada.pk])
