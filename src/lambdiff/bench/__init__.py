"""Measures an endpoint, and then restores any setting that it changed.

Never imports `cli`.
"""
