"""Operates one deployment: status, cost, diagnosis, warm-up, key rotation.

Changes no resource except the key that `rotate` replaces. Never imports `bench` or `cli`.
"""
