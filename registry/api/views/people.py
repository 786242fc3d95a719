"""Users, what they may do, and API tokens: administrators administer, and everybody with a role has tokens of their own."""

from typing import Any
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Spelled, Switch, Text, Whole
from registry.api.references import find_tenant, find_token, find_user
from registry.api.views.base import Records, View, document
from registry.models import SCOPES, ApiToken, Role, User
from registry.reads.departures import stands_behind
from registry.services.people import MAX_TOKEN_DAYS, change_access, create_user, issue_token, revoke_token


class UserOut(serializers.Serializer):
    name = serializers.CharField(source="username")
    email = serializers.CharField()
    roles = serializers.SerializerMethodField()
    tenants = serializers.SerializerMethodField(help_text="the tenants the user is limited to; null for no limit")
    acts_for = serializers.CharField(source="acts_for.username", default=None, allow_null=True)
    is_active = serializers.BooleanField()

    def get_roles(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())

    def get_tenants(self, user: User) -> list[str] | None:
        return sorted(tenant.name for tenant in user.tenants.all()) if user.is_limited_to_tenants else None


class StandsBehindOut(serializers.Serializer):
    """What rests on an account. Without its roles, what is approved stays and is marked; the rest counts no more."""

    approved = serializers.ListField(child=serializers.CharField(), help_text="approved revisions, that it approved")
    pending_approvals = serializers.ListField(child=serializers.CharField(), help_text="submitted revisions, that it approved")
    submitted = serializers.ListField(child=serializers.CharField(), help_text="submitted revisions, that it wrote")
    lifts = serializers.ListField(child=serializers.CharField(), help_text="kills whose lift it asked for")
    waivers = serializers.ListField(child=serializers.CharField(), help_text="that it asked for or confirmed, and that did not end")


class UserDetailOut(UserOut):
    stands_behind = serializers.SerializerMethodField()

    @extend_schema_field(StandsBehindOut)
    def get_stands_behind(self, user: User) -> dict[str, Any]:
        return StandsBehindOut(stands_behind(user)).data


class TokenOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True, help_text="null: whatever its user may do")
    tenant = serializers.CharField(source="tenant.name", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="to the minute")


class NewTokenOut(TokenOut):
    token = serializers.CharField(help_text="the secret, shown this once")


class UsersView(Records):
    """Everybody, and the one way to add somebody over the API."""

    roles = {"GET": [Role.ADMIN], "POST": [Role.ADMIN]}
    serializer_class = UserOut
    queryset = User.objects.select_related("acts_for").prefetch_related("groups", "tenants").order_by("username")

    class NewUserBody(Body):
        name = Name(max_length=150)
        roles = serializers.ListField(child=Spelled(), default=list)
        password = Text(required=False, max_length=200, trim_whitespace=False)
        email = serializers.EmailField(required=False, default="", allow_blank=True)
        acts_for = Spelled(required=False, help_text="a service account counts as this person")

    @document("Create a person or a service account", body=NewUserBody, answer=UserOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewUserBody)
        if "password" in body:
            validate_password_or_refuse(body["password"])
        user = create_user(
            body["name"],
            roles=body["roles"],
            actor=self.person,
            password=body.get("password"),
            email=body["email"],
            acts_for=find_user(body["acts_for"]) if "acts_for" in body else None,
        )
        return Response(UserOut(user).data, status=201)


def validate_password_or_refuse(password: str) -> None:
    try:
        validate_password(password)
    except ValidationError as error:
        raise serializers.ValidationError({"password": error.messages}) from error


class UserView(View):
    """One user, and the one way to change what they may do over the API."""

    roles = {"GET": [Role.ADMIN], "PUT": [Role.ADMIN]}

    class AccessBody(Body):
        roles = serializers.ListField(child=Spelled(), help_text="all of them; a role that is left out is taken away")
        tenants = serializers.ListField(
            child=Spelled(), allow_null=True, help_text="the tenants the user is limited to; null for no limit, and [] for none at all"
        )
        is_active = Switch(default=True, help_text="false: neither the user nor any token gets in")

    @document("One user", answer=UserDetailOut, refuses=[404])
    def get(self, request: Request, name: str) -> Response:
        return Response(UserDetailOut(find_user(name)).data)

    @document("Set what a user may do", body=AccessBody, answer=UserDetailOut, refuses=[404, 409, 422])
    def put(self, request: Request, name: str) -> Response:
        body = self.read_body(self.AccessBody)
        names = body.pop("tenants")
        tenants = None if names is None else [find_tenant(tenant, seen_by=self.person) for tenant in names]
        return Response(UserDetailOut(change_access(find_user(name), tenants=tenants, actor=self.person, **body)).data)


class NewTokenBody(Body):
    name = Spelled(max_length=100)
    days = Whole(min_value=1, max_value=MAX_TOKEN_DAYS, default=90)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(SCOPES), required=False, min_length=1, help_text="left out: whatever the user may do"
    )
    tenant = Spelled(max_length=100, required=False, help_text="left out: every tenant that the user sees")


class TokensView(Records):
    """A user's tokens; secrets are not among what can be read."""

    roles = {"GET": [Role.ADMIN], "POST": [Role.ADMIN]}
    shows_secret = True
    serializer_class = TokenOut
    queryset = ApiToken.objects.select_related("tenant")

    def get_queryset(self) -> QuerySet[ApiToken]:
        return super().get_queryset().filter(user=self.get_user())

    def get_user(self) -> User:
        return find_user(self.kwargs["name"])

    @document(
        "Issue a token; its secret is in this answer and nowhere else",
        body=NewTokenBody,
        answer=NewTokenOut,
        status=201,
        refuses=[404, 409, 422],
    )
    def post(self, request: Request, **kwargs: str) -> Response:
        body = self.read_body(NewTokenBody)
        if "tenant" in body:
            body["tenant"] = find_tenant(body["tenant"], seen_by=self.person)
        token, secret = issue_token(self.get_user(), actor=self.person, **body)
        return Response({**TokenOut(token).data, "token": secret}, status=201)


class TokenView(View):
    """Take one token away. It stops working with the next request."""

    roles = {"DELETE": [Role.ADMIN]}

    def get_user(self) -> User:
        return find_user(self.kwargs["name"])

    @document("Revoke a token", status=204, refuses=[404])
    def delete(self, request: Request, token_id: UUID, **kwargs: str) -> Response:
        revoke_token(find_token(self.get_user(), token_id), actor=self.person)
        return Response(status=204)


class OwnTokensView(TokensView):
    """The caller's own tokens."""

    roles = {"POST": Role.values}
    limited = ("GET", "POST")

    def get_user(self) -> User:
        return self.person


class OwnTokenView(TokenView):
    """Take one of one's own tokens away."""

    roles = {"DELETE": Role.values}
    limited = ("DELETE",)

    def get_user(self) -> User:
        return self.person
