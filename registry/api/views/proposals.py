"""Proposals: vectors that a move left behind, to be extracted again by the same recipe once an author accepts."""

from uuid import UUID

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Text
from registry.api.references import find_proposal
from registry.api.views.base import Records, View, document
from registry.api.views.base_models import BaseModelRefOut
from registry.api.views.jobs import VectorRefOut
from registry.models import PROPOSAL_STATES, Proposal, Role
from registry.services.proposals import accept_proposal, decline_proposal


class ProposalOut(serializers.Serializer):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(list(PROPOSAL_STATES))
    vector = VectorRefOut(help_text="what would be extracted again")
    base_model = BaseModelRefOut(help_text="from what")
    profile = serializers.CharField(source="profile.name", default=None, allow_null=True, help_text="that the job would end as a draft of")
    proposed_at = serializers.DateTimeField()
    job = serializers.UUIDField(source="job_id", allow_null=True)
    accepted_by = serializers.CharField(source="accepted_by.username", default=None, allow_null=True)
    accepted_at = serializers.DateTimeField(allow_null=True)
    declined_by = serializers.CharField(source="declined_by.username", default=None, allow_null=True)
    declined_at = serializers.DateTimeField(allow_null=True)
    declined_reason = serializers.CharField(allow_blank=True)


class ProposalsView(Records):
    """Every proposal, newest first."""

    serializer_class = ProposalOut
    queryset = Proposal.objects.order_by("-proposed_at", "pk").select_related(
        "vector", "base_model", "profile", "accepted_by", "declined_by"
    )
    filters = {"vector": "vector__name", "base_model": "base_model__name", "author": "vector__author__username"}
    query = ("state",)

    def get_queryset(self) -> QuerySet[Proposal]:
        state = self.request.query_params.get("state")
        if state is None:
            return super().get_queryset()
        if state not in PROPOSAL_STATES:
            raise serializers.ValidationError({"state": [f"want one of {', '.join(PROPOSAL_STATES)}"]})
        return super().get_queryset().filter(PROPOSAL_STATES[state])


class ProposalView(View):
    """One proposal."""

    @document("One proposal", answer=ProposalOut, refuses=[404])
    def get(self, request: Request, proposal_id: UUID) -> Response:
        return Response(ProposalOut(find_proposal(proposal_id)).data)


class AcceptProposalView(View):
    """proposed or declined -> accepted: the extraction is queued. Accepting again gives the job that is there."""

    roles = {"POST": [Role.AUTHOR]}

    class NothingToSayBody(Body):
        """No fields."""

    @document("Accept a proposal", body=NothingToSayBody, answer=ProposalOut, refuses=[404, 409, 422])
    def post(self, request: Request, proposal_id: UUID) -> Response:
        self.read_body(self.NothingToSayBody)
        accept_proposal(proposal_id, actor=self.person)
        return Response(ProposalOut(find_proposal(proposal_id)).data)


class DeclineProposalView(View):
    """proposed -> declined. It can still be accepted."""

    roles = {"POST": [Role.AUTHOR]}

    class DeclineBody(Body):
        reason = Text(max_length=2000)

    @document("Decline a proposal", body=DeclineBody, answer=ProposalOut, refuses=[404, 409, 422])
    def post(self, request: Request, proposal_id: UUID) -> Response:
        body = self.read_body(self.DeclineBody)
        decline_proposal(proposal_id, reason=body["reason"], actor=self.person)
        return Response(ProposalOut(find_proposal(proposal_id)).data)
