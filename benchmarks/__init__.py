"""Speed of the bus, measured beside a hand-written redis-py loop in the same run. Never imported by tests."""
