"""A node's own endpoint: an OpenAI-shaped chat completion on the loopback interface, steered as the snapshot in force says.

Who asks is told by two headers, set by whatever stands in front: X-SteerHub-Tenant and X-SteerHub-Route. A tenant nobody
flagged, or no tenant at all, is not steered. Two more carry the facts that conditions look at: X-SteerHub-Intents, such as
`refund, complaint`, and X-SteerHub-Attributes, such as `locale=de-DE, channel=phone`. X-SteerHub-Rollout-Key says which caller
it is where a flag is for a share of them, and X-SteerHub-Alpha asks for another α where the flag lets requests ask: outside of
what it lets, the request is refused and nothing is clamped. In no other way can a request choose its own steering.

Replies are greedy unless the body has a `temperature` above 0. Then they are drawn, with `top_p` and `seed` where it has those; the
answer says what was drawn with, the seed too if the node chose it.
"""

from __future__ import annotations

import logging
import secrets
import signal
import time
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from steernode.canonical import parse_alpha, parse_strict
from steernode.errors import CanonicalError, NodeError, SteerError
from steernode.files.conversations import ROLES, Message
from steernode.node.door import LOOPBACK, Door, check_host
from steernode.node.report import describe_status, describe_steering, readiness_problem
from steernode.node.responder import Responder
from steernode.node.runner import NodeRunner
from steernode.records.decoding import Sampling
from steernode.snapshot.conditions import read_facts
from steernode.spelling import spell

log = logging.getLogger("steernode.serve")

MAX_BODY_BYTES = 1024 * 1024
DEFAULT_MAX_TOKENS = 128
MAX_TOKENS = 4096
MAX_FACTS_LENGTH = 4000
# Requests that may wait for the engine; one more is told to come back.
MAX_WAITING = 32
GRACE_SECONDS = 10
_FIELDS = ("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stream", "seed", "user")
_ONLY_VALUE = {"n": 1, "stream": False}
# What JSON numbers of every client hold exactly.
_SEED_BITS = 53
_UNFORESEEN = "the node failed on this request; its log says why"
_STATUS = {"BODY_TOO_LARGE": 413, "CONTENT_TYPE": 415, "OVERLOADED": 503, "NON_FINITE": 500, "INTERNAL": 500}


def build_app(responder: Responder, model_name: str, *, is_guarded: bool = False) -> Starlette:
    """The endpoint of a node whose follower has been started. `is_guarded` says that a `Door` stands before it, which leaves readiness
    open: then that tells no more of a refusal than its code."""
    endpoint = _Endpoint(responder, model_name, is_guarded)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", endpoint.complete, methods=["POST"]),
            Route("/healthz", endpoint.health),
            Route("/readyz", endpoint.readiness),
            Route("/status", endpoint.status),
        ],
        exception_handlers=dict.fromkeys((SteerError, HTTPException, Exception), _answer_error),
    )


def serve(responder: Responder, runner: NodeRunner, *, model_name: str, port: int, host: str = LOOPBACK, key: str | None = None) -> None:
    """Serves until SIGTERM or SIGINT, while the runner follows the hub; requests under way are finished first.

    With a key it answers nobody without. Raises: NodeError HOST_UNPROTECTED, KEY_SHORT.
    """
    check_host(host, key)
    app = build_app(responder, model_name, is_guarded=key is not None)
    # uvicorn repeats the signal that ended it, which would turn an orderly stop into a killed process.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    config = uvicorn.Config(
        Door(app, key) if key else app,
        host=host,
        port=port,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    runner.start()
    try:
        uvicorn.Server(config).run()
    finally:
        runner.stop()


class _Endpoint:
    def __init__(self, responder: Responder, model_name: str, is_guarded: bool) -> None:
        self._responder, self._model_name, self._is_guarded = responder, model_name, is_guarded
        self._waiting = 0

    async def complete(self, request: Request) -> JSONResponse:
        body = await _read_body(request)
        messages, max_tokens, sampling = _read_request(body)
        tenant, route = _read_name(request, "X-SteerHub-Tenant"), _read_name(request, "X-SteerHub-Route")
        facts = read_facts(
            _read_header(request, "X-SteerHub-Intents", MAX_FACTS_LENGTH), _read_header(request, "X-SteerHub-Attributes", MAX_FACTS_LENGTH)
        )
        key, asked = _read_name(request, "X-SteerHub-Rollout-Key"), _read_header(request, "X-SteerHub-Alpha")
        alpha = parse_alpha(asked) if asked else None
        if self._waiting >= MAX_WAITING:
            raise NodeError("OVERLOADED", f"{MAX_WAITING} requests are waiting already; try again in a moment")
        self._waiting += 1
        try:
            effective, generation = await run_in_threadpool(
                self._responder.generate,
                messages,
                tenant=tenant,
                route=route,
                max_tokens=max_tokens,
                sampling=sampling,
                key=key,
                alpha=alpha,
                facts=facts,
            )
        except SteerError:
            raise
        except Exception as error:  # Answered here, because an error that reaches the server closes the client's connection.
            log.exception("a request failed")
            raise NodeError("INTERNAL", _UNFORESEEN) from error
        finally:
            self._waiting -= 1
        return JSONResponse(
            {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": self._model_name,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": generation.text},
                        "finish_reason": generation.finish_reason,
                    }
                ],
                "usage": {
                    "prompt_tokens": generation.prompt_tokens,
                    "completion_tokens": generation.completion_tokens,
                    "total_tokens": generation.prompt_tokens + generation.completion_tokens,
                },
                "decoding": sampling.to_document(),
                "milliseconds_per_token": round(generation.milliseconds_per_token, 3),
                "steering": describe_steering(effective),
                "steering_reason": effective.reason,
            }
        )

    async def health(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readiness(self, _request: Request) -> JSONResponse:
        follower = self._responder.follower
        problem, refusal = readiness_problem(follower.in_force, follower.now()), follower.refusal
        said: dict[str, Any] = {"is_ready": problem is None, "problem": problem}
        if problem is not None and refusal is not None:
            # A message may name tenants and files.
            said["refusal"] = {"code": refusal.code} if self._is_guarded else {"code": refusal.code, "message": refusal.message}
        return JSONResponse(said, status_code=200 if problem is None else 503)

    async def status(self, _request: Request) -> JSONResponse:
        return JSONResponse(describe_status(self._responder.follower, self._responder))


async def _read_body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise NodeError("CONTENT_TYPE", "send the request as application/json", "content-type")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise NodeError("BODY_TOO_LARGE", f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        body = parse_strict(bytes(data), max_bytes=MAX_BODY_BYTES)
    except CanonicalError as error:
        raise NodeError("BODY_INVALID", f"the body is not JSON: {error.message}", error.item) from error
    if not isinstance(body, dict):
        raise NodeError("BODY_INVALID", "the body must be a JSON object")
    return body


def _read_request(body: dict[str, Any]) -> tuple[list[Message], int, Sampling]:
    if "steering" in body:
        raise NodeError(
            "STEERING_OVERRIDE",
            "a body cannot choose its steering; set the tenant's flag in the hub, or ask in X-SteerHub-Alpha",
            "steering",
        )
    unknown = sorted(set(body) - set(_FIELDS))
    if unknown:
        raise NodeError("UNKNOWN_FIELD", f"field {unknown[0]!r} is not supported; known are {', '.join(_FIELDS)}", unknown[0])
    for field, only in _ONLY_VALUE.items():
        value = body.get(field)
        if value is not None and (value != only or isinstance(value, bool) != isinstance(only, bool)):
            raise NodeError("UNSUPPORTED_VALUE", f"{field} can only be {only!r}: this node answers once and whole", field)
    max_tokens = body.get("max_completion_tokens", body.get("max_tokens", DEFAULT_MAX_TOKENS))
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or not 1 <= max_tokens <= MAX_TOKENS:
        raise NodeError("MAX_TOKENS", f"max_tokens must be an integer from 1 to {MAX_TOKENS}, got {max_tokens!r}", "max_tokens")
    return _read_messages(body.get("messages")), max_tokens, _read_sampling(body)


def _read_sampling(body: dict[str, Any]) -> Sampling:
    """Greedy without a temperature, which is not what other services take its absence for: who asks for a part of it, asks for all."""
    temperature, top_p = (_read_number(body, field, default) for field, default in (("temperature", 0), ("top_p", 1)))
    if body.get("temperature") is None and top_p != 1:
        raise NodeError("UNSUPPORTED_VALUE", "top_p is for replies that are drawn; give a temperature above 0 with it", "top_p")
    seed = body.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise NodeError("UNSUPPORTED_VALUE", f"seed must be an integer, got {str(seed)[:40]!r}", "seed")
    sampling = Sampling(temperature, top_p, secrets.randbits(_SEED_BITS) if seed is None else seed)
    if problem := sampling.find_problem():
        field, says = problem
        raise NodeError("UNSUPPORTED_VALUE", f"{field} {says}, got {str(body[field])[:40]}", field)
    return sampling


def _read_number(body: dict[str, Any], field: str, default: int) -> Decimal:
    value = body.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise NodeError("UNSUPPORTED_VALUE", f"{field} must be a number, got {str(value)[:40]!r}", field)
    return Decimal(default if value is None else str(value))


def _read_messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise NodeError("MESSAGES", "messages must be a list with at least one message", "messages")
    messages = []
    for position, item in enumerate(value):
        where = f"messages[{position}]"
        if not isinstance(item, dict) or set(item) != {"role", "content"} or not isinstance(item["content"], str):
            raise NodeError("MESSAGES", f"{where} must have exactly a role and a text content", where)
        if item["role"] not in ROLES or (item["role"] == "system" and position > 0):
            raise NodeError("MESSAGES", f"{where} has the role {item['role']!r}; known are {', '.join(ROLES)}, system only first", where)
        messages.append(Message(item["role"], item["content"]))
    if messages[-1].role != "user":
        raise NodeError("MESSAGES", "the last message must be the user's, the one to answer", "messages")
    return messages


def _read_name(request: Request, header: str) -> str:
    return spell(_read_header(request, header), header)


def _read_header(request: Request, name: str, max_length: int = 200) -> str:
    values = request.headers.getlist(name)
    if len(values) > 1:
        # Two answers to who is asking would let a client outvote the proxy in front.
        raise NodeError("HEADER_REPEATED", f"{name} is given {len(values)} times", name)
    try:
        # Headers are bytes; read as UTF-8, a route or a rollout key is the text that the hub knows it by.
        value = values[0].encode("latin-1").decode("utf-8") if values else ""
    except UnicodeDecodeError as error:
        raise NodeError("HEADER_INVALID", f"{name} must be UTF-8", name) from error
    if len(value) > max_length or not value.isprintable():
        raise NodeError("HEADER_INVALID", f"{name} must be printable text of at most {max_length} characters", name)
    return value


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    headers: Mapping[str, str] | None = None
    if isinstance(error, SteerError):
        code, message, status = error.code, error.message, _STATUS.get(error.code, 400)
        headers = {"Retry-After": "1"} if code == "OVERLOADED" else None
    elif isinstance(error, HTTPException):
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP_ERROR")
        message, status, headers = error.detail, error.status_code, error.headers
    else:
        log.error("a request failed", exc_info=error)
        code, message, status = "INTERNAL", _UNFORESEEN, 500
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)
