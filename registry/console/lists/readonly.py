"""What every list of the record is: readable by those who may log in, changed by nobody."""

from collections.abc import Callable, Iterable
from typing import Any, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from registry.console.pages import Request, roles_of
from registry.reads.visibility import is_limited

# Two hundred pages.
COUNTED = 10_000


def link_to(view: str, key: Any, text: Any) -> SafeString:
    return format_html('<a class="sh-link" href="{}">{}</a>', reverse(view, args=[key]), text)


def column(name: str, description: str, write: Any) -> Any:
    """A column that writes one attribute with a filter, sortable by it."""

    @display(description=description, ordering=name)
    def write_column(_self: ModelAdmin, record: models.Model) -> Any:
        value: Any = record
        for part in name.split("__"):
            value = getattr(value, part, None)
        return write(value)

    return write_column


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # Django's own takes no argument at run time.
    """Counts no further than anybody pages by hand; what lies deeper is found by a filter or a search."""

    @cached_property
    def count(self) -> int:
        return cast("models.QuerySet[Any]", self.object_list).order_by()[:COUNTED].count()


def one_of(parameter: str, title: str, values: Callable[[], Iterable[str]]) -> type[admin.SimpleListFilter]:
    """A filter that offers these values. Asking a table of millions which of them it holds would read all of it."""

    class OneOf(admin.SimpleListFilter):
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, value) for value in values()]

        def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
            return queryset if self.value() is None else queryset.filter(**{parameter: self.value()})

    OneOf.title = title
    return OneOf


class ReadOnlyList(ModelAdmin):
    """A list that everyone who may log in can read and nobody can change."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = False
    actions = None
    readers: Iterable[str] = ()

    class Media:
        css = {"all": ["registry/console.css"]}

    def changelist_view(self, request: Request, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "may": roles_of(request)})

    def has_module_permission(self, request: Request) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: Request, obj: Any = None) -> bool:
        if is_limited(request.user):
            return False
        return request.user.is_staff and (not self.readers or request.user.has_role(*self.readers))

    def has_add_permission(self, request: Request) -> bool:
        return False

    def has_change_permission(self, request: Request, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Request, obj: Any = None) -> bool:
        return False
