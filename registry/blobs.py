"""The content-addressed store: exact bytes, named by their sha256. A folder, or S3 through django-storages."""

from functools import lru_cache
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage
from django.utils.module_loading import import_string

from registry.errors import BlobMissing
from steernode.canonical import sha256_hex


@lru_cache
def _storage(url: str) -> Storage:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        storage_class = import_string("storages.backends.s3.S3Storage")
        storage: Storage = storage_class(bucket_name=parts.netloc, location=parts.path.lstrip("/"), file_overwrite=True)
        return storage
    return FileSystemStorage(location=unquote(parts.path), allow_overwrite=True)


def _path(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"


def put_blob(data: bytes) -> str:
    """Store the bytes and give their digest. Safe to repeat: the name is the content."""
    digest = sha256_hex(data)
    storage = _storage(settings.STEERHUB_BLOB_URL)
    if not has_blob(digest):
        storage.save(_path(digest), ContentFile(data))
    return digest


def has_blob(digest: str) -> bool:
    return _storage(settings.STEERHUB_BLOB_URL).exists(_path(digest))


def get_blob(digest: str) -> bytes:
    """The bytes of a digest, checked against it on every read.

    Raises: BlobMissing BLOB_MISSING or BLOB_CORRUPT.
    """
    storage = _storage(settings.STEERHUB_BLOB_URL)
    try:
        with storage.open(_path(digest), "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise BlobMissing("BLOB_MISSING", f"no blob {digest} in the store; upload it again", digest) from error
    if sha256_hex(data) != digest:
        raise BlobMissing("BLOB_CORRUPT", f"the stored bytes of blob {digest} have another digest; restore them from a backup", digest)
    return bytes(data)
