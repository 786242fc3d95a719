"""What every process of the hub does before it serves: stop if a setting is wrong.

Django runs its system checks for management commands only; a web server or a worker would start with whatever it was given.
"""

from collections.abc import Sequence

from django.core.checks import Tags, run_checks


def refuse_wrong_settings(*, tags: Sequence[str] | None = None) -> None:
    """Run the checks with these tags, or all, and those of the database.

    Raises: SystemExit naming each wrong setting and the id of its check.
    """
    found = [*run_checks(tags=tags), *run_checks(tags=[Tags.database], databases=["default"])]
    problems = [problem for problem in found if problem.is_serious()]
    if problems:
        raise SystemExit("\n".join(f"{problem.id}: {problem.msg}" for problem in problems))
