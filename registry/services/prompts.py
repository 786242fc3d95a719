"""Prompt sets: an upload is sealed whole or refused whole."""

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import TransitionRefused
from registry.models import PromptSet, User
from registry.services.names import check_new_name
from registry.services.transition import transition
from registry.services.versions import next_version
from steernode.files.prompts import parse_prompts


@transition
def seal_prompt_set(name: str, *, data: bytes, author: User) -> PromptSet:
    """uploaded -> sealed: version n + 1 of `name`. The same bytes under the same name are the same version.

    Raises: PromptSetError PROMPTS_* naming the line; InvalidInput NAME, NAME_CASE; TransitionRefused PROMPTS_EXIST under another name.
    """
    file = parse_prompts(data)
    version = next_version(PromptSet, name=name)
    known = PromptSet.objects.filter(digest=file.digest).first()
    if known is not None:
        if known.name == name:
            return known
        raise TransitionRefused("PROMPTS_EXIST", f"the same prompts are sealed as {known}", str(known))
    check_new_name(PromptSet, name)
    prompt_set = PromptSet.objects.create(
        name=name,
        version=version,
        digest=put_blob(data),
        prompt_count=len(file.prompts),
        intents=list(file.intents),
        counts=file.count(),
        locales=sorted({prompt.locale for prompt in file.prompts}),
        author=author,
    )
    details = {"digest": prompt_set.digest, "prompts": prompt_set.prompt_count, "intents": prompt_set.intents}
    record(Action.PROMPT_SET_SEALED, actor=author, subject=prompt_set, details=details)
    return prompt_set
