"""ContrastSet: pairs of conversations on one axis."""

from registry.blobs import get_blob
from registry.manifests.fields import Spec, file, mapping, slug
from registry.manifests.kind import Writer
from registry.manifests.kinds.sealed import Sealed
from registry.manifests.steps import Step
from registry.models import ContrastSet
from registry.services.contrast import seal_contrast_set


class ContrastSets(Sealed):
    name = "ContrastSet"
    about = "Pairs of conversations that differ only in one behaviour. Other pairs become the next version."
    spec = mapping("The pairs.", required={"axis": slug("The behaviour.", max_length=50), "pairs": file("The pairs, as JSON lines.")})
    model = ContrastSet

    def render(self, row: ContrastSet) -> Spec:
        return {"axis": row.axis, "pairs": {"digest": row.digest}}

    def write(self, step: Step, writer: Writer) -> None:
        seal_contrast_set(step.name, axis=step.spec["axis"], data=get_blob(step.spec["pairs"]["digest"]), author=writer.actor)
