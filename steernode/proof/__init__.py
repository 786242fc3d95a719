"""The audit log outside the hub: the form of an event and of an export, and their verification."""
