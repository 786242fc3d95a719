"""The pages for getting in, below /accounts/. Those of allauth that need a mail server are left out: nobody resets a password here."""

from allauth.account import views
from django.urls import include, path

from registry.console.login import end_single_sign_on, start_single_sign_on

urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
    path("password/", views.password_change, name="account_change_password"),
    # Closed; the login page of allauth asks for its address.
    path("signup/", views.signup, name="account_signup"),
    path("2fa/", include("allauth.mfa.urls")),
    path("3rdparty/", include("allauth.socialaccount.urls")),
    path("sso/<slug:provider_id>/", start_single_sign_on, name="openid_connect_login"),
    path("sso/<slug:provider_id>/callback/", end_single_sign_on, name="openid_connect_callback"),
]
