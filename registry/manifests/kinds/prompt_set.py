"""PromptSet: labelled prompts that probes learn from."""

from registry.blobs import get_blob
from registry.manifests.fields import Spec, file, mapping
from registry.manifests.kind import Writer
from registry.manifests.kinds.sealed import Sealed
from registry.manifests.steps import Step
from registry.models import PromptSet
from registry.services.prompts import seal_prompt_set


class PromptSets(Sealed):
    name = "PromptSet"
    about = "Labelled prompts that a probe learns from and is judged on. Other prompts become the next version."
    spec = mapping("The prompts.", required={"prompts": file("The labelled prompts, as JSON lines.")})
    model = PromptSet

    def render(self, row: PromptSet) -> Spec:
        return {"prompts": {"digest": row.digest}}

    def write(self, step: Step, writer: Writer) -> None:
        seal_prompt_set(step.name, data=get_blob(step.spec["prompts"]["digest"]), author=writer.actor)
