"""How bodies are read: JSON that two parsers cannot read differently, and raw bytes for uploads."""

from typing import IO, Any

from django.conf import settings
from rest_framework.parsers import BaseParser

from registry.errors import InvalidInput
from registry.manifests.documents import MAX_DOCUMENTS_BYTES
from registry.web.bodies import parse_body

MAX_JSON_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 16


class StrictJSONParser(BaseParser):
    """Refuses duplicate keys, NaN, integers past 64 bits, NUL characters, and what is too deep or too large."""

    media_type = "application/json"
    max_bytes = MAX_JSON_BYTES

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_body(stream.read(self.max_bytes + 1), max_bytes=self.max_bytes, max_depth=MAX_JSON_DEPTH)


class ManifestParser(StrictJSONParser):
    """As much as an export may hold, with what is said beside its documents."""

    max_bytes = MAX_DOCUMENTS_BYTES + MAX_JSON_BYTES


class RawParser(BaseParser):
    """An upload as the bytes it is."""

    media_type = "application/octet-stream"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise InvalidInput("UPLOAD_TOO_LARGE", f"the upload is larger than {limit} bytes, the most this hub reads", str(limit))
        return data
