"""The governed record, in the order the data flows. Each arrow is a foreign key that points back."""

# ruff: noqa: I001  (the order is the order of the data, not of the alphabet)
from registry.models.people import READ_ONLY, SCOPES, ApiToken, IdempotentAnswer, Role, User
from registry.models.base_models import BaseModel, EnvironmentBaseModel
from registry.models.contrast import ContrastPair, ContrastSet
from registry.models.evals import EvalItem, EvalSuite, Split, SuiteKind
from registry.models.gates import GateSet
from registry.models.jobs import Job, JobKind, JobState, JobStep
from registry.models.vectors import Site, SteeringVector, Unit
from registry.models.probes import Probe, PromptSet
from registry.models.waivers import Waiver
from registry.models.openings import SuiteOpening
from registry.models.comparisons import VectorComparison
from registry.models.evaluations import Evaluation, Verdict
from registry.models.purposes import TECHNIQUES, Purpose, Technique
from registry.models.covers import FORM_VERDICTS, CoverableForms, CoveredForm
from registry.models.policies import RiskPolicy
from registry.models.profiles import (
    Component,
    Operator,
    Profile,
    ProfileRevision,
    RevisionState,
    StalePolicy,
    TokenScope,
)
from registry.models.proposals import PROPOSAL_STATES, Proposal
from registry.models.approvals import Approval, Decision, RevisionComment
from registry.models.tenants import Environment, Tenant
from registry.models.flags import FlagArm, FlagField, TenantFlag
from registry.models.kills import LIFT_REQUEST_LASTS, MAY_KILL, Kill, KillKind
from registry.models.freezes import Freeze
from registry.models.keys import KeyPurpose, SigningKey, TrustDocument
from registry.models.snapshots import Snapshot
from registry.models.stops import StopStatement
from registry.models.nodes import NodeReport, ReportResult, ServingNode
from registry.models.notifications import Notification
from registry.models.declarations import AppliedPlan, Declaration
from registry.models.audit import AuditEvent

__all__ = [
    "FORM_VERDICTS",
    "LIFT_REQUEST_LASTS",
    "MAY_KILL",
    "PROPOSAL_STATES",
    "READ_ONLY",
    "SCOPES",
    "TECHNIQUES",
    "ApiToken",
    "AppliedPlan",
    "Approval",
    "AuditEvent",
    "BaseModel",
    "Component",
    "ContrastPair",
    "ContrastSet",
    "CoverableForms",
    "CoveredForm",
    "Decision",
    "Declaration",
    "Environment",
    "EnvironmentBaseModel",
    "EvalItem",
    "EvalSuite",
    "Evaluation",
    "FlagArm",
    "FlagField",
    "Freeze",
    "GateSet",
    "IdempotentAnswer",
    "Job",
    "JobKind",
    "JobState",
    "JobStep",
    "KeyPurpose",
    "Kill",
    "KillKind",
    "NodeReport",
    "Notification",
    "Operator",
    "Probe",
    "Profile",
    "ProfileRevision",
    "PromptSet",
    "Proposal",
    "Purpose",
    "ReportResult",
    "RevisionComment",
    "RevisionState",
    "RiskPolicy",
    "Role",
    "ServingNode",
    "SigningKey",
    "Site",
    "Snapshot",
    "Split",
    "StalePolicy",
    "SteeringVector",
    "StopStatement",
    "SuiteKind",
    "SuiteOpening",
    "Technique",
    "Tenant",
    "TenantFlag",
    "TokenScope",
    "TrustDocument",
    "Unit",
    "User",
    "VectorComparison",
    "Verdict",
    "Waiver",
]
