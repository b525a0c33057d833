"""Choose quant, context and memory exactly, and say why each alternative lost."""
