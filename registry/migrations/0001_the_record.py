"""The record: every table, in the order the data flows, with its indexes and its constraints."""

from decimal import Decimal
from functools import partial
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import UserManager
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone


class Migration(migrations.Migration):
    initial = True
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]
    operations = [
        migrations.CreateModel(
            "Environment",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(unique=True)),
                ("head_revision", models.PositiveBigIntegerField(default=0)),
                ("created_at", models.DateTimeField(db_default=Now())),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.CreateModel(
            "Tenant",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100, unique=True)),
                ("title", models.CharField(max_length=200, blank=True, default="")),
                ("created_at", models.DateTimeField(db_default=Now())),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.CreateModel(
            "User",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(null=True, blank=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        verbose_name="superuser status",
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                    ),
                ),
                (
                    "groups",
                    models.ManyToManyField(
                        "auth.Group",
                        blank=True,
                        verbose_name="groups",
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of their groups.",
                        related_query_name="user",
                        related_name="user_set",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        "auth.Permission",
                        blank=True,
                        verbose_name="user permissions",
                        help_text="Specific permissions for this user.",
                        related_query_name="user",
                        related_name="user_set",
                    ),
                ),
                (
                    "username",
                    models.CharField(
                        max_length=150,
                        unique=True,
                        verbose_name="username",
                        help_text="Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.",
                        validators=[UnicodeUsernameValidator()],
                        error_messages={"unique": "A user with that username already exists."},
                    ),
                ),
                ("first_name", models.CharField(max_length=150, blank=True, verbose_name="first name")),
                ("last_name", models.CharField(max_length=150, blank=True, verbose_name="last name")),
                ("email", models.EmailField(max_length=254, blank=True, verbose_name="email address")),
                (
                    "is_staff",
                    models.BooleanField(
                        verbose_name="staff status", default=False, help_text="Designates whether the user can log into this admin site."
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        verbose_name="active",
                        default=True,
                        help_text="Designates whether this user should be treated as active. Unselect this instead of deleting accounts.",
                    ),
                ),
                ("date_joined", models.DateTimeField(verbose_name="date joined", default=timezone.now)),
                (
                    "acts_for",
                    models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="service_accounts"),
                ),
                (
                    "person",
                    models.GeneratedField(expression=Coalesce("acts_for", "id"), output_field=models.BigIntegerField(), db_persist=True),
                ),
                ("is_limited_to_tenants", models.BooleanField(default=False)),
                ("tenants", models.ManyToManyField("registry.Tenant", blank=True, related_name="+")),
            ],
            options={
                "verbose_name": "user",
                "verbose_name_plural": "users",
                "constraints": [models.UniqueConstraint(fields=["id", "person"], name="user_stands_for_one_person")],
            },
            managers=[("objects", UserManager())],
        ),
        migrations.CreateModel(
            "ApiToken",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("user", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="api_tokens")),
                ("name", models.CharField(max_length=100)),
                ("prefix", models.CharField(max_length=12)),
                ("secret_sha256", models.CharField(max_length=64, unique=True)),
                ("scopes", ArrayField(models.CharField(max_length=10), null=True, blank=True)),
                ("tenant", models.ForeignKey("registry.Tenant", models.PROTECT, null=True, blank=True, related_name="+")),
                ("created_at", models.DateTimeField(db_default=Now())),
                ("expires_at", models.DateTimeField(null=True, blank=True)),
                ("revoked_at", models.DateTimeField(null=True, blank=True)),
                ("last_used_at", models.DateTimeField(null=True, blank=True)),
            ],
            options={
                "ordering": ["-created_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(scopes__isnull=True)
                        | Q(scopes__contained_by=["read", "author", "approver", "operator", "auditor", "admin"], scopes__len__gt=0),
                        name="token_scopes_are_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            "IdempotentAnswer",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("actor", models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")),
                ("key", models.CharField(max_length=255)),
                ("request_sha256", models.CharField(max_length=64)),
                ("status", models.PositiveSmallIntegerField()),
                ("headers", models.JSONField(default=dict)),
                ("body", models.BinaryField(null=True)),
                ("answered_at", models.DateTimeField(db_index=True, db_default=Now())),
            ],
            options={"constraints": [models.UniqueConstraint(fields=["actor", "key"], name="idempotency_key_is_used_once_by_an_actor")]},
        ),
        migrations.CreateModel(
            "BaseModel",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("source", models.CharField(max_length=500)),
                ("fingerprint", models.CharField(max_length=64)),
                ("architecture", models.CharField(max_length=100)),
                ("n_layers", models.PositiveIntegerField()),
                ("d_model", models.PositiveIntegerField()),
                ("context_length", models.PositiveIntegerField()),
                ("manifest", models.JSONField()),
                ("registered_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("registered_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["name", "-registered_at"],
                "constraints": [
                    models.UniqueConstraint(fields=["name", "fingerprint"], name="base_model_once_per_fingerprint"),
                    models.UniqueConstraint(fields=["id", "name"], name="base_model_id_and_name"),
                    models.CheckConstraint(condition=Q(context_length__gt=0, d_model__gt=0, n_layers__gt=0), name="base_model_has_a_size"),
                ],
            },
        ),
        migrations.CreateModel(
            "EnvironmentBaseModel",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("environment", models.ForeignKey("registry.Environment", models.PROTECT, related_name="served")),
                ("name", models.SlugField(max_length=100)),
                ("base_model", models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="served_in")),
                ("moved_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("moved_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["environment", "name"],
                "constraints": [
                    models.UniqueConstraint(fields=["environment", "name"], name="environment_serves_one_fingerprint_of_a_name")
                ],
            },
        ),
        migrations.CreateModel(
            "ContrastSet",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("version", models.PositiveIntegerField()),
                ("axis", models.SlugField()),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("pair_count", models.PositiveIntegerField()),
                ("locales", ArrayField(models.CharField(max_length=35))),
                ("products", ArrayField(models.CharField(max_length=50))),
                ("author", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("sealed_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["name", "-version"],
                "indexes": [models.Index(fields=["axis", "name", "-version"], name="contrast_set_by_axis")],
                "constraints": [
                    models.UniqueConstraint(fields=["name", "version"], name="contrast_set_version_is_unique"),
                    models.CheckConstraint(condition=Q(pair_count__gte=2), name="contrast_set_has_two_pairs"),
                ],
            },
        ),
        migrations.CreateModel(
            "ContrastPair",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("contrast_set", models.ForeignKey("registry.ContrastSet", models.PROTECT, related_name="pairs")),
                ("index", models.PositiveIntegerField()),
                ("pair_id", models.CharField(max_length=200)),
                ("positive", models.JSONField()),
                ("negative", models.JSONField()),
                ("locale", models.CharField(max_length=35)),
                ("product", models.CharField(max_length=50)),
                ("digest", models.CharField(max_length=64)),
                ("prompt_key", models.CharField(max_length=64, db_index=True)),
            ],
            options={
                "ordering": ["contrast_set", "index"],
                "constraints": [
                    models.UniqueConstraint(fields=["contrast_set", "index"], name="contrast_pair_index_is_unique"),
                    models.UniqueConstraint(fields=["contrast_set", "digest"], name="contrast_pair_is_not_repeated"),
                ],
            },
        ),
        migrations.CreateModel(
            "EvalSuite",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("version", models.PositiveIntegerField()),
                (
                    "kind",
                    models.CharField(
                        max_length=10,
                        choices=[
                            ("behaviour", "Behaviour"),
                            ("factual", "Factual"),
                            ("safety", "Safety"),
                            ("fluency", "Fluency"),
                            ("capability", "Capability"),
                        ],
                    ),
                ),
                ("digest", models.CharField(max_length=64)),
                ("item_count", models.PositiveIntegerField()),
                ("axis", models.SlugField(blank=True)),
                ("rubric_digest", models.CharField(max_length=64, blank=True, default="")),
                ("locales", ArrayField(models.CharField(max_length=35), blank=True, default=list)),
                ("author", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("sealed_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["name", "-version"],
                "constraints": [
                    models.UniqueConstraint(fields=["name", "version"], name="eval_suite_version_is_unique"),
                    models.UniqueConstraint(fields=["digest", "rubric_digest"], name="eval_suite_content_is_sealed_once"),
                    models.CheckConstraint(
                        condition=Q(kind__in=["behaviour", "factual", "safety", "fluency", "capability"]), name="eval_suite_kind_is_known"
                    ),
                    models.CheckConstraint(
                        condition=(Q(kind="behaviour") & ~Q(axis="") & ~Q(rubric_digest=""))
                        | (~Q(kind="behaviour") & Q(axis="", rubric_digest="")),
                        name="eval_suite_has_a_rubric_exactly_when_behaviour",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "EvalItem",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("suite", models.ForeignKey("registry.EvalSuite", models.PROTECT, related_name="items")),
                ("index", models.PositiveIntegerField()),
                ("item_id", models.CharField(max_length=200)),
                ("split", models.CharField(max_length=6, choices=[("select", "Select"), ("test", "Test")])),
                ("messages", models.JSONField()),
                ("expect", models.JSONField()),
                ("prompt_key", models.CharField(max_length=64, db_index=True)),
            ],
            options={
                "ordering": ["suite", "index"],
                "constraints": [
                    models.UniqueConstraint(fields=["suite", "index"], name="eval_item_index_is_unique"),
                    models.CheckConstraint(condition=Q(split__in=["select", "test"]), name="eval_item_split_is_known"),
                ],
            },
        ),
        migrations.CreateModel(
            "RiskPolicy",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(unique=True)),
                ("alpha_cap_absolute", models.DecimalField(max_digits=12, decimal_places=6)),
                ("alpha_cap_mean_difference", models.DecimalField(max_digits=12, decimal_places=6)),
                ("alpha_cap_residual", models.DecimalField(max_digits=12, decimal_places=6)),
                ("composition_budget", models.DecimalField(max_digits=12, decimal_places=6)),
                ("suite_kinds", ArrayField(models.CharField(max_length=10))),
                ("gate_set", models.CharField(max_length=50)),
                ("minimum_pairs", models.PositiveIntegerField()),
                ("locales", ArrayField(models.CharField(max_length=35), blank=True, default=list)),
                ("evidence_max_age_days", models.PositiveIntegerField()),
                ("approvals_needed", models.PositiveSmallIntegerField()),
                ("reviewer_roles", ArrayField(models.CharField(max_length=150))),
                ("approval_valid_days", models.PositiveIntegerField()),
                ("review_after_days", models.PositiveIntegerField()),
                ("reason", models.TextField(max_length=2000)),
                ("changed_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")),
                ("changed_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "verbose_name_plural": "risk policies",
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(
                            alpha_cap_absolute__gte=0,
                            alpha_cap_absolute__lte="1000",
                            alpha_cap_mean_difference__gte=0,
                            alpha_cap_mean_difference__lte="2",
                            alpha_cap_residual__gte=0,
                            alpha_cap_residual__lte="1",
                        ),
                        name="policy_caps_stay_inside_the_outermost_ones",
                    ),
                    models.CheckConstraint(
                        condition=Q(composition_budget__gte=0, composition_budget__lte=10), name="policy_budget_is_a_share"
                    ),
                    models.CheckConstraint(
                        condition=Q(suite_kinds__contained_by=["behaviour", "factual", "safety", "fluency", "capability"]),
                        name="policy_suite_kinds_are_known",
                    ),
                    models.CheckConstraint(condition=~Q(gate_set=""), name="policy_names_a_gate_set"),
                    models.CheckConstraint(condition=Q(minimum_pairs__gte=2), name="policy_wants_two_pairs"),
                    models.CheckConstraint(condition=Q(approvals_needed__gte=1), name="policy_needs_an_approval"),
                    models.CheckConstraint(condition=Q(reviewer_roles__len__gte=1), name="policy_names_a_reviewer_role"),
                    models.CheckConstraint(
                        condition=Q(approval_valid_days__gte=1, evidence_max_age_days__gte=1, review_after_days__gte=1),
                        name="policy_periods_are_at_least_a_day",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Profile",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100, unique=True)),
                ("intent", models.TextField()),
                ("axis", models.SlugField()),
                (
                    "purpose",
                    models.CharField(
                        max_length=10,
                        choices=[
                            ("tone", "Tone"),
                            ("style", "Style"),
                            ("safety", "Safety"),
                            ("reasoning", "Reasoning"),
                            ("format", "Format"),
                        ],
                    ),
                ),
                (
                    "risk_class",
                    models.ForeignKey(
                        "registry.RiskPolicy", models.PROTECT, to_field="name", db_column="risk_class", related_name="profiles"
                    ),
                ),
                ("owner", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("created_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["name"],
                "indexes": [
                    models.Index(fields=["axis", "name"], name="profile_by_axis"),
                    models.Index(fields=["purpose", "name"], name="profile_by_purpose"),
                    models.Index(fields=["risk_class", "name"], name="profile_by_risk_class"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(purpose__in=["tone", "style", "safety", "reasoning", "format"]), name="profile_purpose_is_known"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            "Job",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        max_length=11, choices=[("extraction", "Extraction"), ("validation", "Validation"), ("composition", "Composition")]
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        max_length=9,
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                    ),
                ),
                ("recipe", models.JSONField()),
                ("base_model", models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="jobs")),
                ("contrast_set", models.ForeignKey("registry.ContrastSet", models.PROTECT, null=True, related_name="jobs")),
                ("suites", models.ManyToManyField("registry.EvalSuite", related_name="jobs")),
                ("components_digest", models.CharField(max_length=64, blank=True, default="", db_default="")),
                ("draft_for", models.ForeignKey("registry.Profile", models.PROTECT, null=True, related_name="jobs")),
                ("follows", models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="followed_by")),
                ("attempt", models.PositiveSmallIntegerField(default=0)),
                ("max_attempts", models.PositiveSmallIntegerField(default=3)),
                ("lease_owner", models.CharField(max_length=200, blank=True, default="")),
                ("lease_expires_at", models.DateTimeField(null=True)),
                ("dispatched_at", models.DateTimeField(db_default=Now())),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("stage", models.CharField(max_length=50, blank=True, default="")),
                ("progress_done", models.PositiveIntegerField(default=0)),
                ("progress_total", models.PositiveIntegerField(default=0)),
                ("note", models.CharField(max_length=300, blank=True, default="")),
                ("checkpoint", models.JSONField(default=dict)),
                ("result_digest", models.CharField(max_length=64, blank=True, default="")),
                ("error_code", models.CharField(max_length=50, blank=True, default="")),
                ("error_message", models.TextField(blank=True, default="")),
                ("requested_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="jobs")),
                ("requested_at", models.DateTimeField(db_default=Now())),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-requested_at"],
                "indexes": [
                    models.Index(fields=["state", "lease_expires_at"], name="job_by_state_and_lease"),
                    models.Index(fields=["-requested_at", "id"], name="job_newest"),
                    models.Index(fields=["kind", "-requested_at", "id"], name="job_newest_of_kind"),
                    models.Index(fields=["state", "-requested_at", "id"], name="job_newest_in_state"),
                    models.Index(fields=["requested_by", "-requested_at", "id"], name="job_newest_of_person"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(state__in=["queued", "running", "succeeded", "failed", "cancelled"]), name="job_state_is_known"
                    ),
                    models.UniqueConstraint(
                        fields=["components_digest"],
                        condition=~Q(components_digest="") & Q(state__in=["queued", "running", "succeeded"]),
                        name="job_opens_the_test_split_once_per_composition",
                    ),
                    models.CheckConstraint(
                        condition=Q(lease_expires_at__isnull=False, state="running")
                        | (~Q(state="running") & Q(lease_expires_at__isnull=True)),
                        name="job_has_a_lease_exactly_when_running",
                    ),
                    models.CheckConstraint(
                        condition=(Q(state="succeeded") & ~Q(result_digest="")) | (~Q(state="succeeded") & Q(result_digest="")),
                        name="job_has_a_result_exactly_when_succeeded",
                    ),
                    models.CheckConstraint(
                        condition=(Q(state="failed") & ~Q(error_code="")) | (~Q(state="failed") & Q(error_code="")),
                        name="job_has_an_error_exactly_when_failed",
                    ),
                    models.CheckConstraint(
                        condition=Q(follows__isnull=True) | Q(draft_for__isnull=False, kind="validation"),
                        name="job_follows_another_only_on_its_way_to_a_draft",
                    ),
                    models.CheckConstraint(
                        condition=Q(draft_for__isnull=True) | ~Q(kind="composition"), name="job_of_a_composition_drafts_nothing"
                    ),
                    models.CheckConstraint(condition=Q(attempt__lte=F("max_attempts")), name="job_attempts_are_bounded"),
                ],
            },
        ),
        migrations.CreateModel(
            "SteeringVector",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("version", models.PositiveIntegerField()),
                ("base_model", models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="vectors")),
                ("contrast_set", models.ForeignKey("registry.ContrastSet", models.PROTECT, null=True, related_name="vectors")),
                ("job", models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="extracted_vector")),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("size_bytes", models.PositiveIntegerField()),
                ("dtype", models.CharField(max_length=4)),
                ("d_model", models.PositiveIntegerField()),
                ("layer", models.PositiveIntegerField()),
                (
                    "site",
                    models.CharField(
                        max_length=10,
                        choices=[
                            ("resid_pre", "Resid Pre"),
                            ("resid_mid", "Resid Mid"),
                            ("resid_post", "Resid Post"),
                            ("attn_out", "Attn Out"),
                            ("mlp_out", "Mlp Out"),
                            ("embedding", "Embedding"),
                        ],
                    ),
                ),
                ("method", models.CharField(max_length=30)),
                ("read_position", models.CharField(max_length=30)),
                ("norm", models.DecimalField(max_digits=30, decimal_places=15)),
                ("mean_residual_norm", models.DecimalField(max_digits=30, decimal_places=15)),
                ("proposed_alpha", models.DecimalField(max_digits=12, decimal_places=6, null=True)),
                (
                    "proposed_unit",
                    models.CharField(
                        max_length=15,
                        choices=[("absolute", "Absolute"), ("mean_difference", "Mean Difference"), ("residual", "Residual")],
                        blank=True,
                        default="",
                    ),
                ),
                ("sweep_digest", models.CharField(max_length=64, blank=True, default="")),
                ("heatmap_digest", models.CharField(max_length=64, blank=True, default="")),
                ("trace_map_digest", models.CharField(max_length=64, blank=True, default="", db_default="")),
                ("author", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("sealed_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["name", "-version"],
                "indexes": [models.Index(fields=["base_model", "name", "-version"], name="vector_by_base_model")],
                "constraints": [
                    models.UniqueConstraint(fields=["name", "version"], name="vector_version_is_unique"),
                    models.CheckConstraint(
                        condition=Q(site__in=["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "embedding"]),
                        name="vector_site_is_known",
                    ),
                    models.CheckConstraint(condition=Q(dtype__in=["F16", "BF16", "F32"]), name="vector_dtype_is_known"),
                    models.CheckConstraint(
                        condition=Q(mean_residual_norm__gt=0, mean_residual_norm__lt=1000000, norm__gt=0, norm__lt=1000000),
                        name="vector_norms_are_positive_numbers",
                    ),
                    models.CheckConstraint(
                        condition=Q(proposed_alpha__isnull=True, proposed_unit="")
                        | Q(proposed_alpha__isnull=False, proposed_unit__in=["absolute", "mean_difference", "residual"]),
                        name="vector_proposal_has_a_unit",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "VectorComparison",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("vector", models.OneToOneField("registry.SteeringVector", models.PROTECT, related_name="comparison")),
                ("replaced", models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="replaced_in")),
                ("cosine", models.DecimalField(max_digits=7, decimal_places=6, null=True)),
                ("cosine_missing", models.CharField(max_length=300, blank=True, default="")),
                ("evidence", models.JSONField(null=True)),
                ("evidence_missing", models.CharField(max_length=300, blank=True, default="")),
                ("compared_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=~Q(vector=F("replaced")), name="comparison_is_of_two_vectors"),
                    models.CheckConstraint(
                        condition=Q(cosine__isnull=True) | Q(cosine__gte=-1, cosine__lte=1), name="comparison_cosine_is_a_cosine"
                    ),
                    models.CheckConstraint(
                        condition=(Q(cosine__isnull=True) & ~Q(cosine_missing="")) | Q(cosine__isnull=False, cosine_missing=""),
                        name="comparison_says_why_there_is_no_cosine",
                    ),
                    models.CheckConstraint(
                        condition=(Q(evidence__isnull=True) & ~Q(evidence_missing="")) | Q(evidence__isnull=False, evidence_missing=""),
                        name="comparison_says_why_there_is_no_evidence",
                    ),
                ]
            },
        ),
        migrations.CreateModel(
            "Evaluation",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("vector", models.ForeignKey("registry.SteeringVector", models.PROTECT, null=True, related_name="evaluations")),
                ("components_digest", models.CharField(max_length=64, blank=True, default="", db_default="")),
                ("job", models.OneToOneField("registry.Job", models.PROTECT, related_name="evaluation")),
                ("alpha", models.DecimalField(max_digits=12, decimal_places=6, null=True)),
                (
                    "unit",
                    models.CharField(
                        max_length=15,
                        choices=[("absolute", "Absolute"), ("mean_difference", "Mean Difference"), ("residual", "Residual")],
                        blank=True,
                        default="",
                        db_default="",
                    ),
                ),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("metrics", models.JSONField()),
                ("gates", models.JSONField()),
                ("passed", models.BooleanField()),
                ("evaluated_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["-evaluated_at"],
                "indexes": [models.Index(fields=["-evaluated_at", "id"], name="evaluation_newest")],
                "constraints": [
                    models.UniqueConstraint(fields=["vector"], name="evaluation_opens_the_test_split_once"),
                    models.UniqueConstraint(
                        fields=["components_digest"],
                        condition=~Q(components_digest=""),
                        name="evaluation_opens_the_test_split_once_per_composition",
                    ),
                    models.CheckConstraint(condition=Q(alpha__gte=-1000, alpha__lte=1000), name="evaluation_alpha_is_a_number"),
                ],
            },
        ),
        migrations.CreateModel(
            "ProfileRevision",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("profile", models.ForeignKey("registry.Profile", models.PROTECT, related_name="revisions")),
                ("number", models.PositiveIntegerField()),
                (
                    "state",
                    models.CharField(
                        max_length=11,
                        choices=[
                            ("draft", "Draft"),
                            ("submitted", "Submitted"),
                            ("approved", "Approved"),
                            ("rejected", "Rejected"),
                            ("retired", "Retired"),
                            ("invalidated", "Invalidated"),
                        ],
                        default="draft",
                    ),
                ),
                ("author", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("base_model", models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="revisions")),
                ("evaluation", models.ForeignKey("registry.Evaluation", models.PROTECT, null=True, related_name="revisions")),
                ("drafted_by", models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="drafted_revision")),
                ("stale_policy", models.CharField(max_length=4, choices=[("keep", "Keep"), ("zero", "Zero")], default="zero")),
                ("max_staleness_seconds", models.PositiveIntegerField(default=900)),
                ("submission", models.PositiveSmallIntegerField(default=0, db_default=0)),
                ("demands", models.JSONField(default=dict, db_default={})),
                ("safety_override", models.JSONField(default=list, db_default=[])),
                ("rationale", models.TextField(blank=True, default="")),
                ("peak_absolute", models.DecimalField(max_digits=12, decimal_places=6, default=Decimal("0"), db_default=Decimal("0"))),
                (
                    "peak_mean_difference",
                    models.DecimalField(max_digits=12, decimal_places=6, default=Decimal("0"), db_default=Decimal("0")),
                ),
                ("peak_residual", models.DecimalField(max_digits=12, decimal_places=6, default=Decimal("0"), db_default=Decimal("0"))),
                ("peak_share", models.DecimalField(max_digits=12, decimal_places=6, default=Decimal("0"), db_default=Decimal("0"))),
                ("digest", models.CharField(max_length=64, blank=True, default="")),
                ("created_at", models.DateTimeField(db_default=Now())),
                ("submitted_at", models.DateTimeField(null=True)),
                ("decided_at", models.DateTimeField(null=True)),
                ("review_due_at", models.DateTimeField(null=True)),
                ("invalidated_reason", models.CharField(max_length=500, blank=True, default="", db_default="")),
            ],
            options={
                "ordering": ["profile", "-number"],
                "constraints": [
                    models.UniqueConstraint(fields=["profile", "number"], name="revision_number_is_unique"),
                    models.UniqueConstraint(fields=["id", "author"], name="revision_has_one_author"),
                    models.CheckConstraint(
                        condition=Q(state__in=["draft", "submitted", "approved", "rejected", "retired", "invalidated"]),
                        name="revision_state_is_known",
                    ),
                    models.CheckConstraint(condition=Q(stale_policy__in=["keep", "zero"]), name="revision_stale_policy_is_known"),
                    models.CheckConstraint(
                        condition=Q(digest="", state="draft") | (~Q(state="draft") & ~Q(digest="") & Q(evaluation__isnull=False)),
                        name="revision_has_digest_and_evidence_exactly_when_not_draft",
                    ),
                    models.CheckConstraint(
                        condition=Q(demands={}, state="draft")
                        | (~Q(state="draft") & Q(demands__has_keys=["approvals_needed", "reviewer_roles", "approval_valid_days"])),
                        name="revision_keeps_what_was_demanded_exactly_when_not_draft",
                    ),
                    models.CheckConstraint(
                        condition=~Q(state="approved")
                        | Q(decided_at__isnull=False, review_due_at__gt=F("decided_at"), review_due_at__isnull=False),
                        name="revision_has_a_review_date_once_approved",
                    ),
                    models.CheckConstraint(
                        condition=(Q(state="invalidated") & ~Q(invalidated_reason=""))
                        | (~Q(state="invalidated") & Q(invalidated_reason="")),
                        name="revision_has_a_reason_exactly_when_invalidated",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Component",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="components")),
                ("position", models.PositiveSmallIntegerField()),
                ("vector", models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="components")),
                (
                    "operator",
                    models.CharField(max_length=10, choices=[("add", "Add"), ("ablate", "Ablate"), ("clamp", "Clamp")], default="add"),
                ),
                ("alpha", models.DecimalField(max_digits=12, decimal_places=6)),
                ("alpha_min", models.DecimalField(max_digits=12, decimal_places=6, default=Decimal("0"))),
                ("alpha_max", models.DecimalField(max_digits=12, decimal_places=6)),
                (
                    "unit",
                    models.CharField(
                        max_length=15, choices=[("absolute", "Absolute"), ("mean_difference", "Mean Difference"), ("residual", "Residual")]
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        max_length=10,
                        choices=[("generated", "Generated"), ("assistant", "Assistant"), ("prompt", "Prompt"), ("all", "All")],
                        default="generated",
                    ),
                ),
                ("bound", models.DecimalField(max_digits=12, decimal_places=6, null=True)),
                ("preserve_norm", models.BooleanField(default=False, db_default=False)),
                ("schedule", models.JSONField(default=partial(dict, kind="constant"), db_default={"kind": "constant"})),
                ("condition", models.JSONField(null=True)),
            ],
            options={
                "ordering": ["revision", "position"],
                "constraints": [
                    models.UniqueConstraint(fields=["revision", "position"], name="component_position_is_unique"),
                    models.CheckConstraint(condition=Q(operator__in=["add", "ablate", "clamp"]), name="component_operator_is_known"),
                    models.CheckConstraint(
                        condition=Q(scope__in=["generated", "assistant", "prompt", "all"]), name="component_scope_is_known"
                    ),
                    models.CheckConstraint(
                        condition=Q(unit__in=["absolute", "mean_difference", "residual"]), name="component_unit_is_known"
                    ),
                    models.CheckConstraint(
                        condition=Q(alpha__gte=F("alpha_min"), alpha__lte=F("alpha_max"), alpha_max__lte=1000, alpha_min__gte=-1000),
                        name="component_alpha_is_inside_its_range",
                    ),
                    models.CheckConstraint(
                        condition=~Q(operator__in=("ablate", "clamp")) | Q(alpha_max__lte=1, alpha_min__gte=0),
                        name="component_strength_is_between_0_and_1",
                    ),
                    models.CheckConstraint(
                        condition=(Q(bound__isnull=False, operator="clamp") & ~Q(bound=0)) | (~Q(operator="clamp") & Q(bound__isnull=True)),
                        name="component_has_a_bound_exactly_when_clamp",
                    ),
                    models.CheckConstraint(
                        condition=Q(schedule__has_keys=["kind"], schedule__kind="constant")
                        | Q(
                            schedule__has_keys=["kind", "tokens"],
                            schedule__kind="linear",
                            schedule__tokens__gte=1,
                            schedule__tokens__lte=1000000,
                        )
                        | Q(
                            schedule__half_life_tokens__gte=1,
                            schedule__half_life_tokens__lte=1000000,
                            schedule__has_keys=["kind", "half_life_tokens"],
                            schedule__kind="exponential",
                        )
                        | Q(
                            schedule__first_token__gte=0,
                            schedule__first_token__lte=1000000,
                            schedule__has_keys=["kind", "first_token", "last_token"],
                            schedule__kind="window",
                            schedule__last_token__gte=0,
                            schedule__last_token__lte=1000000,
                        ),
                        name="component_schedule_has_its_parameters",
                    ),
                    models.CheckConstraint(
                        condition=Q(condition__isnull=True)
                        | Q(condition__has_key="kind", condition__kind__in=("intent", "attribute", "probe")),
                        name="component_condition_is_known",
                    ),
                ],
            },
        ),
        # A job and what comes of it name each other, and so do an evaluation and a revision.
        migrations.AddField(
            "Job", "vector", models.ForeignKey("registry.SteeringVector", models.PROTECT, null=True, related_name="validations")
        ),
        migrations.AddField(
            "Job", "revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, related_name="composition_jobs")
        ),
        migrations.AddConstraint(
            "Job",
            models.CheckConstraint(
                condition=Q(components_digest="", contrast_set__isnull=False, kind="extraction", revision__isnull=True, vector__isnull=True)
                | Q(components_digest="", contrast_set__isnull=True, kind="validation", revision__isnull=True, vector__isnull=False)
                | (
                    Q(contrast_set__isnull=True, kind="composition", revision__isnull=False, vector__isnull=True) & ~Q(components_digest="")
                ),
                name="job_has_the_inputs_of_its_kind",
            ),
        ),
        migrations.AddField(
            "Evaluation", "revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, related_name="compositions")
        ),
        migrations.AddConstraint(
            "Evaluation",
            models.CheckConstraint(
                condition=Q(
                    alpha__isnull=False,
                    components_digest="",
                    revision__isnull=True,
                    unit__in=["absolute", "mean_difference", "residual"],
                    vector__isnull=False,
                )
                | (Q(alpha__isnull=True, revision__isnull=False, unit="", vector__isnull=True) & ~Q(components_digest="")),
                name="evaluation_is_of_one_vector_or_of_one_composition",
            ),
        ),
        migrations.CreateModel(
            "Proposal",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("vector", models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="proposals")),
                ("base_model", models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="proposals")),
                ("profile", models.ForeignKey("registry.Profile", models.PROTECT, null=True, related_name="proposals")),
                ("proposed_at", models.DateTimeField(db_default=Now())),
                ("job", models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="proposal")),
                ("accepted_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")),
                ("accepted_at", models.DateTimeField(null=True)),
                ("declined_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")),
                ("declined_at", models.DateTimeField(null=True)),
                ("declined_reason", models.TextField(max_length=2000, blank=True, default="")),
            ],
            options={
                "ordering": ["-proposed_at", "vector"],
                "constraints": [
                    models.UniqueConstraint(fields=["vector", "base_model"], name="proposal_once_for_a_vector_and_a_base_model"),
                    models.CheckConstraint(
                        condition=Q(accepted_at__isnull=True, accepted_by__isnull=True, job__isnull=True)
                        | Q(accepted_at__isnull=False, accepted_by__isnull=False, job__isnull=False),
                        name="proposal_has_a_job_exactly_when_somebody_accepted",
                    ),
                    models.CheckConstraint(
                        condition=Q(declined_at__isnull=True, declined_by__isnull=True, declined_reason="")
                        | (Q(declined_at__isnull=False, declined_by__isnull=False, job__isnull=True) & ~Q(declined_reason="")),
                        name="proposal_is_declined_by_somebody_for_a_reason_or_not",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Approval",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="approvals")),
                ("revision_digest", models.CharField(max_length=64)),
                ("evidence_digest", models.CharField(max_length=64)),
                ("author", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("author_person", models.BigIntegerField()),
                ("reviewer", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("reviewer_person", models.BigIntegerField()),
                ("roles", ArrayField(models.CharField(max_length=150))),
                (
                    "decision",
                    models.CharField(
                        max_length=15, choices=[("approve", "Approve"), ("reject", "Reject"), ("request_changes", "Request Changes")]
                    ),
                ),
                ("comment", models.TextField(max_length=2000, blank=True)),
                ("decided_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["decided_at"],
                "constraints": [
                    models.CheckConstraint(condition=~Q(reviewer_person=F("author_person")), name="approval_reviewer_is_not_author"),
                    models.CheckConstraint(
                        condition=Q(decision__in=["approve", "reject", "request_changes"]), name="approval_decision_is_known"
                    ),
                    models.CheckConstraint(condition=Q(decision="approve") | Q(comment__regex=r"\S"), name="approval_refusal_says_why"),
                    models.UniqueConstraint(
                        fields=["revision", "revision_digest", "evidence_digest", "reviewer_person"],
                        name="approval_once_per_person_and_state",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "RevisionComment",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="comments")),
                ("revision_digest", models.CharField(max_length=64, blank=True, default="")),
                ("author", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("text", models.TextField(max_length=2000)),
                ("said_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["said_at"],
                "constraints": [models.CheckConstraint(condition=Q(text__regex=r"\S"), name="comment_says_something")],
            },
        ),
        migrations.CreateModel(
            "TenantFlag",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("environment", models.ForeignKey("registry.Environment", models.PROTECT, related_name="flags")),
                ("tenant", models.ForeignKey("registry.Tenant", models.PROTECT, related_name="flags")),
                ("route", models.CharField(max_length=100, blank=True, default="")),
                ("enabled", models.BooleanField(default=False)),
                (
                    "inherits",
                    ArrayField(
                        models.CharField(
                            max_length=11,
                            choices=[
                                ("revision", "Revision"),
                                ("alpha_scale", "Alpha Scale"),
                                ("rollout", "Rollout"),
                                ("arms", "Arms"),
                                ("override", "Override"),
                            ],
                        ),
                        blank=True,
                        default=list,
                        db_default=[],
                    ),
                ),
                ("revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, blank=True, related_name="flags")),
                ("alpha_scale", models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True, default=Decimal("1"))),
                (
                    "rollout",
                    models.DecimalField(
                        max_digits=6, decimal_places=3, null=True, blank=True, default=Decimal("100"), db_default=Decimal("100")
                    ),
                ),
                ("override_min", models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)),
                ("override_max", models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)),
                ("reason", models.TextField(max_length=2000)),
                ("changed_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("changed_at", models.DateTimeField(db_default=Now())),
                ("version", models.PositiveIntegerField(default=1, db_default=1)),
                ("stamp", models.BigIntegerField(default=0, db_default=0, editable=False)),
            ],
            options={
                "ordering": ["environment", "tenant", "route"],
                "constraints": [
                    models.UniqueConstraint(fields=["environment", "tenant", "route"], name="flag_once_per_environment_tenant_and_route"),
                    models.CheckConstraint(
                        condition=Q(alpha_scale__isnull=True) | Q(alpha_scale__gte=0, alpha_scale__lte=10),
                        name="flag_alpha_scale_is_between_0_and_10",
                    ),
                    models.CheckConstraint(
                        condition=Q(rollout__isnull=True) | Q(rollout__gte=0, rollout__lte=100), name="flag_rollout_is_a_share"
                    ),
                    models.CheckConstraint(
                        condition=Q(override_max__isnull=True, override_min__isnull=True)
                        | (
                            Q(override_max__isnull=False, override_min__isnull=False)
                            & Q(override_max__gte=F("override_min"), override_max__lte=1000, override_min__gte=-1000)
                        ),
                        name="flag_override_is_a_range",
                    ),
                    models.CheckConstraint(
                        condition=Q(inherits__contained_by=["revision", "alpha_scale", "rollout", "arms", "override"]),
                        name="flag_inherits_fields_that_exist",
                    ),
                    models.CheckConstraint(condition=Q(inherits=[]) | ~Q(route=""), name="flag_of_a_tenant_inherits_nothing"),
                    models.CheckConstraint(
                        condition=Q(inherits__contains=["revision"], revision__isnull=True)
                        | (~Q(inherits__contains=["revision"]) & ~Q(revision__isnull=True)),
                        name="flag_states_or_inherits_revision",
                    ),
                    models.CheckConstraint(
                        condition=(Q(inherits__contains=["alpha_scale"]) & Q(alpha_scale__isnull=True))
                        | (~Q(inherits__contains=["alpha_scale"]) & ~Q(alpha_scale__isnull=True)),
                        name="flag_states_or_inherits_alpha_scale",
                    ),
                    models.CheckConstraint(
                        condition=Q(inherits__contains=["rollout"], rollout__isnull=True)
                        | (~Q(inherits__contains=["rollout"]) & ~Q(rollout__isnull=True)),
                        name="flag_states_or_inherits_rollout",
                    ),
                    models.CheckConstraint(
                        condition=~Q(inherits__contains=["override"]) | Q(override_min__isnull=True),
                        name="flag_that_inherits_its_override_states_none",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "FlagArm",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("flag", models.ForeignKey("registry.TenantFlag", models.CASCADE, related_name="arms")),
                ("position", models.PositiveSmallIntegerField()),
                ("name", models.CharField(max_length=50)),
                ("weight", models.PositiveSmallIntegerField()),
                ("revision", models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, blank=True, related_name="+")),
                ("alpha_scale", models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)),
            ],
            options={
                "ordering": ["flag", "position"],
                "constraints": [
                    models.UniqueConstraint(fields=["flag", "position"], name="arm_position_is_unique"),
                    models.UniqueConstraint(fields=["flag", "name"], name="arm_name_is_unique"),
                    models.CheckConstraint(condition=Q(position__lt=10), name="arm_is_one_of_ten"),
                    models.CheckConstraint(condition=~Q(name=""), name="arm_has_a_name"),
                    models.CheckConstraint(condition=Q(weight__gte=1, weight__lte=1000), name="arm_weight_is_between_1_and_1000"),
                    models.CheckConstraint(
                        condition=Q(alpha_scale__isnull=True) | Q(alpha_scale__gte=0, alpha_scale__lte=10),
                        name="arm_alpha_scale_is_between_0_and_10",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Kill",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        max_length=11,
                        choices=[
                            ("profile", "Profile"),
                            ("tenant", "Tenant"),
                            ("environment", "Environment"),
                            ("everything", "Everything"),
                        ],
                    ),
                ),
                ("profile", models.ForeignKey("registry.Profile", models.PROTECT, null=True, blank=True, related_name="kills")),
                ("tenant", models.ForeignKey("registry.Tenant", models.PROTECT, null=True, blank=True, related_name="kills")),
                ("environment", models.ForeignKey("registry.Environment", models.PROTECT, null=True, blank=True, related_name="kills")),
                ("reason", models.TextField(max_length=2000)),
                ("engaged_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("engaged_at", models.DateTimeField(db_default=Now())),
                ("lift_requested_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")),
                ("lifted_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")),
                ("lifted_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-engaged_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(kind="profile", profile__isnull=False, tenant__isnull=True)
                        | Q(kind="tenant", profile__isnull=True, tenant__isnull=False)
                        | Q(environment__isnull=False, kind="environment", profile__isnull=True, tenant__isnull=True)
                        | Q(environment__isnull=True, kind="everything", profile__isnull=True, tenant__isnull=True),
                        name="kill_names_exactly_its_target",
                    ),
                    models.CheckConstraint(
                        condition=Q(lifted_at__isnull=True, lifted_by__isnull=True)
                        | (
                            Q(lift_requested_by__isnull=False, lifted_at__isnull=False, lifted_by__isnull=False)
                            & ~Q(lifted_by=F("lift_requested_by"))
                        ),
                        name="kill_is_lifted_by_two_people",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Freeze",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("environment", models.ForeignKey("registry.Environment", models.PROTECT, related_name="freezes")),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("reason", models.TextField(max_length=2000)),
                ("declared_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("declared_at", models.DateTimeField(db_default=Now())),
                ("ended_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")),
                ("ended_at", models.DateTimeField(null=True)),
                ("ended_reason", models.TextField(max_length=2000, blank=True, default="")),
            ],
            options={
                "ordering": ["-starts_at"],
                "constraints": [
                    models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="freeze_ends_after_it_starts"),
                    models.CheckConstraint(
                        condition=Q(ended_at__isnull=True, ended_by__isnull=True, ended_reason="")
                        | (Q(ended_at__isnull=False, ended_by__isnull=False) & ~Q(ended_reason="")),
                        name="freeze_that_was_ended_says_by_whom_and_why",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Snapshot",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("environment", models.ForeignKey("registry.Environment", models.PROTECT, related_name="snapshots")),
                ("revision", models.PositiveBigIntegerField()),
                ("content_digest", models.CharField(max_length=64)),
                ("rollback_of", models.PositiveBigIntegerField(null=True)),
                ("payload_zlib", models.BinaryField()),
                ("signatures", models.JSONField()),
                ("etag", models.CharField(max_length=100)),
                ("cause", models.CharField(max_length=50)),
                ("issued_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["environment", "-revision"],
                "indexes": [models.Index(fields=["environment", "content_digest"], name="snapshot_by_content")],
                "constraints": [
                    models.UniqueConstraint(fields=["environment", "revision"], name="snapshot_revision_is_unique"),
                    models.CheckConstraint(condition=Q(revision__gte=1), name="snapshot_revision_starts_at_one"),
                    models.CheckConstraint(
                        condition=Q(rollback_of__isnull=True) | Q(rollback_of__lt=F("revision")), name="snapshot_undoes_an_earlier_revision"
                    ),
                    models.CheckConstraint(condition=Q(expires_at__gt=F("issued_at")), name="snapshot_expires_after_it_is_issued"),
                ],
            },
        ),
        migrations.CreateModel(
            "ServingNode",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("name", models.SlugField(max_length=100, unique=True)),
                ("environment", models.ForeignKey("registry.Environment", models.PROTECT, related_name="nodes")),
                ("token_prefix", models.CharField(max_length=12)),
                ("token_sha256", models.CharField(max_length=64, unique=True)),
                ("is_active", models.BooleanField(default=True)),
                ("enrolled_at", models.DateTimeField(db_default=Now())),
                ("last_seen_at", models.DateTimeField(null=True)),
                (
                    "last_result",
                    models.CharField(
                        max_length=7,
                        choices=[("ACK", "Ack"), ("NACK", "Nack"), ("STALE", "Stale"), ("PENDING", "Pending")],
                        blank=True,
                        default="",
                    ),
                ),
                ("last_code", models.CharField(max_length=50, blank=True, default="")),
                ("applied_revision", models.PositiveBigIntegerField(null=True)),
                ("engine", models.CharField(max_length=100, blank=True, default="")),
                ("fingerprint", models.CharField(max_length=64, blank=True, default="")),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.CreateModel(
            "NodeReport",
            [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, verbose_name="ID", serialize=False)),
                ("node", models.ForeignKey("registry.ServingNode", models.PROTECT, related_name="reports")),
                (
                    "result",
                    models.CharField(max_length=7, choices=[("ACK", "Ack"), ("NACK", "Nack"), ("STALE", "Stale"), ("PENDING", "Pending")]),
                ),
                ("code", models.CharField(max_length=50, blank=True, default="")),
                ("message", models.TextField(blank=True, default="")),
                ("revision", models.PositiveBigIntegerField(null=True)),
                ("slots", models.JSONField(default=list)),
                ("counters", models.JSONField(default=dict)),
                ("received_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["-received_at"],
                "constraints": [
                    models.CheckConstraint(condition=Q(result__in=["ACK", "NACK", "STALE", "PENDING"]), name="node_report_result_is_known"),
                    models.CheckConstraint(
                        condition=(Q(result="NACK") & ~Q(code="")) | ~Q(result="NACK"), name="node_report_nack_has_a_code"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "Notification",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("person", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="notifications")),
                ("text", models.TextField(max_length=2000)),
                ("object_type", models.CharField(max_length=50)),
                ("object_id", models.CharField(max_length=100)),
                ("object_name", models.CharField(max_length=300)),
                ("created_at", models.DateTimeField(db_default=Now())),
                ("read_at", models.DateTimeField(null=True)),
                ("mailed_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-created_at"],
                "indexes": [
                    models.Index(fields=["person", "-created_at"], name="notification_by_person"),
                    models.Index(fields=["person"], condition=Q(read_at__isnull=True), name="notification_unread"),
                ],
                "constraints": [models.CheckConstraint(condition=~Q(text=""), name="notification_says_something")],
            },
        ),
        migrations.CreateModel(
            "AppliedPlan",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("digest", models.CharField(max_length=64)),
                ("applied_by", models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")),
                ("applied_at", models.DateTimeField(db_default=Now())),
            ],
            options={"ordering": ["-applied_at"], "constraints": [models.UniqueConstraint(fields=["digest"], name="plan_is_applied_once")]},
        ),
        migrations.CreateModel(
            "Declaration",
            [
                ("id", models.UUIDField(primary_key=True, default=uuid4, editable=False, serialize=False)),
                ("kind", models.CharField(max_length=50)),
                ("name", models.CharField(max_length=300)),
                ("manager", models.CharField(max_length=100, blank=True, default="")),
                ("labels", models.JSONField(default=dict)),
                ("generation", models.PositiveIntegerField(default=1)),
                ("spec_digest", models.CharField(max_length=64, blank=True)),
                ("plan", models.ForeignKey("registry.AppliedPlan", models.PROTECT, related_name="declarations")),
            ],
            options={
                "ordering": ["kind", "name"],
                "constraints": [
                    models.UniqueConstraint(fields=["kind", "name"], name="declaration_once_per_object"),
                    models.CheckConstraint(condition=Q(generation__gte=1), name="declaration_generation_starts_at_one"),
                ],
            },
        ),
        migrations.CreateModel(
            "AuditEvent",
            [
                ("seq", models.BigIntegerField(primary_key=True, serialize=False)),
                ("event_id", models.UUIDField(unique=True)),
                ("body", models.BinaryField()),
                ("digest", models.CharField(max_length=64)),
                ("previous_digest", models.CharField(max_length=64)),
                ("occurred_at", models.DateTimeField()),
                ("action", models.CharField(max_length=50)),
                ("actor_type", models.CharField(max_length=20)),
                ("actor_name", models.CharField(max_length=150)),
                ("object_type", models.CharField(max_length=50)),
                ("object_id", models.CharField(max_length=100)),
                ("object_name", models.CharField(max_length=300)),
                ("object_version", models.PositiveBigIntegerField()),
                ("tenant", models.CharField(max_length=100, blank=True, default="")),
                ("environment", models.CharField(max_length=50, blank=True, default="")),
                ("base_model_fingerprint", models.CharField(max_length=64, blank=True, default="")),
            ],
            options={
                "ordering": ["seq"],
                "indexes": [
                    models.Index(fields=["action", "seq"], name="audit_by_action"),
                    models.Index(fields=["actor_name", "seq"], name="audit_by_actor"),
                    models.Index(fields=["object_type", "seq"], name="audit_by_type_of_object"),
                    models.Index(fields=["object_id", "seq"], name="audit_by_id_of_object"),
                    models.Index(fields=["object_name", "seq"], name="audit_by_name_of_object"),
                    models.Index(fields=["tenant", "seq"], name="audit_by_tenant"),
                    models.Index(fields=["environment", "seq"], name="audit_by_environment"),
                    models.Index(fields=["occurred_at", "seq"], name="audit_by_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=["digest"], name="audit_digest_is_unique"),
                    models.UniqueConstraint(fields=["previous_digest"], name="audit_previous_digest_is_unique"),
                    models.UniqueConstraint(fields=["object_type", "object_id", "object_version"], name="audit_object_version_is_unique"),
                ],
            },
        ),
    ]
