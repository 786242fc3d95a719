"""What people say to a revision: submit it, decide on it, comment on it."""

from typing import Any

from django import forms

from registry.console.forms.fields import number_field, prose_field, record_field
from registry.models import Decision, Evaluation, ProfileRevision
from registry.reads.evidence import evidence_of


class SubmitForm(forms.Form):
    """The one evaluation that covers the revision, if there is one."""

    def __init__(self, *args: Any, revision: ProfileRevision, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        evaluation = evidence_of(revision)
        found = Evaluation.objects.filter(pk=evaluation.pk) if evaluation else Evaluation.objects.none()
        offered = found.select_related("vector", "revision__profile")
        self.fields["evaluation"] = record_field(offered, label="Evidence", initial=evaluation)


class DecisionForm(forms.Form):
    """A decision names the state that was on the screen, not the one that is in the record now."""

    decision = forms.ChoiceField(choices=Decision.choices, label="Decision")
    revision_digest = forms.CharField(max_length=64, widget=forms.HiddenInput, label="Revision digest")
    evidence_digest = forms.CharField(max_length=64, widget=forms.HiddenInput, label="Evidence digest")
    comment = prose_field(label="Comment", help_text="What convinced you, or what did not. It is kept for ever.")


class WaiverForm(forms.Form):
    """Of one gate. Whether it may be waived is for the service to say."""

    metric = forms.CharField(max_length=100, widget=forms.HiddenInput)
    kind = forms.CharField(max_length=100, widget=forms.HiddenInput)
    threshold = forms.CharField(max_length=62, widget=forms.HiddenInput)
    reason = prose_field(label="Why it may stand undecided")
    days = number_field(label="For how many days", help_text="Then what rests on it is due for review, and steers no more.", initial=90)


class CommentForm(forms.Form):
    text = prose_field(label="Comment", help_text="It is kept for ever, and decides nothing.")
