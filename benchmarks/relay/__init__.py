"""The relay's speed beside a bare corked durable echo (see benchmarks/README.md)."""
