"""EvalSuite: items that candidates are judged by."""

from registry.blobs import get_blob
from registry.manifests.fields import Spec, choice, file, mapping
from registry.manifests.kind import Writer
from registry.manifests.kinds.sealed import Sealed
from registry.manifests.steps import Step
from registry.models import EvalSuite, SuiteKind
from registry.services.evals import seal_eval_suite


class EvalSuites(Sealed):
    name = "EvalSuite"
    about = "Items that candidates are judged by. Other items become the next version."
    spec = mapping(
        "The items.",
        required={"kind": choice("What is measured.", SuiteKind.values), "items": file("The items, as JSON lines.")},
        optional={"rubric": file("Labelled replies, for a behaviour suite and no other.")},
    )
    model = EvalSuite

    def render(self, row: EvalSuite) -> Spec:
        rubric = {"rubric": {"digest": row.rubric_digest}} if row.rubric_digest else {}
        return {"kind": row.kind, "items": {"digest": row.digest}, **rubric}

    def write(self, step: Step, writer: Writer) -> None:
        seal_eval_suite(
            step.name,
            kind=step.spec["kind"],
            data=get_blob(step.spec["items"]["digest"]),
            rubric=get_blob(step.spec["rubric"]["digest"]) if "rubric" in step.spec else None,
            author=writer.actor,
        )
