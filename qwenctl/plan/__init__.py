"""Which quant, context and memory: the exact choice, and why each alternative lost."""
