"""What tests ask of every answer, of the API and of the fleet application alike."""

WHOAMI = "/api/v1/whoami"


def code_of(answer) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:steerhub:error:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return answer.status_code, body["code"]


def bearer(secret: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {secret}"}


def keyed(key: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Idempotency-Key": key}}


ANY_ID = "00000000-0000-0000-0000-000000000000"
