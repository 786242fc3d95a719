"""A refusal about the moment is not the last word: the same request under the same key is tried anew, and done once."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.request import Request

from registry.api.idempotency import KEPT_REFUSALS, HeldKey
from registry.models import IdempotentAnswer, Tenant
from registry.services.policies import change_policy
from tests.support.api import code_of, keyed
from tests.support.declaring import manifest

TENANTS, REVISION = "/api/v1/tenants", "/api/v1/profiles/harbor-empathy/revisions/1"
COMPONENT = {"vector": "empathy@1", "alpha": "0.4", "alpha_min": "0", "alpha_max": "0.5", "unit": "mean_difference"}


def tried_anew(send, refusal: tuple[int, str], put_right, status: int = 200) -> None:
    """The same request under the same key: refused, refused anew, and done once the moment allows it."""
    assert code_of(first := send()) == refusal, first.content
    again = send()
    assert (code_of(again), "Idempotency-Replayed" in again) == (refusal, False)
    put_right()
    done = send()
    assert (done.status_code, "Idempotency-Replayed" in done) == (status, False), done.content
    assert send()["Idempotency-Replayed"] == "true"


def test_a_freeze_that_ended_refuses_no_repeat(api, oscar, grace, production, harbor):
    operator, approver = api(oscar), api(grace)
    kill = operator.post("/api/v1/kills", {"kind": "tenant", "target": "harbor", "reason": "x"}).json()["id"]
    operator.post(f"/api/v1/kills/{kill}/request-lift", {"reason": "over"})
    ends_at = (timezone.now() + timedelta(hours=1)).isoformat()
    freeze = operator.post("/api/v1/environments/production/freezes", {"ends_at": ends_at, "reason": "holidays"}).json()["id"]
    tried_anew(
        lambda: approver.post(f"/api/v1/kills/{kill}/confirm-lift", {}, **keyed("f")),
        (409, "FREEZE"),
        lambda: operator.post(f"/api/v1/freezes/{freeze}/end", {"reason": "over"}),
    )


def test_a_plan_that_was_stale_and_holds_again_is_applied(api, oscar):
    documents = [manifest("Tenant", "one", title="One")]
    operator = api(oscar)
    digest = operator.post("/api/v1/manifests/plan", {"documents": documents}).json()["planDigest"]
    operator.post(TENANTS, {"name": "one", "title": "Other"})
    tried_anew(
        lambda: operator.post("/api/v1/manifests/apply", {"documents": documents, "planDigest": digest}, **keyed("m")),
        (409, "PLAN_STALE"),
        lambda: Tenant.objects.all().delete(),
    )


def test_a_record_that_appears_refuses_no_repeat(api, oscar):
    operator = api(oscar)
    body = {"ends_at": (timezone.now() + timedelta(hours=1)).isoformat(), "reason": "holidays"}
    tried_anew(
        lambda: operator.post("/api/v1/environments/late/freezes", body, **keyed("f")),
        (404, "ENVIRONMENT_NOT_FOUND"),
        lambda: operator.post("/api/v1/environments", {"name": "late"}),
        status=201,
    )


def test_a_role_that_was_given_refuses_no_repeat(api, ada):
    author = api(ada)
    tried_anew(
        lambda: author.post(TENANTS, {"name": "one"}, **keyed("t")),
        (403, "PERMISSION_DENIED"),
        lambda: ada.groups.add(Group.objects.get(name="operator")),
        status=201,
    )


def test_evidence_that_a_policy_no_longer_demands_refuses_no_repeat(api, ada, root, draft, evaluation, policy_terms):
    change_policy("low", terms=policy_terms(minimum_pairs=10_000), reason="Careful.", actor=root)
    body = {"evaluation": str(evaluation.pk)}
    tried_anew(
        lambda: api(ada).post(f"{REVISION}/submit", body, **keyed("s")),
        (409, "PAIRS_FEW"),
        lambda: change_policy("low", terms=policy_terms(), reason="As before.", actor=root),
    )


def test_an_edit_that_was_stale_is_made_once_the_revision_was_read_again(api, ada, draft):
    author = api(ada)
    tag = author.get(REVISION)["ETag"]
    author.put(REVISION, {"components": [COMPONENT]}, headers={"If-Match": tag})
    change = {"components": [COMPONENT | {"alpha": "0.1"}]}
    stale = author.put(REVISION, change, headers={"If-Match": tag, "Idempotency-Key": "e"})
    assert code_of(stale) == (412, "REVISION_CHANGED")
    read_again = author.put(REVISION, change, headers={"If-Match": author.get(REVISION)["ETag"], "Idempotency-Key": "e"})
    assert read_again.status_code == 200


@pytest.mark.parametrize("status", [300, 401, 403, 404, 405, 406, 408, 409, 410, 412, 422, 423, 425, 428, 429, 500, 502, 503, 504])
def test_no_answer_is_kept_that_time_can_change(ada, status):
    with at_hand(ada) as held:
        held.keep(HttpResponse(b"no", status=status), holds_secret=False)
    assert not IdempotentAnswer.objects.exists()


@pytest.mark.parametrize("status", [200, 201, 202, 204, *KEPT_REFUSALS])
def test_the_last_word_on_what_was_sent_is_kept(ada, status):
    with at_hand(ada) as held:
        held.keep(HttpResponse(b"so", status=status), holds_secret=False)
    assert IdempotentAnswer.objects.get().status == status


@contextmanager
def at_hand(person):
    request = Request(RequestFactory().post("/api/v1/anything", {}, content_type="application/json"))
    request.user = person
    held = HeldKey(request, "k")
    yield held
    held.release()
