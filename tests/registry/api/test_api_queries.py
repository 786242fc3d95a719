"""No answer costs a query more because there is more on record: the number of queries is that of the code, not of the rows."""

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from registry.api.urls import urlpatterns
from tests.support.world import grow

# Files, pictures and streams of one record, and what reads no records at all.
NO_RECORDS = {
    *("healthz", "livez", "whoami", "schema", "blobs/<str:digest>", "audit/export", "evaluations/<uuid:evaluation_id>/evidence"),
    # An export is of everything at once; tests of manifests are of it.
    *("manifests/export", "manifests/schema", "manifests/schemas/<str:kind>"),
    *(f"vectors/<str:name>/<int:version>/{part}" for part in ("file", "sweep", "heatmap.png", "trace.png")),
    *(f"jobs/<uuid:job_id>/{part}" for part in ("sweep", "heatmap.png")),
    *(f"probes/<str:name>/<int:version>/{part}" for part in ("file", "document", "roc.png")),
}


def count_queries(client, path: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, (path, answer.json())
    return len(queries)


def test_every_answer_takes_as_many_queries_with_many_records_as_with_one(api, world, reader, oscar):
    client = api(reader)
    client.get("/api/v1/whoami")
    with_one = {path: count_queries(client, path) for path in world}
    grow(oscar)
    with_many = {path: count_queries(client, path) for path in world}
    assert {path: (with_one[path], with_many[path]) for path in world if with_one[path] != with_many[path]} == {}
    # Room for the caller, its roles, the count, the page and the relations of one record, and no more.
    assert {path: count for path, count in with_many.items() if count > 10} == {}


def test_every_address_that_reads_records_is_counted(world):
    routes = {str(pattern.pattern) for pattern in urlpatterns if hasattr(pattern.callback.view_class, "get")}
    counted = {resolve(f"/api/v1/{path.partition('?')[0]}").route.removeprefix("api/v1/") for path in world}
    assert routes - counted == NO_RECORDS
