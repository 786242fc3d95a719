"""Eval suites: an upload is sealed whole or refused whole."""

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import InvalidInput, TransitionRefused
from registry.models import EvalItem, EvalSuite, Split, SuiteKind, User
from registry.services.names import check_new_name
from registry.services.transition import transition
from registry.services.versions import next_version
from steernode.files.conversations import prompt_key
from steernode.files.suites import parse_rubric, parse_suite


@transition
def seal_eval_suite(name: str, *, kind: str, data: bytes, author: User, rubric: bytes | None = None) -> EvalSuite:
    """uploaded -> sealed: version n + 1 of `name`. A behaviour suite brings the labelled replies of its rubric.

    Raises: SuiteError SUITE_* or RUBRIC_* naming the line; InvalidInput SUITE_RUBRIC, NAME, NAME_CASE; TransitionRefused SUITE_EXISTS.
    """
    file = parse_suite(data, kind)
    if (kind == SuiteKind.BEHAVIOUR) != (rubric is not None):
        raise InvalidInput("SUITE_RUBRIC", "a behaviour suite needs a rubric file, and no other kind takes one", kind)
    labelled = parse_rubric(rubric) if rubric is not None else None
    version = next_version(EvalSuite, name=name)
    rubric_digest = labelled.digest if labelled else ""
    known = EvalSuite.objects.filter(digest=file.digest, rubric_digest=rubric_digest).first()
    if known is not None:
        if (known.name, known.kind) == (name, kind):
            return known
        raise TransitionRefused("SUITE_EXISTS", f"the same items are sealed as {known} of kind {known.kind}", str(known))
    check_new_name(EvalSuite, name)
    if rubric is not None:
        put_blob(rubric)
    suite = EvalSuite.objects.create(
        name=name,
        version=version,
        kind=kind,
        digest=put_blob(data),
        item_count=len(file.items),
        axis=labelled.axis if labelled else "",
        rubric_digest=rubric_digest,
        locales=sorted({item.locale for item in file.split(Split.TEST)}),
        author=author,
    )
    EvalItem.objects.bulk_create(
        EvalItem(
            suite=suite,
            index=index,
            item_id=item.id,
            split=item.split,
            messages=[message.to_document() for message in item.messages],
            expect=item.expect,
            prompt_key=prompt_key(item.messages),
        )
        for index, item in enumerate(file.items)
    )
    record(
        Action.EVAL_SUITE_SEALED,
        actor=author,
        subject=suite,
        details={"digest": suite.digest, "items": suite.item_count, "kind": kind, "rubric_digest": rubric_digest},
    )
    return suite
