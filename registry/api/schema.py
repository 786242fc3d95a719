"""The OpenAPI document's side of what every endpoint shares: headers it reads, and answers it may give whatever it is for."""

from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from registry.api.idempotency import CHANGING, MAX_KEY_LENGTH
from registry.web.problems import PROBLEM_TYPE


class HubSchema(AutoSchema):
    """Beside what a view declares with `document`: the Idempotency-Key, and the refusals that come before or instead of the view's."""

    def get_override_parameters(self) -> list[Any]:
        if self.method not in CHANGING or getattr(self.view, "ignores_key", False):
            return []
        key = OpenApiParameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]+$"},
            OpenApiParameter.HEADER,
            required=self._needs_key(),
            description="Sent again under the same key, the request is done once and answered the same.",
        )
        return [key]

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        from registry.api.views.base import ProblemDocument

        answers = super()._get_response_bodies(direction)
        refusal = OpenApiResponse(ProblemDocument, description="Refused; the problem document says why.")
        for status in map(str, self._shared_refusals()):
            if status not in answers:
                # drf-spectacular says no type of it.
                answers[status] = self._get_response_for_code(refusal, status, (PROBLEM_TYPE,), direction)  # type: ignore[no-untyped-call]
        return dict(sorted(answers.items()))

    def _shared_refusals(self) -> list[int]:
        # 400: an unknown parameter or an unreadable body; 503: the database does not answer.
        refusals = [400, 503]
        if self.view.permission_classes:
            refusals += [401, 403]
        if "{" in self.path:
            # 404 for what is not there; 422 for a name that no record can hold.
            refusals += [404, 422]
        if self.method in CHANGING:
            # 409: a key that was another request's, or a rule of the record's; 413, 415: a body too large or of another type.
            refusals += [409, 413, 415, 422]
        if self._needs_key():
            refusals.append(428)
        return refusals

    def _needs_key(self) -> bool:
        return self.method in CHANGING and getattr(self.view, "needs_key", False)
