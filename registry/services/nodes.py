"""The life of a serving node: invited by an operator, enrolled by itself with a key of its own, withdrawn in the end.

What it reports meanwhile is in `registry.services.reports`.
"""

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection
from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import Environment, ServingNode, User
from registry.services.names import check_new_name
from registry.services.people import hash_secret
from registry.services.reports import end_boot
from registry.services.transition import transition
from registry.snapshots.publish import CHANNEL
from steernode.dsse import key_id, write_public_key
from steernode.hub.tokens import ENROLMENT, NODE, make_token

# How long a one-time token waits for its node.
ENROLMENT_LIVES = timedelta(hours=1)
# Tokens that are remembered, so that a process which still has one is told.
MAX_PAST_TOKENS = 20


@transition
def invite_node(name: str, *, environment: Environment, actor: User) -> tuple[ServingNode, str]:
    """A node that may enrol, and the one-time token to do it with, which is shown this once."""
    if ServingNode.objects.filter(name=name).exists():
        raise TransitionRefused("NODE_EXISTS", f"a node {name!r} is listed already; rotate it, or re-enrol it once it is withdrawn", name)
    check_new_name(ServingNode, name)
    return _invite(ServingNode(name=name, environment=environment), actor, cause="new")


@transition
def rotate_node(node: ServingNode, *, actor: User) -> tuple[ServingNode, str]:
    """A one-time token for a node that changes its token and key. Those it has count until it uses the new one.

    Raises: TransitionRefused NODE_WITHDRAWN.
    """
    locked = _lock(node)
    if not locked.is_active:
        raise TransitionRefused("NODE_WITHDRAWN", f"{locked} is withdrawn; re-enrol it to bring it back", locked.name)
    return _invite(locked, actor, cause="rotate")


@transition
def reenroll_node(node: ServingNode, *, actor: User) -> tuple[ServingNode, str]:
    """A one-time token for a withdrawn node, which stays withdrawn until it uses it. Raises: TransitionRefused NODE_ACTIVE."""
    locked = _lock(node)
    if locked.is_active:
        raise TransitionRefused("NODE_ACTIVE", f"{locked} is not withdrawn; rotate it to give it another token and key", locked.name)
    return _invite(locked, actor, cause="re-enrol")


@transition
def withdraw_node(node: ServingNode, *, reason: str, actor: User) -> ServingNode:
    """The node gets nothing more, from its next request on, and no longer counts. It stays listed, for the record.

    Raises: TransitionRefused NODE_WITHDRAWN.
    """
    locked = _lock(node)
    if not locked.is_active:
        raise TransitionRefused("NODE_WITHDRAWN", f"{locked} is withdrawn already", locked.name)
    locked.is_active, locked.withdrawn_at = False, timezone.now()
    locked.enrolment_sha256, locked.enrolment_expires_at = "", None
    locked.save()
    with connection.cursor() as cursor:
        # The fleet application looks every second anyway; so it looks at once.
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"withdrawn:{locked.name}"])
    details = {"token": locked.token_prefix, "reason": reason}
    record(Action.NODE_WITHDRAWN, actor=actor, subject=locked, environment=locked.environment.name, details=details)
    return locked


@transition
def enroll_node(secret: str, *, name: str, public_key: Ed25519PublicKey) -> tuple[ServingNode, str]:
    """Invited -> active: the node that holds this one-time token has this key from now on, and the token given here, shown this once.

    Whatever it had before ends here: token, key, and the boot that it reported of, whose reports could come again by a key that is kept.
    Raises: InvalidInput ENROLMENT_TOKEN for a token that is unknown, used, expired or another node's.
    """
    found = ServingNode.objects.select_for_update(of=("self",)).select_related("environment")
    node = found.filter(enrolment_sha256=hash_secret(secret), enrolment_expires_at__gt=timezone.now(), name=name).first()
    if node is None:
        raise InvalidInput("ENROLMENT_TOKEN", "the enrolment token is unknown, used, expired, or for another node; ask for a new one", name)
    is_first = node.enrolled_at is None
    if node.token_sha256:
        node.past_tokens = [*node.past_tokens, node.token_sha256][-MAX_PAST_TOKENS:]
    token = make_token(NODE)
    node.token_prefix, node.token_sha256, node.public_key = token[:12], hash_secret(token), write_public_key(public_key)
    node.enrolment_sha256, node.enrolment_expires_at = "", None
    node.is_active, node.withdrawn_at, node.enrolled_at = True, None, timezone.now()
    end_boot(node)
    # What the process before reported says nothing of this one.
    node.last_seen_at, node.last_result, node.last_code = None, "", ""
    node.save()
    details = {"token": node.token_prefix, "key": key_id(public_key), "is_first": is_first}
    record(Action.NODE_ENROLLED, actor=node, subject=node, environment=node.environment.name, details=details)
    return node, token


def _lock(node: ServingNode) -> ServingNode:
    return ServingNode.objects.select_for_update(of=("self",)).select_related("environment").get(pk=node.pk)


def _invite(node: ServingNode, actor: User, *, cause: str) -> tuple[ServingNode, str]:
    """A one-time token in place of any that it had."""
    secret = make_token(ENROLMENT)
    node.enrolment_sha256, node.enrolment_expires_at = hash_secret(secret), timezone.now() + ENROLMENT_LIVES
    node.save()
    details = {"token": secret[:12], "cause": cause}
    record(Action.NODE_INVITED, actor=actor, subject=node, environment=node.environment.name, details=details)
    return node, secret
