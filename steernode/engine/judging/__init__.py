"""Judging: dose-response, controls and the evidence document that an approval names."""
