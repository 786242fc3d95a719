"""Lists come in numbered pages: ?page=2&size=100."""

from rest_framework.pagination import PageNumberPagination


class Pages(PageNumberPagination):
    """{"count", "next", "previous", "results"}; 50 a page unless `size` asks for up to 500."""

    page_size = 50
    page_size_query_param = "size"
    max_page_size = 500
