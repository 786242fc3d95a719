"""Prepares the profiles of a snapshot on one engine: gets their vectors, checks each, and sets aside the profiles that it cannot serve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from steernode.canonical import sha256_hex
from steernode.errors import HubError, SnapshotRefused, SteerError, VectorFileError
from steernode.files.vectors import VectorFile, read_vector
from steernode.node.deciding import Unservable
from steernode.node.engines import Stages
from steernode.node.store import NodeStore
from steernode.snapshot.conditions import profile_vectors
from steernode.snapshot.records import Profile, Snapshot, VectorEntry

log = logging.getLogger("steernode.node")

# What another attempt may put right; the bytes under a digest never change, and neither does what an engine makes of them.
_PASSING = ("BLOB_MISSING", "BLOB_DIGEST")


class Blobs(Protocol):
    """Where vectors are fetched from; `hub.client.FleetClient` is the real one."""

    def blob(self, sha256: str) -> bytes: ...


def stage_profiles(
    snapshot: Snapshot, *, engine: Stages, vectors: Vectors, find_problem: Callable[[Profile], SteerError | None]
) -> tuple[Any, dict[tuple[str, int], Unservable]]:
    """What the engine prepared of a snapshot, and the profiles for its own files that cannot be served, each for a reason of its own.

    Raises: whatever the engine raises although none of the profiles alone is the reason.
    """
    unservable: dict[tuple[str, int], Unservable] = {}
    ready: list[tuple[Profile, Mapping[str, VectorFile]]] = []

    def set_aside(profile: Profile, error: Exception) -> None:
        code, message = (error.code, error.message) if isinstance(error, SteerError) else ("INTERNAL", f"{type(error).__name__}: {error}")
        log.error("profile %s r%d cannot be served: %s: %s", profile.id, profile.revision, code, message)
        unservable[profile.id, profile.revision] = Unservable(profile.id, profile.revision, code, message)

    for profile in snapshot.profiles:
        if not profile.is_for(engine.fingerprint):
            continue
        if problem := find_problem(profile):
            set_aside(profile, problem)
            continue
        try:
            ready.append((profile, vectors.of(profile)))
        except SnapshotRefused as error:
            set_aside(profile, error)
    try:
        return _stage(engine, ready), unservable
    except Exception:
        # Which of them it is, only the engine knows. Staging changes nothing that is in use, so each may be tried alone.
        servable = []
        for profile, files in ready:
            try:
                engine.stage([profile], files)
            except Exception as error:  # An engine may fail in ways nobody foresaw.
                set_aside(profile, error)
            else:
                servable.append((profile, files))
        if len(servable) == len(ready):
            raise
        return _stage(engine, servable), unservable


def _stage(engine: Stages, ready: Sequence[tuple[Profile, Mapping[str, VectorFile]]]) -> Any:
    return engine.stage([profile for profile, _ in ready], {digest: file for _, files in ready for digest, file in files.items()})


class Vectors:
    """The vector files of one round of staging: from the disk, or else from the hub, each read and checked once."""

    def __init__(self, store: NodeStore, hub: Blobs, d_model: int) -> None:
        self._store, self._hub, self._d_model = store, hub, d_model
        self._read: dict[str, VectorFile] = {}
        self._unreachable: HubError | None = None

    def of(self, profile: Profile) -> dict[str, VectorFile]:
        """By digest, all that the profile needs. Raises: SnapshotRefused BLOB_MISSING, BLOB_DIGEST, BLOB_INVALID."""
        return {entry.sha256: self._get(entry, profile) for entry in profile_vectors(profile)}

    def can_mend(self, unservable: Mapping[tuple[str, int], Unservable], snapshot: Snapshot) -> bool:
        """Whether what was missing for one of these is there by now."""
        for profile in snapshot.profiles:
            failed = unservable.get((profile.id, profile.revision))
            if failed is None or failed.code not in _PASSING:
                continue
            try:
                self.of(profile)
            except SteerError:
                continue
            return True
        return False

    def _get(self, entry: VectorEntry, profile: Profile) -> VectorFile:
        if entry.sha256 not in self._read:
            self._read[entry.sha256] = self._find(entry, profile)
        vector = self._read[entry.sha256]
        described = (vector.dtype, vector.direction.shape, vector.lineage["base_model_fingerprint"])
        if described != (entry.dtype, entry.shape, profile.base_model):
            raise SnapshotRefused(
                "BLOB_INVALID",
                f"vector {entry.sha256[:12]} of {profile.id!r} is not the dtype, shape or base model that was approved",
                entry.sha256,
            )
        return vector

    def _find(self, entry: VectorEntry, profile: Profile) -> VectorFile:
        data = self._store.read_blob(entry.sha256)
        if data is None:
            data = self._fetch(entry)
            self._store.write_blob(entry.sha256, data)
        try:
            return read_vector(data, d_model=self._d_model)
        except VectorFileError as error:
            raise SnapshotRefused(
                "BLOB_INVALID", f"vector {entry.sha256[:12]} of {profile.id!r}: {error.code}: {error.message}", entry.sha256
            ) from error

    def _fetch(self, entry: VectorEntry) -> bytes:
        try:
            if self._unreachable is not None:
                # Who waits for each of many vectors in vain hears nothing of the hub meanwhile.
                raise self._unreachable
            data = self._hub.blob(entry.sha256)
        except HubError as error:
            if error.status is None:
                self._unreachable = error
            raise SnapshotRefused("BLOB_MISSING", f"vector {entry.sha256[:12]} cannot be fetched: {error.message}", entry.sha256) from error
        if len(data) != entry.bytes or sha256_hex(data) != entry.sha256:
            raise SnapshotRefused(
                "BLOB_DIGEST", f"vector {entry.sha256[:12]} arrived with other bytes ({len(data)} of {entry.bytes})", entry.sha256
            )
        return data
