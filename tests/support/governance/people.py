"""Who there is, what they may do now, and who counts as whom."""

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Person:
    """`acts_for` names the person behind a service account. `roles` are those of the beginning."""

    name: str
    roles: frozenset[str]
    acts_for: str = ""

    def __repr__(self) -> str:
        return self.name

    @property
    def human(self) -> str:
        return self.acts_for or self.name


CAST = {
    person.name: person
    for person in (
        Person("ada", frozenset({"author"})),
        Person("ada-bot", frozenset({"author", "approver"}), acts_for="ada"),
        Person("bob", frozenset({"author", "approver"})),
        Person("grace", frozenset({"approver"})),
        Person("mary", frozenset({"approver"})),
        Person("oscar", frozenset({"operator"})),
        Person("root", frozenset({"admin"})),
        # Knows every address and every digest, and holds no role.
        Person("mallory", frozenset()),
    )
}


class Refused(Exception):
    """The code that the registry should answer with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class People:
    def __init__(self) -> None:
        super().__init__()
        self.roles = {person.name: person.roles for person in CAST.values()}
        self.gone: set[str] = set()

    def change_access(self, actor: Person, whom: Person, roles: frozenset[str], *, stays: bool) -> None:
        self.need(actor, "admin")
        if actor.human == whom.human:
            raise Refused("OWN_ACCESS")
        self.roles[whom.name] = roles
        self.gone = self.gone - {whom.name} if stays else self.gone | {whom.name}

    @property
    def changed(self) -> list[Person]:
        """Whoever is not what they were in the beginning."""
        return [person for person in CAST.values() if person.name in self.gone or self.roles[person.name] != person.roles]

    def need(self, actor: Person, *roles: str) -> None:
        if {actor.name, actor.human} & self.gone:
            raise Refused("NOT_AUTHENTICATED")
        if not self.still_may(actor, *roles):
            raise Refused("PERMISSION_DENIED")

    def still_may(self, person: Person, *roles: str) -> bool:
        """A service account goes with its person."""
        return not {person.name, person.human} & self.gone and bool(self.roles[person.name] & set(roles))
