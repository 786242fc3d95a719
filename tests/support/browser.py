"""How people log in, in a real browser."""

PASSWORD = "steer-harbor-42"
