"""Where requests go: people to the console, programs to /api/v1, OpenFeature clients to /ofrep/v1.

/fleet/v1 never reaches Django (see asgi.py).
"""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from registry.api.views import ofrep

handler500 = "registry.web.failures.answer_failure"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("api/v1/", include("registry.api.urls")),
    path("ofrep/v1/evaluate/flags", ofrep.EvaluateFlagsView.as_view()),
    path("ofrep/v1/evaluate/flags/<str:key>", ofrep.EvaluateFlagView.as_view()),
    path("console/", include("registry.console.urls")),
    path("accounts/", include("registry.console.login_urls")),
    path("admin/", admin.site.urls),
]
