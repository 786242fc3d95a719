"""The endpoints, one file per noun. A view permits, parses, calls one service and renders."""
