"""Measures an endpoint, and restores whatever it changed to measure it.

Never imports `cli`.
"""
