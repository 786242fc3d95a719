"""The page of a revision of several components: how they are judged together, and the tables of what came out."""

from django.urls import reverse

from registry.models import Job, RevisionState
from registry.services.compositions import request_composition
from registry.services.jobs import claim_job
from registry.services.profiles import submit_revision
from registry.services.results import complete_composition
from tests.support.files import composition_evidence
from tests.support.story import make_estimate


def verdict(*failed: str) -> list[dict[str, str]]:
    return [
        {"metric": metric, "kind": "max", "threshold": "1", "value": "2", "verdict": "fail" if metric in failed else "pass"}
        for metric in ("refusal_lost", "norm_share")
    ]


def judge(revision, suites, author):
    """What a composition of two vectors leaves: each passes alone, together they do not, and no gate of the revision minds."""
    job = request_composition(revision=revision, suites=suites, actor=author)
    names = [component["name"] for component in job.recipe["components"]]

    def side_by_side(*values):
        """One value for each part and the last for all together."""
        return dict(zip([*names, "joint"], values, strict=True))

    interaction = make_estimate("-1.27", "-1.9", "-0.61", 48)
    lost = make_estimate("0.0625", "0", "0.2")
    composition = {
        "components_digest": job.components_digest,
        "components": [{"name": name} for name in names],
        "pairs": [
            {
                "parts": names,
                "cosine": "0.417",
                "interaction": {"axis empathy v1": interaction, "refusals": interaction, "divergence": interaction},
            }
        ],
        "norm_shares": side_by_side({"2": "0.11"}, {"2": "0.07"}, {"2": "0.18"}),
        "axes": {"empathy v1": {"effects": side_by_side("6.2", "1.1", "6.03"), "interaction": interaction}},
        "refusals": side_by_side(*({"kept": make_estimate(kept, "0", "1"), "lost": lost} for kept in ("0.91", "0.88", "0.234"))),
        "divergence": {"effects": side_by_side({"p95": "0.31"}, {"p95": "0.22"}, {"p95": "0.84"})},
        "gates": side_by_side(verdict(), verdict(), verdict("refusal_lost")),
        "breaks_jointly": True,
    }
    return complete_composition(claim_job(job.pk, worker="worker-1"), composition_evidence(job, composition=composition))


def test_an_author_has_the_components_of_a_draft_judged_together(as_person, ada, combined, suites):
    client, here = as_person(ada), reverse("console:revision", args=[combined.pk])
    assert "2 components are judged together before they are submitted" in client.get(here).text
    data = {suite.kind: str(suite.pk) for suite in suites}
    answer = client.post(reverse("console:compose-revision", args=[combined.pk]), data, follow=True)
    job = Job.objects.get(kind="composition")
    assert answer.redirect_chain[-1][0] == reverse("console:job", args=[job.pk])
    assert str(combined) in answer.text
    again = client.post(reverse("console:compose-revision", args=[combined.pk]), data, follow=True)
    assert "COMPOSITION_RUNNING" in again.text
    assert Job.objects.filter(kind="composition").count() == 1


def test_only_an_author_asks_for_it(as_person, grace, combined, suites):
    answer = as_person(grace).post(reverse("console:compose-revision", args=[combined.pk]), {suite.kind: str(suite.pk) for suite in suites})
    assert answer.status_code == 403
    assert not Job.objects.filter(kind="composition").exists()


def test_the_page_holds_the_parts_against_the_whole(as_person, grace, ada, combined, suites):
    evaluation = judge(combined, suites, ada)
    submit_revision(combined.pk, evaluation=evaluation, actor=ada)
    text = as_person(grace).get(reverse("console:revision", args=[combined.pk])).text
    for words in ("Judged together", "empathy v1 and brevity v1", "0.417", "-1.27", "0.234", "0.0625", "0.84", "0.18", "6.03"):
        assert words in text
    assert "Every component passes alone, and all together do not." in text
    assert "All together" in text
    assert evaluation.digest in text


def test_a_composition_without_its_document_still_shows_its_gates(as_person, ada, combined, compose, settings, tmp_path):
    compose(combined)
    settings.STEERHUB_BLOB_URL = (tmp_path / "empty").as_uri()
    text = as_person(ada).get(reverse("console:revision", args=[combined.pk])).text
    assert "The evidence document cannot be read" in text
    assert "Requests that the model would rather not refuse any more" in text


def test_lists_and_jobs_show_a_composition_without_a_vector(as_person, ada, combined, compose):
    evaluation = compose(combined)
    client = as_person(ada)
    assert f"the components of {combined} together" in client.get(reverse("admin:registry_evaluation_changelist")).text
    page = client.get(reverse("console:job", args=[evaluation.job_id])).text
    assert f"Open {combined}" in page
    assert "name empathy v1" in page
    submitted = submit_revision(combined.pk, evaluation=evaluation, actor=ada)
    assert submitted.state == RevisionState.SUBMITTED
    assert client.get(reverse("console:approvals")).status_code == 200
