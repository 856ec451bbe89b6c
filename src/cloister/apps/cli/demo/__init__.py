"""The demo: a relay and three members as processes of their own, and a report of what each of them knows."""
