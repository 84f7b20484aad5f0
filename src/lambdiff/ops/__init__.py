"""Looks after one deployment: status, cost, diagnosis, warm-up, key rotation.

Never imports `bench` or `cli`, and changes no resource except the key that `rotate` replaces.
"""
