"""Contrast sets and eval suites: uploaded as blobs, then sealed under a name."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Digest, Name, Spelled
from registry.api.references import find_contrast_set, find_suite
from registry.api.views.base import Records, View, document
from registry.blobs import get_blob
from registry.models import ContrastSet, EvalSuite, Role
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite


class ContrastSetOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    axis = serializers.CharField()
    digest = serializers.CharField()
    pair_count = serializers.IntegerField()
    locales = serializers.ListField(child=serializers.CharField())
    products = serializers.ListField(child=serializers.CharField())
    author = serializers.CharField(source="author.username")
    sealed_at = serializers.DateTimeField()


class EvalSuiteOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    kind = serializers.CharField()
    axis = serializers.CharField()
    digest = serializers.CharField()
    rubric_digest = serializers.CharField()
    item_count = serializers.IntegerField()
    author = serializers.CharField(source="author.username")
    sealed_at = serializers.DateTimeField()


class ContrastSetsView(Records):
    """Every sealed version of every contrast set."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = ContrastSetOut
    queryset = ContrastSet.objects.select_related("author").order_by("name", "-version")
    filters = {"name": "name", "axis": "axis", "digest": "digest"}

    class NewContrastSetBody(Body):
        name = Name()
        axis = Name(max_length=50)
        digest = Digest(help_text="of the uploaded JSONL")

    @document("Seal a contrast set", body=NewContrastSetBody, answer=ContrastSetOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewContrastSetBody)
        contrast_set = seal_contrast_set(body["name"], axis=body["axis"], data=get_blob(body["digest"]), author=self.person)
        return Response(ContrastSetOut(contrast_set).data, status=201)


class ContrastSetView(View):
    """One sealed version."""

    limited = ("GET",)

    @document("One contrast set", answer=ContrastSetOut, refuses=[404])
    def get(self, request: Request, name: str, version: int) -> Response:
        return Response(ContrastSetOut(find_contrast_set(f"{name}@{version}")).data)


class EvalSuitesView(Records):
    """Every sealed version of every eval suite."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = EvalSuiteOut
    queryset = EvalSuite.objects.select_related("author").order_by("name", "-version")
    filters = {"name": "name", "kind": "kind", "axis": "axis", "digest": "digest"}

    class NewEvalSuiteBody(Body):
        name = Name()
        kind = Spelled(max_length=20, help_text="behaviour, factual, safety, fluency or capability")
        digest = Digest(help_text="of the uploaded JSONL")
        rubric_digest = Digest(required=False, help_text="of the labelled replies; a behaviour suite needs them")

    @document("Seal an eval suite", body=NewEvalSuiteBody, answer=EvalSuiteOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewEvalSuiteBody)
        suite = seal_eval_suite(
            body["name"],
            kind=body["kind"],
            data=get_blob(body["digest"]),
            rubric=get_blob(body["rubric_digest"]) if "rubric_digest" in body else None,
            author=self.person,
        )
        return Response(EvalSuiteOut(suite).data, status=201)


class EvalSuiteView(View):
    """One sealed version."""

    limited = ("GET",)

    @document("One eval suite", answer=EvalSuiteOut, refuses=[404])
    def get(self, request: Request, name: str, version: int) -> Response:
        return Response(EvalSuiteOut(find_suite(f"{name}@{version}")).data)
