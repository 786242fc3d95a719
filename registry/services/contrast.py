"""Contrast sets: an upload is sealed whole or refused whole."""

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import TransitionRefused
from registry.models import ContrastPair, ContrastSet, User
from registry.services.names import check_new_name
from registry.services.transition import transition
from registry.services.versions import next_version
from steernode.files.contrast import parse_pairs
from steernode.files.conversations import prompt_key
from steernode.files.splits import refuse_one_question


@transition
def seal_contrast_set(name: str, *, axis: str, data: bytes, author: User) -> ContrastSet:
    """uploaded -> sealed: version n + 1 of `name`. The same bytes under the same name are the same version.

    Raises: ContrastSetError CONTRAST_* naming the line; InvalidInput NAME, NAME_CASE; TransitionRefused CONTRAST_EXISTS under another name
    or axis.
    """
    file = parse_pairs(data)
    refuse_one_question(file.pairs)
    version = next_version(ContrastSet, name=name)
    known = ContrastSet.objects.filter(digest=file.digest).first()
    if known is not None:
        if (known.name, known.axis) == (name, axis):
            return known
        raise TransitionRefused("CONTRAST_EXISTS", f"the same pairs are sealed as {known} on the axis {known.axis}", str(known))
    check_new_name(ContrastSet, name)
    contrast_set = ContrastSet.objects.create(
        name=name,
        version=version,
        axis=axis,
        digest=put_blob(data),
        pair_count=len(file.pairs),
        locales=sorted({pair.locale for pair in file.pairs}),
        products=sorted({pair.product for pair in file.pairs}),
        author=author,
    )
    ContrastPair.objects.bulk_create(
        ContrastPair(
            contrast_set=contrast_set,
            index=index,
            pair_id=pair.id,
            positive=[message.to_document() for message in pair.positive],
            negative=[message.to_document() for message in pair.negative],
            locale=pair.locale,
            product=pair.product,
            digest=pair.digest,
            prompt_key=prompt_key(pair.positive),
        )
        for index, pair in enumerate(file.pairs)
    )
    record(
        Action.CONTRAST_SET_SEALED,
        actor=author,
        subject=contrast_set,
        details={"digest": contrast_set.digest, "pairs": contrast_set.pair_count, "axis": axis},
    )
    return contrast_set
