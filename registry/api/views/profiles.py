"""Profiles: named intents. What each does is in its revisions."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Spelled, Text
from registry.api.views.base import Records, View, document
from registry.models import Profile, Purpose, Role
from registry.reads.lookups import get_profile
from registry.services.profiles import create_profile


class RevisionStateOut(serializers.Serializer):
    """A revision as its profile lists it."""

    number = serializers.IntegerField()
    state = serializers.CharField()
    author = serializers.CharField(source="author.username")
    digest = serializers.CharField()
    created_at = serializers.DateTimeField()


class ProfileOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    intent = serializers.CharField()
    purpose = serializers.CharField()
    axis = serializers.CharField()
    risk_class = serializers.CharField(source="risk_class_id")
    owner = serializers.CharField(source="owner.username")
    created_at = serializers.DateTimeField()


class ProfileDetailOut(ProfileOut):
    revisions = serializers.SerializerMethodField()

    @extend_schema_field(RevisionStateOut(many=True))
    def get_revisions(self, profile: Profile) -> list[dict[str, Any]]:
        return list(RevisionStateOut(profile.revisions.select_related("author").order_by("-number"), many=True).data)


class ProfilesView(Records):
    """Every profile."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = ProfileOut
    queryset = Profile.objects.select_related("owner").order_by("name")
    filters = {"axis": "axis", "purpose": "purpose", "risk_class": "risk_class"}

    class NewProfileBody(Body):
        name = Name()
        intent = Text(max_length=2000)
        purpose = Spelled(max_length=20, help_text=f"one of {', '.join(Purpose.values)}; of any other the answer says what fits better")
        axis = Name(max_length=50)
        risk_class = Name(max_length=50, help_text="the name of a risk policy")

    @document("Name an intent", body=NewProfileBody, answer=ProfileDetailOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        profile = create_profile(owner=self.person, **self.read_body(self.NewProfileBody))
        return Response(ProfileDetailOut(profile).data, status=201)


class ProfileView(View):
    """One profile and the states of its revisions."""

    limited = ("GET",)

    @document("One profile", answer=ProfileDetailOut, refuses=[404])
    def get(self, request: Request, name: str) -> Response:
        return Response(ProfileDetailOut(get_profile(name)).data)
