"""When something fires, as the manifests of revisions and of recipes say it."""

from registry.manifests.fields import choice, list_of, mapping, measure, reference, spelled
from steernode import words

CONDITION = mapping(
    "When it holds: for a request of some intents, with some attribute, or by a probe on the prompt's activations.",
    required={"kind": choice("Its form.", words.CONDITION_KINDS)},
    optional={
        "labels": list_of("Of intent: any of these.", spelled("An intent.", max_length=200), low=1, high=words.MAX_CONDITION_ENTRIES),
        "name": spelled("Of attribute: which one.", max_length=64),
        "values": list_of("Of attribute: any of these.", spelled("A value.", max_length=200), low=1, high=words.MAX_CONDITION_ENTRIES),
        "probe": reference("Of probe: one that a job trained, which says all the rest."),
        "vector": reference("Of probe, in its place: the direction it reads along."),
        "readPosition": choice("Of probe: which tokens it reads.", words.PROBE_READ_POSITIONS),
        "scale": measure("Of probe: log-odds per activation unit."),
        "bias": measure("Of probe: log-odds."),
        "threshold": measure("Of probe: the log-odds from which it holds."),
    },
)
