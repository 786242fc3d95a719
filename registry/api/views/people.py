"""Users and their API tokens. Administrators only."""

from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Text, Whole
from registry.api.references import find_token, find_user
from registry.api.views.base import Records, View, document
from registry.models import ApiToken, Role, User
from registry.services.people import create_user, issue_token, revoke_token


class UserOut(serializers.Serializer):
    name = serializers.CharField(source="username")
    email = serializers.CharField()
    roles = serializers.SerializerMethodField()
    acts_for = serializers.CharField(source="acts_for.username", default=None, allow_null=True)
    is_active = serializers.BooleanField()

    def get_roles(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())


class TokenOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewTokenOut(TokenOut):
    token = serializers.CharField(help_text="the secret, shown this once")


class UsersView(Records):
    """Everybody, and the one way to add somebody over the API."""

    roles = {"GET": [Role.ADMIN], "POST": [Role.ADMIN]}
    serializer_class = UserOut
    queryset = User.objects.select_related("acts_for").prefetch_related("groups").order_by("username")

    class NewUserBody(Body):
        name = Name(max_length=150)
        roles = serializers.ListField(child=Text(), default=list)
        password = Text(required=False, max_length=200, trim_whitespace=False)
        email = serializers.EmailField(required=False, default="", allow_blank=True)
        acts_for = Text(required=False, help_text="a service account counts as this person")

    @document("Create a person or a service account", body=NewUserBody, answer=UserOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewUserBody)
        if "password" in body:
            validate_password_or_refuse(body["password"])
        user = create_user(
            body["name"],
            roles=body["roles"],
            actor=request.user,
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


class TokensView(Records):
    """A person's tokens; secrets are not among what can be read."""

    roles = {"GET": [Role.ADMIN], "POST": [Role.ADMIN]}
    serializer_class = TokenOut
    queryset = ApiToken.objects.all()

    class NewTokenBody(Body):
        name = Text(max_length=100)
        days = Whole(min_value=1, max_value=366, default=90)

    def get_queryset(self) -> object:
        return super().get_queryset().filter(user=find_user(self.kwargs["name"]))

    @document(
        "Issue a token; its secret is in this answer and nowhere else", body=NewTokenBody, answer=NewTokenOut, status=201, refuses=[404]
    )
    def post(self, request: Request, name: str) -> Response:
        token, secret = issue_token(find_user(name), actor=request.user, **self.read_body(self.NewTokenBody))
        token.token = secret
        return Response(NewTokenOut(token).data, status=201)


class TokenView(View):
    """Take one token away. It stops working with the next request."""

    roles = {"DELETE": [Role.ADMIN]}

    @document("Revoke a token", status=204, refuses=[404])
    def delete(self, request: Request, name: str, token_id: UUID) -> Response:
        revoke_token(find_token(find_user(name), token_id), actor=request.user)
        return Response(status=204)
