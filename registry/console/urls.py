"""The pages of the console. Every change is a POST to a URL that names it."""

from django.urls import path

from registry.console import base_models, extractions, flags, fleet, jobs, kills, notifications, profiles, revisions, uploads, vectors

app_name = "console"
urlpatterns = [
    path("extractions/new/", extractions.new_extraction, name="new-extraction"),
    path("extractions/", extractions.start_extraction, name="start-extraction"),
    path("contrast-sets/new/", uploads.new_contrast_set, name="new-contrast-set"),
    path("contrast-sets/", uploads.upload_contrast_set, name="upload-contrast-set"),
    path("eval-suites/new/", uploads.new_eval_suite, name="new-eval-suite"),
    path("eval-suites/", uploads.upload_eval_suite, name="upload-eval-suite"),
    path("base-models/<uuid:base_model_id>/", base_models.show_base_model, name="base-model"),
    path("base-models/<uuid:base_model_id>/move/", base_models.move_here, name="move-environment"),
    path("jobs/<uuid:job_id>/", jobs.show_job, name="job"),
    path("jobs/<uuid:job_id>/progress.json", jobs.job_progress, name="job-progress"),
    path("jobs/<uuid:job_id>/cancel/", jobs.cancel_job, name="cancel-job"),
    path("vectors/<uuid:vector_id>/", vectors.show_vector, name="vector"),
    path("vectors/<uuid:vector_id>/heatmap.png", vectors.show_heatmap, name="heatmap"),
    path("vectors/<uuid:vector_id>/trace.png", vectors.show_trace_map, name="trace-map"),
    path("vectors/<uuid:vector_id>/validate/", vectors.validate_vector, name="validate-vector"),
    path("vectors/<uuid:vector_id>/draft/", vectors.draft_from_vector, name="draft-revision"),
    path("profiles/new/", profiles.new_profile, name="new-profile"),
    path("profiles/", profiles.make_profile, name="create-profile"),
    path("profiles/<slug:name>/", profiles.show_profile, name="profile"),
    path("approvals/", revisions.list_waiting, name="approvals"),
    path("revisions/<uuid:revision_id>/", revisions.show_revision, name="revision"),
    path("revisions/<uuid:revision_id>/evidence.json", revisions.download_evidence, name="evidence"),
    path("revisions/<uuid:revision_id>/submit/", revisions.submit, name="submit-revision"),
    path("revisions/<uuid:revision_id>/decide/", revisions.decide, name="decide-revision"),
    path("revisions/<uuid:revision_id>/retire/", revisions.retire, name="retire-revision"),
    path("flags/", flags.open_flags, name="flags"),
    path("tenants/", flags.add_tenant, name="create-tenant"),
    path("environments/", flags.add_environment, name="create-environment"),
    path("flags/<slug:name>/", flags.show_flags, name="environment-flags"),
    path("flags/<slug:name>/set/", flags.change_flag, name="set-flag"),
    path("kills/", kills.show_kills, name="kills"),
    path("kills/engage/", kills.engage, name="engage-kill"),
    path("kills/<uuid:kill_id>/request-lift/", kills.ask_to_lift, name="request-lift"),
    path("kills/<uuid:kill_id>/confirm-lift/", kills.lift, name="confirm-lift"),
    path("notifications/", notifications.show_notifications, name="notifications"),
    path("notifications/read/", notifications.mark_read, name="read-notifications"),
    path("fleet/", fleet.show_fleet, name="fleet"),
    path("fleet/nodes/", fleet.enroll, name="enroll-node"),
]
