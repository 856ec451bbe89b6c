"""Cloister: self-hosted end-to-end encrypted group messaging.

The relay carries, orders, keeps and signs messages that it cannot read; clients hold every key.
"""

__version__ = "0.1.0"
