"""Invocations of endpoints."""
