"""What a job works on, read back from the store as the exact bytes that were sealed."""

from registry.blobs import get_blob
from registry.errors import InvalidInput
from registry.models import ContrastSet, EvalSuite, Job, PromptSet, SuiteKind
from steernode.files.contrast import ContrastFile, parse_pairs
from steernode.files.prompts import PromptFile, parse_prompts
from steernode.files.suites import SuiteFile, parse_suite


def read_contrast_set(contrast_set: ContrastSet) -> ContrastFile:
    """Its pairs."""
    return parse_pairs(get_blob(contrast_set.digest))


def read_prompt_set(prompt_set: PromptSet) -> PromptFile:
    """Its labelled prompts."""
    return parse_prompts(get_blob(prompt_set.digest))


def read_suites(job: Job) -> dict[str, SuiteFile]:
    """The job's suites by kind. Raises: InvalidInput SUITES_OF_ONE_KIND, of jobs from before these were refused when asked for."""
    suites = list(job.suites.all())
    if len({suite.kind for suite in suites}) < len(suites):
        raise InvalidInput("SUITES_OF_ONE_KIND", f"{job} names two suites of one kind, of which one would judge; ask for it anew", str(job))
    return {suite.kind: parse_suite(get_blob(suite.digest), suite.kind) for suite in suites}


def read_rubric_digest(job: Job) -> str:
    """The labelled replies that the behaviour suite is scored by, as the digest of their file."""
    suite: EvalSuite = job.suites.get(kind=SuiteKind.BEHAVIOUR)
    return suite.rubric_digest
