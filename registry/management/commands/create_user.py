"""manage.py create_user NAME --role author ...: a person, and optionally an API token."""

import getpass
import os
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from registry.management.record import RecordCommand
from registry.models import Role
from registry.services.people import create_user, issue_token
from steernode.errors import SteerError


class Command(RecordCommand):
    help = "Create a person with roles. The password is read from STEERHUB_PASSWORD or asked for, never given as an argument."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", action="append", choices=Role.values, default=[], help="give it once for each role")
        parser.add_argument("--email", default="")
        parser.add_argument("--token", metavar="NAME", help="also issue an API token of this name and print its secret")

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("STEERHUB_PASSWORD") or getpass.getpass("Password: ")
        try:
            validate_password(password)
            user = create_user(options["username"], roles=options["role"], actor="command line", password=password, email=options["email"])
            self.stdout.write(f"created {user} with roles {', '.join(sorted(options['role'])) or 'none'}")
            if options["token"]:
                _, secret = issue_token(user, name=options["token"], actor="command line")
                self.stdout.write(secret)
        except (SteerError, ValidationError) as error:
            raise CommandError(str(error)) from error
