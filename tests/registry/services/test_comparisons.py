"""A new version says how it differs from the one it replaces: direction, layer, strength, and evidence once there are two."""

from decimal import Decimal

import numpy as np
import pytest
from django.db import transaction
from django.test import Client

from registry.blobs import _path, _storage
from registry.models import AuditEvent, Proposal, VectorComparison
from registry.services.base_model_moves import move_environment
from registry.services.comparisons import alpha_in_residual
from registry.services.jobs import claim_job
from registry.services.proposals import accept_proposal
from registry.services.results import ExtractionResult, complete_extraction
from registry.services.vectors import import_vector
from steernode.files.vectors import read_vector, write_vector
from steernode.records.sweep import read_sweep
from tests.support.files import make_direction, vector_file
from tests.support.refusals import refuses
from tests.support.working import PICTURE


@pytest.fixture
def bring(base_model, contrast_set, ada):
    """Import a version: bring(seed=8, layer=1), or of other files: bring(of=new_files)."""

    def run(name: str = "empathy", of=base_model, **how: object):
        return import_vector(name, data=vector_file(of.fingerprint, contrast_set.digest, **how), author=ada)

    return run


def test_the_first_of_a_name_replaces_nothing(bring):
    bring()
    bring("formality", seed=8)
    assert not VectorComparison.objects.exists()


def test_the_cosine_is_that_of_the_two_directions(bring, base_model, contrast_set):
    """Checked against the arithmetic on the planted directions."""
    bring(seed=7)
    second = bring(seed=8)
    wanted = float(make_direction(7).astype(np.float64) @ make_direction(8).astype(np.float64))
    assert float(second.comparison.cosine) == pytest.approx(wanted, abs=1e-6)
    assert second.comparison.replaced.version == 1


def test_a_direction_turned_round_has_the_cosine_minus_one(bring, base_model, contrast_set, ada):
    first = read_vector(vector_file(base_model.fingerprint, contrast_set.digest))
    bring()
    turned = import_vector("empathy", data=write_vector(-first.direction, dict(first.lineage)), author=ada)
    assert turned.comparison.cosine == -1


@pytest.mark.parametrize(
    ("how", "why"),
    [({"layer": 1}, "the layer was 2 and is 1"), ({"site": "attn_out"}, "the site was resid_post and is attn_out")],
)
def test_there_is_no_cosine_across_places_and_it_says_so(bring, how, why):
    bring()
    comparison = bring(seed=8, **how).comparison
    assert comparison.cosine is None
    assert why in comparison.cosine_missing


def test_a_lost_file_leaves_a_comparison_that_says_so(bring, settings):
    first = bring()
    _storage(settings.STEERHUB_BLOB_URL).delete(_path(first.digest))
    assert "cannot be read: BLOB_MISSING" in bring(seed=8).comparison.cosine_missing


def test_a_re_extraction_is_compared_with_the_vector_of_its_proposal(extract, production, base_model, new_files, ada, oscar):
    first = extract(base_model, seed=1)
    move_environment(production, base_model=new_files, actor=oscar)
    job = accept_proposal(Proposal.objects.get().pk, actor=ada).job
    # Somebody imports another version meanwhile; it is newer, and still not what was replaced.
    import_vector("empathy", data=vector_file(base_model.fingerprint, job.contrast_set.digest, seed=5), author=ada)
    data = vector_file(new_files.fingerprint, job.contrast_set.digest, seed=2)
    again = complete_extraction(
        claim_job(job.pk, worker="w"), ExtractionResult(data, read_sweep({}), PICTURE, Decimal("0.4"), "mean_difference")
    )
    assert again.comparison.replaced == first
    body = bytes(AuditEvent.objects.filter(action="vector.compared", object_id=str(again.pk)).get().body)
    assert b'"alpha_residual":["0.114381","0.091505"]' in body


def test_coefficients_compare_as_fractions_of_the_residual_stream(bring):
    vector = bring()
    assert alpha_in_residual(vector) is None
    for unit, alpha in (("mean_difference", "0.5"), ("absolute", "20.6"), ("residual", "0.114381")):
        vector.proposed_alpha, vector.proposed_unit = Decimal(alpha), unit
        assert alpha_in_residual(vector) == Decimal("0.114381")


def test_evidence_is_compared_once_both_are_evaluated_whichever_comes_first(bring, evaluate, new_files):
    first, second = bring(), bring(seed=8, of=new_files)
    evaluate(second)
    second.comparison.refresh_from_db()
    assert (second.comparison.evidence, second.comparison.evidence_missing) == (None, "not both are evaluated yet")
    evaluate(first)
    second.comparison.refresh_from_db()
    assert second.comparison.evidence["behaviour"] == {"replaced": "4.2", "vector": "4.2", "difference": "0"}
    assert second.comparison.evidence_missing == ""


def test_evidence_of_other_suites_is_not_subtracted(bring, evaluate, ada):
    """On the same files a version takes new test items, or the second look would be at what the first was chosen by."""
    first, second = bring(), bring(seed=8)
    evaluate(first)
    evaluate(second)
    second.comparison.refresh_from_db()
    assert second.comparison.evidence is None
    assert "other suites" in second.comparison.evidence_missing


def test_database_refuses_a_comparison_that_does_not_compare(bring):
    bring()
    comparison = bring(seed=8).comparison
    for change, name in (
        ({"cosine": Decimal("1.5")}, "comparison_cosine_is_a_cosine"),
        ({"cosine": None}, "comparison_says_why_there_is_no_cosine"),
        ({"evidence_missing": ""}, "comparison_says_why_there_is_no_evidence"),
        ({"replaced": comparison.vector}, "comparison_is_of_two_vectors"),
    ):
        with refuses(name), transaction.atomic():
            VectorComparison.objects.filter(pk=comparison.pk).update(**change)


def test_the_api_and_the_page_show_it(bring, evaluate, api, ada, new_files):
    first, second = bring(), bring(seed=8, of=new_files)
    evaluate(first)
    evaluate(second)
    shown = api(ada).get("/api/v1/vectors/empathy/2").json()["comparison"]
    assert (shown["replaced"]["version"], shown["replaced"]["layer"], shown["cosine_missing"]) == (1, 2, "")
    assert shown["evidence"]["behaviour"]["difference"] == "0"
    assert api(ada).get("/api/v1/vectors/empathy/1").json()["comparison"] is None
    client = Client()
    client.force_login(ada)
    page = client.get(f"/console/vectors/{second.pk}/").content.decode()
    assert f"/console/vectors/{first.pk}/" in page
    assert "which it replaces" in page
    assert shown["cosine"] in page
