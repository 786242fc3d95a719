"""`steer` against a real hub: exit statuses, places of faults, and one winner when two apply the same plan."""

import threading
from functools import partial

import pytest
from django.db import IntegrityError, connection

from registry.models import AppliedPlan, Declaration, Tenant
from registry.services.tenants import create_tenant
from steernode.errors import SteerError
from tests.support.declaring import manifest
from tests.support.racing import at_once

TENANTS = """\
apiVersion: steerhub/v1
kind: Tenant
metadata: {name: harbor, manager: git/a}
spec: {title: Harbor}
---
apiVersion: steerhub/v1
kind: Tenant
metadata: {name: atlas, manager: git/a}
"""


@pytest.mark.django_db(transaction=True)
def test_the_whole_road_from_a_folder_to_the_record_and_back(steer, tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "tenants.yaml").write_text(TENANTS)
    assert steer("diff", "-f", folder).exit_code == 1
    assert not Tenant.objects.exists()
    planned = steer("plan", "-f", folder, "-o", "json")
    assert planned.exit_code == 2
    (tmp_path / "plan.json").write_text(planned.output)
    applied = steer("apply", "-f", folder, "--plan", tmp_path / "plan.json")
    assert (applied.exit_code, applied.output) == (0, "applied: 2 created\n")
    again = steer("apply", "-f", folder, "--plan", tmp_path / "plan.json")
    assert (again.exit_code, again.stderr.split(":")[0]) == (1, "error PLAN_APPLIED")
    assert steer("plan", "-f", folder).exit_code == 0
    assert steer("drift", "-f", folder).exit_code == 0
    exported = tmp_path / "export.yaml"
    exported.write_text(steer("export", "--with-status").output)
    assert steer("plan", "-f", exported).exit_code == 0
    Tenant.objects.filter(name="harbor").update(title="by hand")
    assert steer("drift", "-f", folder).exit_code == 2
    assert steer("diff", "-f", folder).exit_code == 1


@pytest.mark.django_db(transaction=True)
def test_every_fault_that_the_hub_finds_is_told_where_it_stands(steer, tmp_path):
    (tmp_path / "m.yaml").write_text(TENANTS.replace("title: Harbor", "title: 5, colour: red") + "spec: {titel: Atlas}\n")
    result = steer("plan", "-f", tmp_path)
    assert result.exit_code == 1
    told = [line.split(": ")[:2] for line in result.stderr.splitlines() if line.startswith("error ")]
    assert told == [
        ["error MANIFEST_VALUE", f"{tmp_path}/m.yaml line 4 column 8"],
        ["error MANIFEST_UNKNOWN_FIELD", f"{tmp_path}/m.yaml line 4 column 18"],
        ["error MANIFEST_UNKNOWN_FIELD", f"{tmp_path}/m.yaml line 9 column 8"],
    ]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_apply_the_same_plan_at_once_one_does(plan, apply):
    documents = [manifest("Tenant", "harbor"), manifest("Tenant", "atlas")]
    digest = plan(documents).digest
    barrier, results = threading.Barrier(2), []

    def run():
        barrier.wait()
        try:
            results.append(len(apply(documents, digest=digest).changes))
        except SteerError as error:
            results.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results, key=str) == [2, "PLAN_APPLIED"]


@pytest.mark.django_db(transaction=True)
def test_two_plans_that_share_no_object_are_both_applied_at_once(plan, apply):
    def run(documents, digest):
        return len(apply(documents, digest=digest).changes)

    folders = [[manifest("Tenant", f"{letter}-{number}", manager=f"git/{letter}") for number in range(20)] for letter in "ab"]
    made = [(documents, plan(documents).digest) for documents in folders]
    assert at_once(*(partial(run, *each) for each in made)) == [20, 20]
    assert Tenant.objects.count() == 40


def test_a_plan_to_create_what_somebody_created_meanwhile_is_stale(plan, apply, oscar):
    documents = [manifest("Tenant", "harbor", title="Harbor")]
    digest = plan(documents).digest
    create_tenant("harbor", title="by hand", actor=oscar)
    with pytest.raises(SteerError) as caught:
        apply(documents, digest=digest)
    assert caught.value.code == "PLAN_STALE"


def test_the_database_refuses_to_apply_a_plan_twice(apply, gitops):
    apply([manifest("Tenant", "harbor")])
    with pytest.raises(IntegrityError, match="plan_is_applied_once"):
        AppliedPlan.objects.create(digest=AppliedPlan.objects.get().digest, applied_by=gitops)


def test_the_database_keeps_one_declaration_of_an_object(apply):
    apply([manifest("Tenant", "harbor")])
    declaration = Declaration.objects.get()
    with pytest.raises(IntegrityError, match="declaration_once_per_object"):
        Declaration.objects.create(kind="Tenant", name="harbor", spec_digest="", plan=declaration.plan)
