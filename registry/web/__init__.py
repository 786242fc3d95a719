"""The HTTP edge that the API, the console and the fleet application share."""
