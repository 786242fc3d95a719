"""Django looks for model admins here; they live with the rest of the console."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin

from registry.console import lists  # noqa: F401  (importing registers them)

# The admin's own login form knows no second factor; there is one way in.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # as allauth says to
