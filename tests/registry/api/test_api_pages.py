"""Lists come in pages that are found by where the last one ended."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.urls import resolve
from django.utils import timezone

from registry.api import pagination
from registry.api.urls import urlpatterns
from registry.api.views.base import Records
from registry.models import Freeze, Kill, Tenant
from registry.services.people import create_user
from tests.support.api import code_of
from tests.support.world import grow, unguarded


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
    kills = Kill.objects.bulk_create([Kill(kind="everything", target="*", reason=f"r{number}", engaged_by=oscar) for number in range(6)])
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


# -- Records that go between two pages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_page_follows_the_place_of_a_record_that_is_gone(api, oscar, tenants, size):
    client = api(oscar)
    first = client.get(f"/api/v1/tenants?size={size}").json()
    Tenant.objects.get(name=names([first])[-1]).delete()
    Tenant.objects.create(name="a-newcomer")
    rest = walk(client, first["next"])
    assert names([first, *rest]) == [tenant.name for tenant in tenants]
    # And back again, before a place where nothing stands any more.
    last = rest[-1]
    Tenant.objects.get(name=names([last])[0]).delete()
    before = client.get(last["previous"].replace(f"size={size}", "size=500")).json()
    assert names([before])[0] == "a-newcomer"
    assert names([before]) == sorted(name for name in Tenant.objects.values_list("name", flat=True) if name < names([last])[0])


@contextmanager
def gone(model, key):
    """Whatever guards or refers to the record: this is about a list that finds it no longer there."""
    with unguarded(model._meta.db_table), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        model._base_manager.filter(pk=key)._raw_delete(connection.alias)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
        yield
        transaction.set_rollback(True)


def test_every_list_goes_on_where_the_last_record_of_a_page_was(client, world, reader, oscar, production, monkeypatch):
    grow(oscar)
    for days in (1, 2):
        Freeze.objects.create(
            environment=production, starts_at=timezone.now(), ends_at=timezone.now() + timedelta(days=days), reason="x", declared_by=oscar
        )
    shown, paginate = [], pagination.Pages.paginate_queryset

    def remember(self, queryset, request, view=None):
        rows = paginate(self, queryset, request, view)
        shown.append((queryset.model, rows[0].pk))
        return rows

    monkeypatch.setattr(pagination.Pages, "paginate_queryset", remember)
    # By session: one of the records that go is the reader's own token.
    client.force_login(reader)
    followed = set()
    for path in world:
        first = client.get(f"/api/v1/{path}{'&' if '?' in path else '?'}size=1")
        if first.status_code != 200:
            continue
        (record,) = shown[-1:]
        following = client.get(first.json()["next"]).json()["results"]
        assert len(following) == 1, path
        with gone(*record):
            again = client.get(first.json()["next"]).json()
            assert again.get("results") == following, (path, again)
        followed.add(resolve(f"/api/v1/{path}").func.view_class)
    assert followed == {pattern.callback.view_class for pattern in urlpatterns if issubclass(pattern.callback.view_class, Records)}


NO_PLACES = ["[", "[]", "{}", "[1,2]", "[null]", "[true]", "[1.5]", '[["a"]]', '["a"', '["\\u0000"]', '["\\ud800"]', "[" * 100]


@pytest.mark.parametrize("place", [*NO_PLACES, f'["{"x" * 5000}"]', "", "no-id", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("direction", ["after", "before"])
def test_what_is_no_place_is_refused(api, oscar, tenants, place, direction):
    answer = api(oscar).get("/api/v1/tenants", {direction: place})
    assert code_of(answer) == (400, "VALIDATION")
    assert answer.json()["item"] == direction


OF_OTHER_FIELDS = [
    '["x","00000000-0000-0000-0000-000000000000"]',
    '["2026-11-30T10:00:00","00000000-0000-0000-0000-000000000000"]',
    '["2026-13-30T10:00:00Z","00000000-0000-0000-0000-000000000000"]',
    '[5,"00000000-0000-0000-0000-000000000000"]',
    '["2026-11-30T10:00:00+00:00","x"]',
]


@pytest.mark.parametrize("place", OF_OTHER_FIELDS)
def test_a_place_is_of_the_fields_of_the_order(api, oscar, place):
    assert code_of(api(oscar).get("/api/v1/kills", {"after": place})) == (400, "VALIDATION")


def test_a_place_where_nothing_ever_stood_will_do(api, oscar, tenants):
    page = api(oscar).get("/api/v1/tenants", {"after": '["tenant-03x"]', "size": "2"}).json()
    assert names([page]) == ["tenant-04", "tenant-05"]
    assert api(oscar).get("/api/v1/audit/events", {"after": f"[{10**30}]"}).status_code in (200, 403)
