"""Lists come in pages that are found by their neighbour."""

import pytest

from registry.api import pagination
from registry.models import Kill, Tenant
from registry.services.people import create_user


def walk(client, path: str, direction: str = "next") -> list[dict]:
    """Every page from this one on."""
    pages = []
    url: str | None = path
    while url is not None:
        pages.append(client.get(url).json())
        assert len(pages) < 50
        url = pages[-1][direction]
    return pages


def names(pages: list[dict], field: str = "name") -> list[str]:
    return [row[field] for page in pages for row in page["results"]]


@pytest.fixture
def tenants(db):
    return Tenant.objects.bulk_create([Tenant(name=f"tenant-{number:02}") for number in range(11)])


@pytest.fixture
def versions(vector, ada):
    """Two names, five versions each: one column rises and the other falls."""
    for name in ("alpha", "beta"):
        for version in range(1, 6):
            vector.pk, vector.name, vector.version = None, name, version
            vector.digest = f"{name}{version}".encode().hex().zfill(64)
            vector.save(force_insert=True)


@pytest.mark.parametrize("size", [1, 2, 5, 6, 11, 12])
def test_following_next_shows_every_record_once_and_in_order(api, oscar, tenants, size):
    pages = walk(api(oscar), f"/api/v1/tenants?size={size}")
    assert names(pages) == [tenant.name for tenant in tenants]
    assert all(len(page["results"]) == size for page in pages[:-1])
    assert pages[0]["previous"] is None


@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_following_previous_from_the_end_leads_back_to_the_start(api, oscar, tenants, size):
    client = api(oscar)
    last = walk(client, f"/api/v1/tenants?size={size}")[-1]
    before = walk(client, last["previous"], "previous") if last["previous"] else []
    assert names([*reversed(before), last]) == [tenant.name for tenant in tenants]


def test_a_list_that_rises_by_name_and_falls_by_version_has_no_seams(api, oscar, versions):
    def listed(size):
        return [(row["name"], row["version"]) for page in walk(api(oscar), f"/api/v1/vectors?size={size}") for row in page["results"]]

    whole = listed(500)
    assert whole == sorted(whole, key=lambda row: (row[0], -row[1]))
    assert listed(1) == listed(3) == whole


def test_records_of_the_same_moment_are_told_apart(api, oscar):
    kills = Kill.objects.bulk_create([Kill(kind="everything", reason=f"r{number}", engaged_by=oscar) for number in range(6)])
    assert len({kill.engaged_at for kill in Kill.objects.all()}) == 1
    listed = names(walk(api(oscar), "/api/v1/kills?size=4"), "id")
    assert sorted(listed) == sorted(str(kill.pk) for kill in kills)


def test_what_is_added_meanwhile_neither_repeats_nor_hides_a_record(api, oscar, tenants):
    client = api(oscar)
    first = client.get("/api/v1/tenants?size=5").json()
    Tenant.objects.create(name="a-newcomer")
    second = client.get(first["next"]).json()
    assert names([first, second]) == [tenant.name for tenant in tenants[:10]]


def test_numbered_pages_show_the_same_records(api, oscar, tenants):
    client = api(oscar)
    pages = walk(client, "/api/v1/tenants?size=4")
    for number, page in enumerate(pages, start=1):
        jumped = client.get(f"/api/v1/tenants?size=4&page={number}").json()
        assert jumped["results"] == page["results"]
        assert (jumped["previous"] is None) == (number == 1)
    past = client.get("/api/v1/tenants?size=4&page=9").json()
    assert (past["results"], past["next"], past["previous"]) == ([], None, None)


def test_links_keep_filters_and_size(api, oscar, versions):
    page = api(oscar).get("/api/v1/vectors?name=beta&size=2").json()
    assert "name=beta" in page["next"]
    assert "size=2" in page["next"]
    assert {row["name"] for row in walk(api(oscar), page["next"])[-1]["results"]} == {"beta"}


def test_a_page_does_not_go_on_from_a_record_outside_the_list(api, oscar, versions):
    alpha = api(oscar).get("/api/v1/vectors?name=alpha").json()["results"][0]["id"]
    assert api(oscar).get(f"/api/v1/vectors?after={alpha}").status_code == 200
    assert api(oscar).get(f"/api/v1/vectors?name=beta&after={alpha}").status_code == 400


def test_counting_stops_where_it_would_cost_more_than_the_page(api, oscar, tenants, monkeypatch):
    monkeypatch.setattr(pagination, "COUNTED", 10)
    page = api(oscar).get("/api/v1/tenants?size=2").json()
    assert (page["count"], page["count_is_exact"]) == (10, False)
    assert len(names(walk(api(oscar), "/api/v1/tenants?size=2"))) == 11
    assert api(oscar).get("/api/v1/tenants?size=5&page=3").status_code == 400
    Tenant.objects.get(name="tenant-10").delete()
    page = api(oscar).get("/api/v1/tenants?size=2").json()
    assert (page["count"], page["count_is_exact"]) == (10, True)


def test_people_are_paged_too(api, root):
    for number in range(3):
        create_user(f"person-{number}", roles=[], actor="tests")
    assert names(walk(api(root), "/api/v1/users?size=1")) == ["person-0", "person-1", "person-2", "root"]
