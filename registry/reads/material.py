"""Material: what a job is to work on, as the exact bytes that were sealed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from registry.blobs import get_blob
from registry.models import ContrastSet, EvalSuite
from steernode.files.contrast import ContrastPair, parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteFile, parse_suite


@dataclass(frozen=True)
class Material:
    """The suites that a request names, and the contrast set of its vector where the record has it. Each file is read when it is first
    asked for, and once: whatever is said of a request is said of this."""

    suites: Sequence[EvalSuite]
    contrast_set: ContrastSet | None = None

    @cached_property
    def files(self) -> Mapping[EvalSuite, SuiteFile]:
        return {suite: parse_suite(get_blob(suite.digest), suite.kind) for suite in self.suites}

    @cached_property
    def parts(self) -> Mapping[str, tuple[ContrastPair, ...]]:
        """The pairs by part, all of them empty without a contrast set."""
        return split_pairs(parse_pairs(get_blob(self.contrast_set.digest)).pairs if self.contrast_set else ())
